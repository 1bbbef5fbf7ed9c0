package ext4

import (
	"fmt"
	"io/fs"
)

// minDirSlack is the least that is worth a look behind a name: less are the
// bytes that round an entry up.
const minDirSlack = 8

// Slack goes over the bytes that a file or directory occupies beyond its
// content: the rest of its last block, blocks that were preallocated, names that
// were removed from a directory. off and size are bytes of the volume. An error
// of yield ends it and is returned.
func (f *FS) Slack(name string, yield func(kind string, off, size int64) error) error {
	in, err := f.walk("finding the slack of", name)
	if err != nil {
		return err
	}
	if err := f.slackOf(in, yield); err != nil {
		return &fs.PathError{Op: "finding the slack of", Path: name, Err: err}
	}
	return nil
}

func (f *FS) slackOf(in *diskInode, yield func(kind string, off, size int64) error) error {
	if in.flags&flagExtents == 0 || in.readable() != nil {
		return nil // content in the inode, or none that is read
	}
	m := &extentMap{fs: f, in: in}
	if in.Mode&modeType == modeDir {
		return f.dirSlack(m, yield)
	}
	bs := f.blockSize
	return m.each(func(e mapped) error {
		start, end := int64(e.file)*bs, (int64(e.file)+int64(e.n))*bs
		at := e.disk * bs
		switch {
		case e.unwritten || start >= in.Size:
			return yield(Preallocated, at, end-start)
		case end <= in.Size:
			return nil
		}
		behind := ceilDiv(in.Size, bs) * bs // of the last block
		if behind > in.Size {
			if err := yield(FileTail, at+in.Size-start, behind-in.Size); err != nil {
				return err
			}
		}
		if end > behind {
			return yield(Preallocated, at+behind-start, end-behind)
		}
		return nil
	})
}

// dirSlack goes over what is behind the names of a directory's blocks.
func (f *FS) dirSlack(m *extentMap, yield func(kind string, off, size int64) error) error {
	b := make([]byte, f.blockSize)
	return m.each(func(e mapped) error {
		for n := range int64(e.n) {
			at := (e.disk + n) * f.blockSize
			if err := f.readAt(b, at); err != nil {
				return err
			}
			if err := blockSlack(b, func(from, to int) error {
				return yield(DirSlack, at+int64(from), int64(to-from))
			}); err != nil {
				return err
			}
		}
		return nil
	})
}

// blockSlack finds the unused bytes of a directory block; what is no list of
// entries is unused as a whole.
func blockSlack(b []byte, yield func(from, to int) error) error {
	for at := 0; at < len(b); {
		left := len(b) - at
		if left < direntHead {
			return nil
		}
		e := b[at:]
		size, used := direntLen(e, len(b)), direntHead
		if size < direntHead || size > left {
			return yield(at, len(b))
		}
		if le.Uint32(e) != 0 {
			used = min(direntHead+int(e[6]), size)
		}
		if size-used >= minDirSlack {
			if err := yield(at+used, at+size); err != nil {
				return err
			}
		}
		at += size
	}
	return nil
}

// each goes over all extents of a file, in order and also behind its end. More
// blocks than the file system has are an error.
func (m *extentMap) each(yield func(mapped) error) error {
	budget := m.fs.blocks
	tooMany := fmt.Errorf("extents of more blocks than the %d there are", budget)
	for logical := int64(0); logical < 1<<32; logical = m.to {
		if _, _, err := m.find(logical); err != nil {
			return err
		}
		if budget--; budget < 0 {
			return tooMany
		}
		for _, e := range m.leaf {
			if budget -= int64(e.n); budget < 0 {
				return tooMany
			}
			if err := yield(e); err != nil {
				return err
			}
		}
	}
	return nil
}
