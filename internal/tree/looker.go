package tree

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// looker looks at the files of batches and reads the small ones.
type looker struct {
	xattrs  *xattrReader
	noAtime int // O_NOATIME, until the kernel refuses it
}

func (l *looker) batch(b *batch) {
	for i := range b.items {
		it := &b.items[i]
		switch {
		case it.err != nil:
			return // nothing behind it is handed on
		case it.typ == unix.DT_REG:
			it.err = l.file(b, it)
		case it.typ != unix.DT_DIR:
			it.err = l.other(it)
		}
	}
}

// fill gives an entry what st has of it.
func (it *item) fill(st *unix.Stat_t) {
	it.Mode, it.UID, it.GID, it.ModTime = st.Mode, st.Uid, st.Gid, modTime(st)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		it.Size = st.Size
	case unix.S_IFCHR, unix.S_IFBLK:
		it.Major, it.Minor = unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev))
	}
	it.id, it.linked = inode{uint64(st.Dev), st.Ino}, st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR
	it.sparse = st.Blocks*512 < st.Size
}

var errOther = errors.New("it became another kind of file while the tree was read")

// file looks at a regular file.
func (l *looker) file(b *batch, it *item) error {
	fd, err := openFile(it.in.fd, it.name, &l.noAtime)
	if err != nil {
		return err
	}
	return errors.Join(l.open(b, it, fd), unix.Close(fd))
}

func (l *looker) open(b *batch, it *item, fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return errOther
	}
	it.fill(&st)
	var err error
	if it.Xattrs, err = l.xattrs.ofOpen(fd); err != nil || it.Size > inlineSize {
		return err
	}
	return l.inline(b, it, fd)
}

// openFile opens a file for reading; O_NONBLOCK keeps a pipe that took its name
// from holding the walk up.
func openFile(dir int, name string, noAtime *int) (int, error) {
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK
	for {
		fd, err := unix.Openat(dir, name, flags|*noAtime, 0)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EPERM) && *noAtime != 0:
			*noAtime = 0 // it is for owners of files
		default:
			return fd, err
		}
	}
}

// inline reads a small file into the batch.
func (l *looker) inline(b *batch, it *item, fd int) error {
	size := int(it.Size)
	it.at = len(b.data)
	b.data = slices.Grow(b.data, size)[:it.at+size]
	it.end = len(b.data)
	for done := 0; done < size; {
		n, err := unix.Read(fd, b.data[it.at+done:it.end])
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		case n == 0:
			return fmt.Errorf("the file shrank from %d to %d bytes while it was read", size, done)
		default:
			done += n
		}
	}
	return nil
}

// other looks at what is not opened.
func (l *looker) other(it *item) (err error) {
	var st unix.Stat_t
	if err := unix.Fstatat(it.in.fd, it.name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	it.fill(&st)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		var target [unix.PathMax]byte
		n, err := unix.Readlinkat(it.in.fd, it.name, target[:])
		if err != nil {
			return err
		}
		it.Symlink = string(target[:n])
	case unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO, unix.S_IFSOCK:
	case unix.S_IFREG, unix.S_IFDIR:
		return errOther
	default:
		return fmt.Errorf("unknown file type %#o", st.Mode&unix.S_IFMT)
	}
	it.Xattrs, err = l.xattrs.ofNamed(it.in.fd, it.name)
	return err
}
