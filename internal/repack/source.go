package repack

import (
	"io"
	"io/fs"

	"github.com/kldload/kldload/internal/ext4"
	"github.com/kldload/kldload/internal/tree"
	"github.com/kldload/kldload/zfs"
)

// source is a file system to read: names have no leading slash, and no link is
// followed.
type source interface {
	fs.ReadDirFS
	fs.ReadLinkFS
	// entry tells all of a file but its content; id is the same for all names of
	// a file, links how many there are.
	entry(name string) (e *tree.Entry, id, links uint64, err error)
	// content opens a regular file.
	content(name string) (sparse, error)
}

// sparse is content that knows its holes.
type sparse interface {
	io.ReaderAt
	// NextData finds the data at off or behind; both are the size or beyond where
	// there is none.
	NextData(off int64) (start, end int64, err error)
}

type ext4Source struct{ *ext4.FS }

func (s ext4Source) entry(name string) (*tree.Entry, uint64, uint64, error) {
	n, err := s.Node(name)
	if err != nil {
		return nil, 0, 0, err
	}
	h := n.Header
	return &tree.Entry{Path: name, Mode: h.Mode, UID: h.UID, GID: h.GID, Size: h.Size, ModTime: h.ModTime, AccessTime: h.AccessTime,
		ChangeTime: h.ChangeTime, Major: h.Major, Minor: h.Minor, Symlink: h.Linkname, Xattrs: h.Xattrs}, uint64(n.Ino), uint64(n.Links), nil
}

func (s ext4Source) content(name string) (sparse, error) {
	f, err := s.Open(name)
	if err != nil {
		return nil, err
	}
	file, ok := f.(*ext4.File)
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	return file, nil
}

type zfsSource struct{ *zfs.FS }

func (s zfsSource) entry(name string) (*tree.Entry, uint64, uint64, error) {
	n, err := s.Node(name)
	if err != nil {
		return nil, 0, 0, err
	}
	h := n.Header
	return &tree.Entry{Path: name, Mode: h.Mode, UID: h.UID, GID: h.GID, Size: h.Size, ModTime: h.ModTime, AccessTime: h.AccessTime,
		ChangeTime: h.ChangeTime, Major: h.Major, Minor: h.Minor, Symlink: h.Linkname, Xattrs: h.Xattrs}, n.Ino, n.Links, nil
}

func (s zfsSource) content(name string) (sparse, error) {
	f, err := s.Open(name)
	if err != nil {
		return nil, err
	}
	file, ok := f.(*zfs.File)
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	return zfsContent{file}, nil
}

// zfsContent ends with the size in the place of io.EOF.
type zfsContent struct{ *zfs.File }

func (c zfsContent) NextData(off int64) (start, end int64, err error) {
	start, end, err = c.File.NextData(off)
	if err == io.EOF {
		return c.Size(), c.Size(), nil
	}
	return start, end, err
}
