package diskimage

// Values of lseek(2).
const (
	canSeekData = true
	seekData    = 3
	seekHole    = 4
)
