// Package tree moves root trees: a folder to a stream and back, with owners,
// modes, hard links, devices and extended attributes (file capabilities and
// POSIX ACLs among them). The stream is a PAX tar (POSIX.1-2001 pax) in a fixed
// order with clamped times, so that the same tree gives the same bytes.
//
// Access and change times are not kept, times are whole seconds, and sockets
// are left out, as in every archive format.
package tree

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// xattrPrefix marks extended attributes in PAX records (star's convention,
// read by GNU tar and bsdtar).
const xattrPrefix = "SCHILY.xattr."

// streamBuffer is what is read and written of a stream at once.
const streamBuffer = 256 << 10

// Entry is one file with all its metadata. Path is relative, slash-separated,
// "." for the root itself.
type Entry struct {
	Path     string
	Mode     uint32 // st_mode: type and permission bits
	UID, GID uint32
	Size     int64
	ModTime  time.Time
	// AccessTime and ChangeTime are zero when they are not known.
	AccessTime, ChangeTime time.Time

	Major uint32
	Minor uint32
	// Symlink is a symbolic link's target; HardLink the path of the entry
	// whose file this one is, met earlier.
	Symlink  string
	HardLink string
	Xattrs   map[string][]byte
}

// IsRegular tells whether the entry has content of its own.
func (e *Entry) IsRegular() bool { return e.HardLink == "" && e.Mode&unix.S_IFMT == unix.S_IFREG }

// Stats counts a tree.
type Stats struct {
	Entries int   `json:"entries"`
	Bytes   int64 `json:"bytes"` // of regular files, each hard link once
}

// Read calls f for each entry of a stream, in order. The body is the content
// of regular files and must not be used after f returns.
func Read(r io.Reader, f func(e *Entry, body io.Reader) error) error {
	tr := tar.NewReader(bufio.NewReaderSize(r, streamBuffer))
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the tree: %w", err)
		}
		e, err := entryOf(h)
		if err != nil {
			return fmt.Errorf("reading the tree: %w", err)
		}
		if err := f(e, tr); err != nil {
			return err
		}
	}
}

// typeBits maps tar's types to st_mode's.
var typeBits = map[byte]uint32{
	tar.TypeReg: unix.S_IFREG, tar.TypeLink: unix.S_IFREG, tar.TypeSymlink: unix.S_IFLNK, tar.TypeChar: unix.S_IFCHR,
	tar.TypeBlock: unix.S_IFBLK, tar.TypeDir: unix.S_IFDIR, tar.TypeFifo: unix.S_IFIFO,
}

func entryOf(h *tar.Header) (*Entry, error) {
	bits, ok := typeBits[h.Typeflag]
	if !ok {
		return nil, fmt.Errorf("%q: unknown type %q", h.Name, h.Typeflag)
	}
	name, err := cleanPath(h.Name)
	if err != nil {
		return nil, err
	}
	e := &Entry{
		Path: name, Mode: bits | uint32(h.Mode&0o7777), UID: uint32(h.Uid), GID: uint32(h.Gid), Size: h.Size,
		ModTime: h.ModTime, Major: uint32(h.Devmajor), Minor: uint32(h.Devminor),
	}
	switch h.Typeflag {
	case tar.TypeSymlink:
		e.Symlink = h.Linkname
	case tar.TypeLink:
		if e.HardLink, err = cleanPath(h.Linkname); err != nil {
			return nil, err
		}
	}
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, xattrPrefix); ok {
			if e.Xattrs == nil {
				e.Xattrs = map[string][]byte{}
			}
			e.Xattrs[name] = []byte(value)
		}
	}
	return e, nil
}

// cleanPath refuses names that lead out of the tree.
func cleanPath(name string) (string, error) {
	clean := path.Clean(name)
	if clean == ".." || strings.HasPrefix(clean, "../") || strings.HasPrefix(clean, "/") {
		return "", fmt.Errorf("%q: the name leads out of the tree", name)
	}
	return clean, nil
}
