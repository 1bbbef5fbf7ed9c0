package zfs

import (
	"fmt"
	"io"
	"io/fs"
	"math"
	"sync"
)

// File is an open regular file. ReadAt may be used concurrently.
type File struct {
	*io.SectionReader
	body *fileBody
	info fileInfo
}

// Stat implements [fs.File].
func (f *File) Stat() (fs.FileInfo, error) { return &f.info, nil }

// Close implements [fs.File]; there is nothing to release.
func (f *File) Close() error { return nil }

// NextData finds the data at off or behind: it goes from start to end. What is
// stored nowhere is a hole, and reads as zeros. The error is [io.EOF] when only
// a hole is left.
func (f *File) NextData(off int64) (start, end int64, err error) {
	start, end, err = f.body.nextData(off)
	if err != nil && err != io.EOF {
		err = &fs.PathError{Op: "seeking data in", Path: f.body.name, Err: err}
	}
	return start, end, err
}

// fileBody is the content of a file. It keeps the block it used last.
type fileBody struct {
	ob   *readObject
	name string
	size int64

	mu   sync.Mutex
	last []byte
	at   uint64 // the number of last
}

// ReadAt reads within the file's size; the caller sees to that.
func (b *fileBody) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		n, err := b.readSome(p[done:], off+int64(done))
		if err != nil {
			return done, &fs.PathError{Op: "read", Path: b.name, Err: err}
		}
		done += n
	}
	return done, nil
}

// readSome reads what one look into the tree gives: of a block, or of a hole.
func (b *fileBody) readSome(p []byte, off int64) (int, error) {
	bs := int64(b.ob.dn.BlockSize)
	n, skip := uint64(off/bs), off%bs
	s, err := b.ob.find(n)
	if err != nil {
		return 0, err
	}
	if s.hole {
		count := int(min(int64(len(p)), clampMul(s.run, bs)-skip))
		clear(p[:count])
		return count, nil
	}
	data, err := b.block(n, s)
	if err != nil {
		return 0, err
	}
	return copy(p, data[skip:]), nil
}

// clampMul multiplies a count of blocks, as far as a size goes.
func clampMul(blocks uint64, size int64) int64 {
	if blocks > uint64(math.MaxInt64/size) {
		return math.MaxInt64
	}
	return int64(blocks) * size
}

func (b *fileBody) block(n uint64, s blockSpan) ([]byte, error) {
	b.mu.Lock()
	last, at := b.last, b.at
	b.mu.Unlock()
	if last != nil && at == n {
		return last, nil
	}
	data, err := b.ob.set.dev.read(s.bp)
	if err != nil {
		return nil, b.ob.at(0, n).wrap(s.bp, err)
	}
	if len(data) != b.ob.dn.BlockSize {
		return nil, b.ob.at(0, n).wrap(s.bp, fmt.Errorf("%d bytes: want %d", len(data), b.ob.dn.BlockSize))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last, b.at = data, n
	return data, nil
}

func (b *fileBody) nextData(off int64) (start, end int64, err error) {
	bs := int64(b.ob.dn.BlockSize)
	start = -1
	for at := max(0, off); at < b.size; {
		s, err := b.ob.find(uint64(at / bs))
		if err != nil {
			return 0, 0, err
		}
		next := b.size
		if run := clampMul(s.run, bs); run < b.size-at/bs*bs {
			next = at/bs*bs + run
		}
		if s.hole && start >= 0 {
			return start, at, nil
		}
		if !s.hole && start < 0 {
			start = at
		}
		at = next
	}
	if start < 0 {
		return 0, 0, io.EOF
	}
	return start, b.size, nil
}
