package ext4

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

const (
	maxName    = 255
	maxSymlink = blockSize - 1
	maxFile    = 1<<32*blockSize - blockSize // 32-bit logical block numbers
)

// Header describes one file, as an entry for [Writer.Create] and as read by
// [FS.Lstat].
type Header struct {
	// Path is relative, separated by slashes and clean; "" or "." is the root.
	Path string
	// Mode is Linux's st_mode with the type bits.
	Mode     uint32
	UID, GID uint32
	// Size of the body; regular files only.
	Size int64
	// ModTime zero means Options.Epoch; the others zero mean ModTime.
	ModTime, AccessTime, ChangeTime time.Time
	// Major and Minor are of the device a node stands for.
	Major, Minor uint32
	// Linkname is the target of a symbolic link, 1 to 4095 bytes.
	Linkname string
	// Xattrs by full name ("security.capability", "user.x"); access control lists
	// in the form of the Linux system calls (version 2).
	Xattrs map[string][]byte
	// NoHoles keeps blocks of zeros allocated; swap files want that.
	NoHoles bool
}

// Create adds a file. Its parent must be there already; so parents come before
// children, and nothing else about the order matters except that it decides the
// layout. For a regular file body must give exactly h.Size bytes; for others it
// is not read and may be nil. An entry for the root or for "lost+found", which
// exist from the start, replaces their metadata.
func (w *Writer) Create(h Header, body io.Reader) error {
	if err := w.usable(); err != nil {
		return err
	}
	in, err := w.newInode(&h)
	if err != nil {
		return wrapPath(h.Path, err)
	}
	inInode, inBlock, err := prepareXattrs(h.Xattrs)
	if err != nil {
		return wrapPath(h.Path, err)
	}
	if h.Path == "" || h.Path == "." || h.Path == "lost+found" {
		return w.replaceDir(&h, in, inInode, inBlock)
	}
	parent, base, err := w.slot(h.Path)
	if err != nil {
		return wrapPath(h.Path, err)
	}
	if int64(w.nextIno) > w.geo.inodes() {
		return w.fail(h.Path, &NoSpaceError{h.Path, "inodes", 1, 0, w.geo.blocks * blockSize})
	}
	if err := w.store(&h, in, inInode, inBlock, body); err != nil {
		return w.fail(h.Path, err)
	}
	ino := w.nextIno
	kind := uint8(h.Mode & modeType >> 12)
	parent.add(base, ino, kind)
	if kind == modeDir>>12 {
		parent.subdirs++
		w.addDir(ino, parent.ino, strings.Clone(h.Path), in)
		in = &inode{} // its place; Close writes the real one
	}
	if err := w.appendInode(in); err != nil {
		return w.fail(h.Path, err)
	}
	return nil
}

func prepareXattrs(set map[string][]byte) (inInode, inBlock []xattr, err error) {
	if len(set) == 0 {
		return nil, nil, nil
	}
	list, err := newXattrs(set)
	if err != nil {
		return nil, nil, err
	}
	return splitXattrs(list)
}

// Link adds another name for an earlier file that is no directory.
func (w *Writer) Link(path, target string) error {
	if err := w.usable(); err != nil {
		return err
	}
	d, base, err := w.split(target)
	if err != nil {
		return fmt.Errorf("ext4: linking %q to %q: %w", path, target, err)
	}
	i, ok := d.names[base]
	if !ok {
		return fmt.Errorf("ext4: linking %q to %q: no such file yet", path, target)
	}
	e := d.entries[i]
	if e.kind == modeDir>>12 {
		return fmt.Errorf("ext4: linking %q to %q: is a directory", path, target)
	}
	parent, base, err := w.slot(path)
	if err != nil {
		return wrapPath(path, err)
	}
	links := max(w.relinks[e.ino], 1) + 1
	if links > maxLinks {
		return fmt.Errorf("ext4: linking %q to %q: more than %d links", path, target, maxLinks)
	}
	w.relinks[e.ino] = links
	parent.add(base, e.ino, e.kind)
	return nil
}

func (w *Writer) usable() error {
	if w.closed {
		return errors.New("ext4: writing to a closed writer")
	}
	return w.broken
}

// fail keeps an error that leaves the image half written.
func (w *Writer) fail(path string, err error) error {
	w.broken = wrapPath(path, err)
	return w.broken
}

func wrapPath(path string, err error) error {
	var full *NoSpaceError
	if errors.As(err, &full) {
		return err // says all this itself
	}
	return fmt.Errorf("ext4: writing %q: %w", path, err)
}

