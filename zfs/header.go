package zfs

import (
	"fmt"
	"strings"
	"time"

	"github.com/kldload/kldload/zfs/internal/sa"
)

// root is where the tree's "." lies.
func (z *Writer) root() string {
	if z.opts.Root == "" {
		return "/"
	}
	return z.opts.Root
}

// treePath checks a path of the tree and says where it lies among the
// mountpoints.
func (z *Writer) treePath(p string) (string, error) {
	if p == "" || p == "." {
		return z.root(), nil
	}
	if err := checkPath(p); err != nil {
		return "", err
	}
	return strings.TrimSuffix(z.root(), "/") + "/" + p, nil
}

func checkPath(p string) error {
	for _, part := range strings.Split(p, "/") {
		switch {
		case part == "" || part == "." || part == "..":
			return fmt.Errorf("path %q: want a clean relative path", p)
		case len(part) > maxName:
			return fmt.Errorf("path %q: a name of %d bytes: want at most %d", p, len(part), maxName)
		case strings.ContainsRune(part, 0):
			return fmt.Errorf("path %q: a name with a NUL", p)
		}
	}
	return nil
}

// attrs are a header's attributes as far as they do not depend on its place.
func (z *Writer) attrs(h *Header) sa.Attrs {
	a := sa.Attrs{
		Mode: uint64(h.Mode), UID: uint64(h.UID), GID: uint64(h.GID), Size: uint64(h.Size), Symlink: h.Linkname, Xattrs: h.Xattrs, Gen: birthTxg,
		MTime: saTime(orTime(h.ModTime, z.opts.Epoch)),
	}
	mtime := orTime(h.ModTime, z.opts.Epoch)
	a.ATime, a.CTime = saTime(orTime(h.AccessTime, mtime)), saTime(orTime(h.ChangeTime, mtime))
	a.CRTime = a.MTime
	switch h.Mode & modeType {
	case modeChar, modeBlock:
		a.Rdev = sa.Rdev(h.Major, h.Minor)
	case modeSymlink:
		a.Size = uint64(len(h.Linkname))
	}
	return a
}

func orTime(t, other time.Time) time.Time {
	if t.IsZero() {
		return other
	}
	return t
}

// checkHeader refuses what no file can be.
func checkHeader(h *Header) error {
	kind := h.Mode & modeType
	switch kind {
	case modeRegular, modeDir, modeChar, modeBlock, modeFIFO, modeSocket:
		if h.Linkname != "" {
			return fmt.Errorf("link target %q of a file that is no symbolic link", h.Linkname)
		}
	case modeSymlink:
		if n := len(h.Linkname); n == 0 || n > maxLink || strings.ContainsRune(h.Linkname, 0) {
			return fmt.Errorf("a symbolic link's target of %d bytes: want 1 to %d, without a NUL", n, maxLink)
		}
	default:
		return fmt.Errorf("mode %o: its type bits are none of a file", h.Mode)
	}
	if h.Mode&^(modeType|0o7777) != 0 {
		return fmt.Errorf("mode %o: want its type and twelve bits of permissions", h.Mode)
	}
	if h.Size > maxFile {
		return fmt.Errorf("size %d: want at most %d", h.Size, int64(maxFile))
	}
	if h.Size < 0 || kind != modeRegular && h.Size != 0 {
		return fmt.Errorf("size %d: want 0 or more, and content in regular files alone", h.Size)
	}
	for name, value := range h.Xattrs {
		if name == "" || len(name) > maxName || strings.ContainsRune(name, 0) {
			return fmt.Errorf("extended attribute %q: want a name of 1 to %d bytes without a NUL", name, maxName)
		}
		if len(value) > maxXattr {
			return fmt.Errorf("extended attribute %q: a value of %d bytes: want at most %d", name, len(value), maxXattr)
		}
	}
	return nil
}
