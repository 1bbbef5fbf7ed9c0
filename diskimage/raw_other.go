//go:build !linux

package diskimage

// The numbers differ between systems; elsewhere a raw file is read whole and
// its zeros are found by looking at them.
const (
	canSeekData = false
	seekData    = 0
	seekHole    = 0
)
