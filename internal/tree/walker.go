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

// walker lists a tree ahead of who takes it, and of the lookers, who look at
// the files. All names are looked up in the folder they are in, and no link is
// followed.
type walker struct {
	opts    WalkOptions
	queue   chan *batch // in order
	work    chan *batch // the same, for the lookers
	free    chan *batch
	stop    chan struct{}
	now     *batch
	dev     uint64 // of the root
	xattrs  *xattrReader
	dirents []byte
}

func newWalker(opts WalkOptions) *walker {
	w := &walker{
		opts: opts, xattrs: newXattrReader(), dirents: make([]byte, 64<<10), stop: make(chan struct{}),
		queue: make(chan *batch, batches), work: make(chan *batch, batches), free: make(chan *batch, batches+1),
	}
	for range batches {
		w.free <- &batch{ready: make(chan struct{}, 1)}
	}
	return w
}

var errStopped = errors.New("stopped")

func (w *walker) run(root string) {
	defer close(w.queue)
	defer close(w.work)
	w.now = <-w.free
	err := w.root(root)
	if errors.Is(err, errStopped) {
		if w.now != nil {
			w.now.release()
		}
		return
	}
	w.now.err = err
	w.send()
}

func (w *walker) send() {
	w.work <- w.now // there is room for all batches
	w.queue <- w.now
	w.now = nil
}

// flush hands the batch on and takes a fresh one.
func (w *walker) flush() error {
	w.send()
	select {
	case w.now = <-w.free:
		w.now.items, w.now.data, w.now.err = w.now.items[:0], w.now.data[:0], nil
		return nil
	case <-w.stop:
		return errStopped
	}
}

// add gives the next item of the batch: a name in a folder.
func (w *walker) add(in *folder, name, path string, typ byte) (*item, error) {
	b := w.now
	fresh := len(b.folders) == 0 || b.folders[len(b.folders)-1] != in
	if len(b.items) == batchEntries || fresh && len(b.folders) == batchFolders {
		if err := w.flush(); err != nil {
			return nil, err
		}
		b, fresh = w.now, true
	}
	if fresh {
		in.refs.Add(1)
		b.folders = append(b.folders, in)
	}
	if b.items == nil {
		b.items = make([]item, 0, batchEntries)
	}
	b.items = b.items[:len(b.items)+1]
	it := &b.items[len(b.items)-1]
	*it = item{name: name, in: in, typ: typ}
	it.Path = path
	return it, nil
}

func (w *walker) root(name string) error {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &pathError{".", err}
	}
	return w.dir(fd, ".")
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

// wrapPath says of a walk's error where it is; those of who takes the entries
// stay as they are.
func wrapPath(root string, err error) error {
	p, ok := err.(*pathError) //nolint:errorlint // what f wrapped is f's
	switch {
	case !ok:
		return err
	case p.path == ".":
		return fmt.Errorf("reading %q: %w", root, p.err)
	}
	return fmt.Errorf("reading %q: %w", strings.TrimSuffix(root, "/")+"/"+p.path, p.err)
}

// dir walks an open folder, and closes it.
func (w *walker) dir(fd int, path string) error {
	d := &folder{fd: fd}
	d.refs.Store(1)
	defer d.release()
	it, err := w.add(d, "", path, unix.DT_DIR)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil {
		it.fill(&st)
		it.Xattrs, err = w.xattrs.ofOpen(fd)
	}
	if err != nil {
		it.err = err
		return nil // the hander ends here
	}
	if path == "." {
		w.dev = uint64(st.Dev)
	} else if w.opts.OneFileSystem && uint64(st.Dev) != w.dev {
		return nil
	}
	if w.opts.EmptyDirs[path] {
		return nil
	}
	names, err := w.names(fd)
	if err != nil {
		return at(path, err)
	}
	for _, n := range names {
		if err := w.child(d, n, path); err != nil {
			return err
		}
	}
	return nil
}

func (w *walker) child(d *folder, n dirent, path string) error {
	if path == "." {
		path = n.name
	} else {
		path += "/" + n.name
	}
	if n.typ == unix.DT_UNKNOWN {
		var st unix.Stat_t
		if err := unix.Fstatat(d.fd, n.name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return at(path, err)
		}
		n.typ = byte(st.Mode >> 12 & 15) // the types of dirents are st_mode's
	}
	if n.typ != unix.DT_DIR {
		_, err := w.add(d, n.name, path, n.typ)
		return err
	}
	fd, err := unix.Openat(d.fd, n.name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return at(path, err)
	}
	return w.dir(fd, path)
}

// dirent is a name in a folder.
type dirent struct {
	name string
	typ  byte // DT_REG …; DT_UNKNOWN where the file system does not tell
}

// names reads a folder, sorted. The layout is struct linux_dirent64
// (getdents64(2)): inode 8 bytes, offset 8, length 2, type 1, name with a NUL.
func (w *walker) names(fd int) ([]dirent, error) {
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
