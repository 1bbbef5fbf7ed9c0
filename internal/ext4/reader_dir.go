package ext4

import (
	"errors"
	"fmt"
	"strings"
)

const (
	maxDirSize    = 1 << 30
	cachedEntries = 1 << 18
)

// listing is a directory as read: its names without "." and "..".
type listing struct {
	parent  uint32
	entries []dirent
	names   map[string]int32
}

// dirCache keeps listings until they hold too many entries in sum.
type dirCache struct {
	byIno   map[uint32]*listing
	entries int
}

// list reads a directory, or takes it from the cache.
func (f *FS) list(in *diskInode) (*listing, error) {
	f.mu.Lock()
	l := f.dirs.byIno[in.Ino]
	f.mu.Unlock()
	if l != nil {
		return l, nil
	}
	l, err := f.readDir(in)
	if err != nil {
		return nil, fmt.Errorf("directory inode %d: %w", in.Ino, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dirs.entries += len(l.entries) + 8; f.dirs.byIno == nil || f.dirs.entries > cachedEntries {
		f.dirs = dirCache{byIno: map[uint32]*listing{}, entries: len(l.entries)}
	}
	f.dirs.byIno[in.Ino] = l
	return l, nil
}

// readDir goes through all blocks in order: in a hash tree, root and nodes look
// like unused entries.
func (f *FS) readDir(in *diskInode) (*listing, error) {
	if err := in.readable(); err != nil {
		return nil, err
	}
	if in.Size > min(maxDirSize, f.Size()) || in.Size%f.blockSize != 0 || in.Size == 0 {
		return nil, fmt.Errorf("size %d is none of a directory", in.Size)
	}
	l := &listing{names: map[string]int32{}}
	m := &extentMap{fs: f, in: in}
	children := map[uint32]bool{} // directories; one name each
	b := make([]byte, f.blockSize)
	for n := range in.Size / f.blockSize {
		disk, _, err := m.find(n)
		if err != nil {
			return nil, err
		}
		if disk == 0 {
			return nil, fmt.Errorf("block %d is a hole", n)
		}
		if err := f.readAt(b, disk*f.blockSize); err != nil {
			return nil, err
		}
		if f.checksums {
			err = f.checkDirBlock(in, n, b)
		}
		if err == nil {
			err = f.parseDirBlock(l, b, children)
		}
		if err != nil {
			return nil, fmt.Errorf("block %d at %d: %w", n, disk*f.blockSize, err)
		}
	}
	if l.parent == 0 {
		return nil, errors.New(`no entry ".."`)
	}
	return l, nil
}

func (f *FS) parseDirBlock(l *listing, b []byte, children map[uint32]bool) error {
	for at := 0; at < len(b); {
		left := len(b) - at
		if left < direntHead {
			return fmt.Errorf("entry at %d: %d bytes left", at, left)
		}
		e := b[at:]
		ino, size, n := le.Uint32(e), direntLen(e, len(b)), int(e[6])
		if size < direntHead || size%4 != 0 || size > left || n > size-direntHead {
			return fmt.Errorf("entry at %d: %d bytes for a name of %d, %d left", at, size, n, left)
		}
		at += size
		if ino == 0 {
			continue
		}
		if ino > f.inodes {
			return fmt.Errorf("entry at %d: inode %d of %d", at-size, ino, f.inodes)
		}
		if err := l.add(string(e[direntHead:direntHead+n]), ino, e[7], children); err != nil {
			return fmt.Errorf("entry at %d: %w", at-size, err)
		}
	}
	return nil
}

// direntLen decodes rec_len, which holds 64 KiB in a special form.
func direntLen(e []byte, blockSize int) int {
	n := int(le.Uint16(e[4:]))
	if blockSize < 1<<16 {
		return n
	}
	if n == 0 || n == 0xFFFF {
		return 1 << 16
	}
	return n&0xFFFC | n&3<<16
}

// add takes an entry. That no directory has two names here, and that ".." of each
// names the one it was reached from (see child), makes the whole a tree, so that
// a walk ends.
func (l *listing) add(name string, ino uint32, kind uint8, children map[uint32]bool) error {
	switch {
	case name == ".":
		return nil
	case name == "..":
		l.parent = ino
		return nil
	case name == "" || strings.ContainsAny(name, "/\x00"):
		return fmt.Errorf("name %q", name)
	}
	if _, dup := l.names[name]; dup {
		return fmt.Errorf("name %q is there twice", name)
	}
	if kind == direntTypes[modeDir>>12] {
		if children[ino] {
			return fmt.Errorf("directory inode %d has a second name %q", ino, name)
		}
		children[ino] = true
	}
	l.names[name] = int32(len(l.entries))
	l.entries = append(l.entries, dirent{name, ino, kind})
	return nil
}

// child reads the inode of an entry and holds it against the entry.
func (f *FS) child(dirIno uint32, e dirent) (*diskInode, error) {
	in, err := f.readInode(e.ino)
	if err != nil {
		return nil, err
	}
	if want := direntTypes[in.Mode&modeType>>12]; e.kind != want {
		return nil, fmt.Errorf("inode %d: directory entry says type %d, mode %#o is %d", e.ino, e.kind, in.Mode, want)
	}
	if in.Mode&modeType != modeDir || in.readable() != nil {
		return in, nil
	}
	l, err := f.list(in)
	if err != nil {
		return nil, err
	}
	if l.parent != dirIno || e.ino == inoRoot {
		return nil, fmt.Errorf("directory inode %d has parent %d, but is found in %d", e.ino, l.parent, dirIno)
	}
	return in, nil
}

// checkDirBlock verifies the checksum of a leaf, or of a root or node of a tree.
func (f *FS) checkDirBlock(in *diskInode, n int64, b []byte) error {
	seed := inodeSeed(f.seed, in.Ino, in.generation)
	tail := b[len(b)-dirTailSize:]
	// A root that the kernel made of a directory's only block still has the tail
	// of that, but for the checksum.
	isRoot := in.flags&flagIndex != 0 && n == 0
	if !isRoot && le.Uint32(tail) == 0 && le.Uint16(tail[4:]) == dirTailSize && tail[6] == 0 && tail[7] == dirTailType {
		return sameChecksum(le.Uint32(tail[8:]), crc32c(seed, b[:len(b)-dirTailSize]))
	}
	start := 0
	switch {
	case in.flags&flagIndex == 0:
	case isRoot:
		start = 24 + int(b[0x1D])
	case le.Uint32(b) == 0 && direntLen(b, len(b)) == len(b):
		start = dxNodeStart
	}
	if start == 0 {
		return errors.New("no checksum")
	}
	limit, count := int(le.Uint16(b[start:])), int(le.Uint16(b[start+2:]))
	if count > limit || start+limit*dxEntrySize+dxTailSize > len(b) {
		return fmt.Errorf("%d of %d index entries in %d bytes", count, limit, len(b))
	}
	return sameChecksum(le.Uint32(b[start+limit*dxEntrySize+4:]), dxChecksum(b, start, limit, count, seed))
}

func sameChecksum(want, got uint32) error {
	if got != want {
		return fmt.Errorf("checksum is %#x, computed %#x", want, got)
	}
	return nil
}
