package diskimage

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// RawDisk is a raw image: a file or block device whose bytes are the disk's.
type RawDisk struct {
	f    *os.File
	size int64
	// sparse tells that the file system answers SEEK_DATA; block devices and
	// some file systems do not, and are read whole.
	sparse bool
}

// OpenRaw takes f as a raw disk of the file's or device's size. The disk owns
// f and moves its file offset; reads do not depend on it.
func OpenRaw(f *os.File) (*RawDisk, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("finding the size of %q: %w", f.Name(), err)
	}
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return &RawDisk{f: f, size: size, sparse: canSeekData && st.Mode().IsRegular()}, nil
}

// ReadAt implements Disk.
func (d *RawDisk) ReadAt(p []byte, off int64) (int, error) { return d.f.ReadAt(p, off) }

// Size implements Disk.
func (d *RawDisk) Size() int64 { return d.size }

// Info implements Image.
func (d *RawDisk) Info() Info { return Info{Format: Raw, VirtualSize: d.size} }

// Close closes the file.
func (d *RawDisk) Close() error { return d.f.Close() }

// NextData implements Disk with SEEK_DATA and SEEK_HOLE (lseek(2)).
func (d *RawDisk) NextData(off int64) (start, end int64, err error) {
	if off >= d.size {
		return d.size, d.size, nil
	}
	if !d.sparse {
		return off, d.size, nil
	}
	start, err = d.f.Seek(off, seekData)
	switch {
	case errors.Is(err, syscall.ENXIO): // no data up to the end
		return d.size, d.size, nil
	case errors.Is(err, syscall.EINVAL): // not supported here: all is data
		return off, d.size, nil
	case err != nil:
		return 0, 0, fmt.Errorf("seeking data at offset %#x of %q: %w", off, d.f.Name(), err)
	}
	end, err = d.f.Seek(start, seekHole)
	if err != nil {
		return 0, 0, fmt.Errorf("seeking a hole at offset %#x of %q: %w", start, d.f.Name(), err)
	}
	return min(start, d.size), min(end, d.size), nil
}