// slot finds where a new path goes and that it is free.
func (w *Writer) slot(path string) (*dir, string, error) {
	parent, base, err := w.split(path)
	if err != nil {
		return nil, "", err
	}
	if _, dup := parent.names[base]; dup {
		return nil, "", errors.New("path exists already")
	}
	return parent, strings.Clone(base), nil
}

// split finds the directory of a path.
func (w *Writer) split(path string) (parent *dir, base string, err error) {
	if err := checkPath(path); err != nil {
		return nil, "", err
	}
	where := ""
	base = path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		where, base = path[:i], path[i+1:]
	}
	d := w.byPath[where]
	if d == nil {
		return nil, "", fmt.Errorf("parent %q is not there (yet) or is no directory", where)
	}
	return d, base, nil
}

func checkPath(path string) error {
	if strings.IndexByte(path, 0) >= 0 {
		return errors.New("path holds a NUL")
	}
	for name := range strings.SplitSeq(path, "/") {
		switch {
		case name == "" || name == "." || name == "..":
			return fmt.Errorf("path has the element %q; want a clean relative path", name)
		case len(name) > maxName:
			return fmt.Errorf("name of %d bytes: ext4 allows %d", len(name), maxName)
		}
	}
	return nil
}

// newInode checks a header and takes over what needs no block.
func (w *Writer) newInode(h *Header) (*inode, error) {
	in := &inode{mode: uint16(h.Mode), uid: h.UID, gid: h.GID, links: 1, crtime: w.epoch}
	if h.Mode > 0xFFFF {
		return nil, fmt.Errorf("mode %#o has unknown bits", h.Mode)
	}
	in.mtime = orTime(h.ModTime, w.epoch)
	in.atime = orTime(h.AccessTime, in.mtime)
	in.ctime = orTime(h.ChangeTime, in.mtime)
	switch h.Mode & modeType {
	case modeRegular:
		if h.Size < 0 || h.Size > maxFile {
			return nil, fmt.Errorf("size %d: ext4 allows 0 to %d", h.Size, int64(maxFile))
		}
		in.size = h.Size
	case modeSymlink:
		in.size = int64(len(h.Linkname))
		if in.size == 0 || in.size > maxSymlink || strings.IndexByte(h.Linkname, 0) >= 0 {
			return nil, fmt.Errorf("link target of %d bytes: want 1 to %d without NUL", in.size, maxSymlink)
		}
	case modeChar, modeBlock:
		if h.Major > 1<<12-1 || h.Minor > 1<<20-1 {
			return nil, fmt.Errorf("device %d:%d: want at most 4095:1048575", h.Major, h.Minor)
		}
		putDevice(in.block[:], h.Major, h.Minor)
	case modeDir, modeFIFO, modeSocket:
	default:
		return nil, fmt.Errorf("mode %#o has no known file type", h.Mode)
	}
	return in, nil
}

func orTime(t, other time.Time) time.Time {
	if t.IsZero() {
		return other
	}
	return t
}

// replaceDir gives the root or lost+found the metadata of an entry.
func (w *Writer) replaceDir(h *Header, in *inode, inInode, inBlock []xattr) error {
	path := strings.TrimPrefix(h.Path, ".")
	d := w.byPath[path]
	if h.Mode&modeType != modeDir {
		return wrapPath(h.Path, fmt.Errorf("mode %#o: must be a directory", h.Mode))
	}
	if d.replaced {
		return wrapPath(h.Path, errors.New("path exists already"))
	}
	if err := w.setXattrs(path, in, inInode, inBlock); err != nil {
		return w.fail(h.Path, err)
	}
	d.in, d.replaced = in, true
	return nil
}

// store writes what belongs to an inode outside of the tables.
func (w *Writer) store(h *Header, in *inode, inInode, inBlock []xattr, body io.Reader) error {
	if err := w.setXattrs(h.Path, in, inInode, inBlock); err != nil {
		return err
	}
	switch h.Mode & modeType {
	case modeRegular:
		return w.storeFile(h, in, body)
	case modeSymlink:
		return w.storeSymlink(h, in)
	}
	return nil
}

func (w *Writer) storeSymlink(h *Header, in *inode) error {
	if len(h.Linkname) < iblockSize {
		copy(in.block[:], h.Linkname)
		return nil
	}
	b := make([]byte, blockSize)
	copy(b, h.Linkname)
	at, err := w.writeBlock(h.Path, b)
	if err != nil {
		return err
	}
	in.blocks++
	return w.setExtents(h.Path, w.nextIno, in, []extent{{0, 1, at}})
}

// Owner gives the ids of the user and the group.
func (h *Header) Owner() (uid, gid uint32) { return h.UID, h.GID }
