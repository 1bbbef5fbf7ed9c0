package diskimage

import (
	"errors"
	"fmt"
	"io"
)

// Disk is a sparse, random-access virtual disk. All methods may be called by
// several goroutines at once. It is not changed while it is being read.
type Disk interface {
	// ReadAt reads guest bytes; holes read as zeros. At the end of the disk
	// it returns io.EOF as io.ReaderAt asks.
	io.ReaderAt

	// Size is the guest-visible size in bytes.
	Size() int64

	// NextData returns the first run [start, end) that may hold non-zero
	// bytes at or after off. Whatever lies between off and start reads as
	// zeros. A run may be a part of a longer one. When no data is left,
	// start and end are both Size.
	NextData(off int64) (start, end int64, err error)
}

// ErrCorrupt is matched by errors about an image that contradicts its format.
var ErrCorrupt = errors.New("corrupt image")

// ErrUnsupported is matched by errors about a well-formed image that uses
// something this package does not read.
var ErrUnsupported = errors.New("unsupported image")

// imageError is a complete message that is also one of the kinds above.
type imageError struct {
	kind error
	text string
}

func (e *imageError) Error() string        { return e.text }
func (e *imageError) Is(target error) bool { return target == e.kind }

func corruptf(format string, args ...any) error {
	return &imageError{ErrCorrupt, fmt.Sprintf(format, args...)}
}

func unsupportedf(format string, args ...any) error {
	return &imageError{ErrUnsupported, fmt.Sprintf(format, args...)}
}

// readFull reads exactly len(p) bytes at off.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// readRuns is the ReadAt of a disk of the given size: run fills the front of what
// it gets, which lies within the disk, and tells how much.
func readRuns(p []byte, off, size int64, run func(p []byte, off int64) (int, error)) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("reading at the negative offset %d", off)
	}
	n := 0
	for n < len(p) && off < size {
		did, err := run(p[n:min(int64(len(p)), int64(n)+size-off)], off)
		n += did
		off += int64(did)
		if err != nil {
			return n, err
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
