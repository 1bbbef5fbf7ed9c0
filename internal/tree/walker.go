package tree

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// walker reads a tree ahead of who takes it. All names are looked up in the
// folder they are in, and no link is followed.
type walker struct {
	opts    WalkOptions
	full    chan *batch
	free    chan *batch
	stop    chan struct{}
	now     *batch
	seen    map[inode]string
	dev     uint64 // of the root
	noAtime int    // O_NOATIME, until the kernel refuses it
	xattrs  *xattrReader
	dirents []byte
}

var errStopped = errors.New("stopped")

func (w *walker) run(root string) {
	defer close(w.full)
	w.now = <-w.free
	err := w.root(root)
	if errors.Is(err, errStopped) {
		return
	}
	w.now.err = err
	_ = w.flush()
}

// flush hands the batch on and takes a fresh one.
func (w *walker) flush() error {
	select {
	case w.full <- w.now:
	case <-w.stop:
		w.now.close()
		return errStopped
	}
	select {
	case w.now = <-w.free:
	case <-w.stop:
		return errStopped
	}
	*w.now = batch{items: w.now.items[:0], data: w.now.data[:0]}
	return nil
}

// add gives the next entry of the batch, empty.
func (w *walker) add() *item {
	b := w.now
	if len(b.items) == cap(b.items) {
		b.items = slices.Grow(b.items, batchEntries)
	}
	b.items = b.items[:len(b.items)+1]
	it := &b.items[len(b.items)-1]
	*it = item{}
	return it
}

// added hands the batch on when it is full.
func (w *walker) added() error {
	b := w.now
	if len(b.items) < batchEntries && len(b.data) < batchBytes && b.items[len(b.items)-1].fd == 0 {
		return nil
	}
	return w.flush()
}

func (w *walker) root(name string) error {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("reading the tree %q: %w", name, err)
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil {
		w.dev = uint64(st.Dev)
		err = w.dir(fd, ".", &st)
	}
	return wrapPath(name, errors.Join(err, unix.Close(fd)))
}

// pathError says which file of the tree an error is about.
type pathError struct {
	path string
	err  error
}

func (e *pathError) Error() string { return e.path + ": " + e.err.Error() }
func (e *pathError) Unwrap() error { return e.err }

func at(path string, err error) error {
	var p *pathError
	if err == nil || errors.As(err, &p) || errors.Is(err, errStopped) {
		return err
	}
	return &pathError{path, err}
}

func wrapPath(root string, err error) error {
	var p *pathError
	switch {
	case err == nil || errors.Is(err, errStopped):
		return err
	case errors.As(err, &p) && p.path != ".":
		return fmt.Errorf("reading %q: %w", strings.TrimSuffix(root, "/")+"/"+p.path, p.err)
	case p != nil:
		err = p.err
	}
	return fmt.Errorf("reading %q: %w", root, err)
}

// dir walks an open folder.
func (w *walker) dir(fd int, path string, st *unix.Stat_t) error {
	it := w.add()
	w.fill(it, path, st)
	var err error
	if it.Xattrs, err = w.xattrs.ofOpen(fd); err != nil {
		return at(path, err)
	}
	if err := w.added(); err != nil {
		return err
	}
	if w.opts.OneFileSystem && uint64(st.Dev) != w.dev {
		return nil
	}
	names, err := w.names(fd)
	if err != nil {
		return at(path, err)
	}
	for _, n := range names {
		child := n.name
		if path != "." {
			child = path + "/" + n.name
		}
		if err := at(child, w.child(fd, n, child)); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) child(dir int, n dirent, path string) error {
	var st unix.Stat_t
	typ := n.typ
	if typ != unix.DT_REG && typ != unix.DT_DIR {
		if err := unix.Fstatat(dir, n.name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		typ = byte(st.Mode >> 12 & 15) // the types of dirents are st_mode's
	}
	switch typ {
	case unix.DT_REG:
		return w.file(dir, n.name, path)
	case unix.DT_DIR:
		fd, err := unix.Openat(dir, n.name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if err = unix.Fstat(fd, &st); err == nil {
			err = w.dir(fd, path, &st)
		}
		return errors.Join(err, unix.Close(fd))
	}
	return w.other(dir, n.name, path, &st)
}

// fill gives an entry what st has of it.
func (w *walker) fill(it *item, path string, st *unix.Stat_t) {
	it.Path, it.Mode, it.UID, it.GID, it.ModTime = path, st.Mode, st.Uid, st.Gid, modTime(st)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		it.Size = st.Size
	case unix.S_IFCHR, unix.S_IFBLK:
		it.Major, it.Minor = unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev))
	}
	if st.Nlink < 2 || st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return
	}
	id := inode{uint64(st.Dev), st.Ino}
	if first, ok := w.seen[id]; ok {
		it.HardLink, it.Size = first, 0
		return
	}
	w.seen[id] = path
}

