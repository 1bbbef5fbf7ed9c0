package diskimage

import (
	"os"
	"syscall"
)

// Values of lseek(2).
const (
	canSeekData = true
	seekData    = 3
	seekHole    = 4
)

// allocated is what a file takes on its file system, in bytes (stat(2)).
func allocated(st os.FileInfo) int64 {
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		return sys.Blocks * 512
	}
	return st.Size()
}
