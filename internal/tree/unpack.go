package tree

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Unpack makes the tree of a stream in the empty folder dir. It must run as
// root of a user namespace that has all the tree's owners.
func Unpack(r io.Reader, dir string) (Stats, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Stats{}, fmt.Errorf("unpacking: %w", err)
	}
	u := &unpacker{root: root, dir: dir, buf: make([]byte, 1<<20)}
	err = Read(r, func(e *Entry, body io.Reader) error {
		if err := u.entry(e, body); err != nil {
			return fmt.Errorf("unpacking %q: %w", e.Path, err)
		}
		return nil
	})
	if err == nil {
		err = u.finishDirs()
	}
	return u.stats, errors.Join(err, root.Close())
}

type unpacker struct {
	root *os.Root
	dir  string
	buf  []byte
	// dirs get their attributes and times last: a default ACL would be
	// inherited by what is created inside, and filling changes the time.
	dirs  []*Entry
	stats Stats
}

func (u *unpacker) entry(e *Entry, body io.Reader) error {
	u.stats.Entries++
	if e.HardLink != "" {
		return u.root.Link(e.HardLink, e.Path)
	}
	if err := u.create(e, body); err != nil {
		return err
	}
	if err := u.root.Lchown(e.Path, int(e.UID), int(e.GID)); err != nil {
		return err
	}
	if e.Mode&unix.S_IFMT == unix.S_IFDIR {
		u.dirs = append(u.dirs, e)
		return u.root.Chmod(e.Path, fileMode(e.Mode))
	}
	if err := u.xattrs(e); err != nil {
		return err
	}
	if e.Mode&unix.S_IFMT == unix.S_IFLNK {
		return u.linkTime(e)
	}
	if err := u.root.Chmod(e.Path, fileMode(e.Mode)); err != nil {
		return err
	}
	return u.root.Chtimes(e.Path, e.ModTime, e.ModTime)
}

func (u *unpacker) create(e *Entry, body io.Reader) error {
	switch e.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		if e.Path == "." {
			return nil
		}
		return u.root.Mkdir(e.Path, 0o700)
	case unix.S_IFLNK:
		return u.root.Symlink(e.Symlink, e.Path)
	case unix.S_IFREG:
		return u.file(e, body)
	}
	parent, name, err := u.parent(e.Path)
	if err != nil {
		return err
	}
	defer parent.Close()
	return unix.Mknodat(int(parent.Fd()), name, e.Mode&unix.S_IFMT|0o600, int(unix.Mkdev(e.Major, e.Minor)))
}

func (u *unpacker) file(e *Entry, body io.Reader) error {
	f, err := u.root.OpenFile(e.Path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	// The writer is hidden behind an interface without ReadFrom: the tar
	// reader has nothing to splice from.
	_, err = io.CopyBuffer(struct{ io.Writer }{f}, body, u.buf)
	u.stats.Bytes += e.Size
	return errors.Join(err, f.Close())
}

// parent opens the folder of name without following a link out of the tree.
func (u *unpacker) parent(name string) (*os.File, string, error) {
	dir, err := u.root.Open(filepath.Dir(name))
	return dir, filepath.Base(name), err
}

func (u *unpacker) xattrs(e *Entry) error {
	if len(e.Xattrs) == 0 {
		return nil
	}
	parent, name, err := u.parent(e.Path)
	if err != nil {
		return err
	}
	defer parent.Close()
	at := "/proc/self/fd/" + strconv.Itoa(int(parent.Fd())) + "/" + name
	for key, value := range e.Xattrs {
		if err := unix.Lsetxattr(at, key, value, 0); err != nil {
			return fmt.Errorf("setting extended attribute %s: %w", key, err)
		}
	}
	return nil
}

func (u *unpacker) linkTime(e *Entry) error {
	parent, name, err := u.parent(e.Path)
	if err != nil {
		return err
	}
	defer parent.Close()
	ts := unix.NsecToTimespec(e.ModTime.UnixNano())
	return unix.UtimesNanoAt(int(parent.Fd()), name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

func (u *unpacker) finishDirs() error {
	for _, e := range u.dirs {
		if err := u.xattrs(e); err != nil {
			return fmt.Errorf("unpacking %q: %w", e.Path, err)
		}
		if err := u.root.Chtimes(e.Path, time.Time{}, e.ModTime); err != nil {
			return fmt.Errorf("unpacking %q: %w", e.Path, err)
		}
	}
	return nil
}

// fileMode turns st_mode's permission bits into Go's.
func fileMode(mode uint32) os.FileMode {
	m := os.FileMode(mode & 0o777)
	for bit, flag := range map[uint32]os.FileMode{
		unix.S_ISUID: os.ModeSetuid, unix.S_ISGID: os.ModeSetgid, unix.S_ISVTX: os.ModeSticky,
	} {
		if mode&bit != 0 {
			m |= flag
		}
	}
	return m
}