// file adds a regular file, a small one with its content.
func (w *walker) file(dir int, name, path string) error {
	fd, err := w.open(dir, name)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return errors.Join(errors.New("it became another file while the tree was read"), unix.Close(fd))
	}
	it := w.add()
	w.fill(it, path, &st)
	if it.HardLink == "" {
		if it.Xattrs, err = w.xattrs.ofOpen(fd); err == nil && it.Size > inlineSize {
			it.fd, it.sparse = fd, st.Blocks*512 < st.Size
			return w.added()
		}
		if err == nil {
			err = w.inline(fd, it)
		}
	}
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		w.now.items = w.now.items[:len(w.now.items)-1]
		return err
	}
	return w.added()
}

// open opens a file for reading; O_NONBLOCK keeps a pipe that took the file's
// name from holding the walk up.
func (w *walker) open(dir int, name string) (int, error) {
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK
	for {
		fd, err := unix.Openat(dir, name, flags|w.noAtime, 0)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EPERM) && w.noAtime != 0:
			w.noAtime = 0 // it is for owners of files
		default:
			return fd, err
		}
	}
}

// inline reads a small file into the batch.
func (w *walker) inline(fd int, it *item) error {
	b := w.now
	it.at = len(b.data)
	size := int(it.Size)
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

// other adds what is not opened.
func (w *walker) other(dir int, name, path string, st *unix.Stat_t) error {
	it := w.add()
	w.fill(it, path, st)
	err := w.otherParts(it, dir, name, st)
	if err != nil {
		w.now.items = w.now.items[:len(w.now.items)-1]
		return err
	}
	return w.added()
}

func (w *walker) otherParts(it *item, dir int, name string, st *unix.Stat_t) (err error) {
	if it.HardLink != "" {
		return nil
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		var target [unix.PathMax]byte
		n, err := unix.Readlinkat(dir, name, target[:])
		if err != nil {
			return err
		}
		it.Symlink = string(target[:n])
	case unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO, unix.S_IFSOCK:
	default:
		return fmt.Errorf("unknown file type %#o", st.Mode&unix.S_IFMT)
	}
	it.Xattrs, err = w.xattrs.ofNamed(dir, name)
	return err
}

// dirent is a name in a folder.
type dirent struct {
	name string
	typ  byte // DT_REG …; DT_UNKNOWN where the file system does not tell
}

// names reads a folder, sorted. The layout is struct linux_dirent64
// (getdents64(2)): inode 8 bytes, offset 8, length 2, type 1, name with a NUL.
func (w *walker) names(fd int) ([]dirent, error) {
	if w.dirents == nil {
		w.dirents = make([]byte, 64<<10)
	}
	var list []dirent
	for {
		n, err := unix.Getdents(fd, w.dirents)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n <= 0 {
			slices.SortFunc(list, func(a, b dirent) int { return strings.Compare(a.name, b.name) })
			return list, err
		}
		text := string(w.dirents[:n]) // one string for all names of it
		for at := 0; at < n; {
			size := int(binary.NativeEndian.Uint16(w.dirents[at+16:]))
			end := at + 19 + bytes.IndexByte(w.dirents[at+19:at+size], 0)
			if name := text[at+19 : end]; name != "." && name != ".." {
				list = append(list, dirent{name, w.dirents[at+18]})
			}
			at += size
		}
	}
}
