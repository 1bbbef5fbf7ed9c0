package zfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kldload/kldload/zfs/internal/ondisk"
	"github.com/kldload/kldload/zfs/internal/sa"
)

// maxFollow bounds the symbolic links of one Resolve, as Linux does.
const maxFollow = 40

var (
	_ fs.ReadDirFS  = (*FS)(nil)
	_ fs.StatFS     = (*FS)(nil)
	_ fs.ReadLinkFS = (*FS)(nil)
	_ io.ReaderAt   = (*File)(nil)
)

// FS reads a file system or a snapshot of one. It is an [io/fs.FS] whose Stat
// and Open do not follow symbolic links; [FS.Resolve] does. Names are compared
// byte by byte, whatever the dataset's normalization. Safe for concurrent use
// when the underlying ReaderAt is.
type FS struct {
	set      *openSet
	root     uint64
	unlinked uint64 // the ZAP of files that are open and have no name
	attrs    *sa.Table

	mu   sync.Mutex
	dirs listingCache
}

// Dataset opens a file system ("rpool/home") or a snapshot
// ("rpool/home@golden"). Volumes and encrypted datasets are errors.
func (p *Pool) Dataset(name string) (*FS, error) {
	s := p.findSet(name)
	if s == nil {
		return nil, fmt.Errorf("zfs: opening dataset %q: the pool has none of that name", name)
	}
	f, err := p.openFS(s)
	if err != nil {
		return nil, fmt.Errorf("zfs: opening dataset %q: %w", name, err)
	}
	return f, nil
}

// ErrEncrypted says that a dataset's files are out of reach without its key.
var ErrEncrypted = errors.New("the dataset is encrypted: not supported")

func (p *Pool) openFS(s *setNode) (*FS, error) {
	if s.in.encrypted {
		return nil, ErrEncrypted
	}
	set, err := p.dev.openObjset(s.name, &s.bp)
	if err != nil {
		return nil, err
	}
	if set.phys.Type != ondisk.ObjsetZFS {
		return nil, fmt.Errorf("its object set has type %d: want a file system's, %d", set.phys.Type, ondisk.ObjsetZFS)
	}
	f := &FS{set: set}
	return f, f.readMaster()
}

// readMaster finds the root and learns how attributes are stored.
func (f *FS) readMaster() error {
	if _, err := f.set.typed(masterObject, ondisk.TypeMasterNode); err != nil {
		return err
	}
	version, err := f.set.need(masterObject, "VERSION")
	if err != nil {
		return err
	}
	if version != zplVersion {
		return fmt.Errorf("file system of version %d: want %d", version, zplVersion)
	}
	if f.root, err = f.set.need(masterObject, "ROOT"); err != nil {
		return err
	}
	if f.unlinked, err = f.set.need(masterObject, "DELETE_QUEUE"); err != nil {
		return err
	}
	f.attrs, err = f.set.attrTable()
	return err
}

// Node is what the pool says of a file. From [FS.Node] its Header is complete
// and can go to [Writer.Create]; from Sys of a FileInfo it has no Linkname and Xattrs.
type Node struct {
	Header
	// Ino is the object's number, of its own in each dataset.
	Ino     uint64
	Dataset string
	// Links counts the names of a file; of a directory, itself, its name and its
	// subdirectories.
	Links uint64
	// Used is the bytes it takes in the pool, with all copies.
	Used uint64
	// Project the file belongs to, 0 is the default.
	Project uint64
}

// Node gives all there is to know of a file but its content.
func (f *FS) Node(name string) (*Node, error) {
	in, err := f.walk("reading", name)
	if err != nil {
		return nil, err
	}
	n := in.Node
	n.Path = name
	if n.Xattrs, err = f.xattrsOf(in); err != nil {
		return nil, &fs.PathError{Op: "reading attributes of", Path: name, Err: err}
	}
	if n.Mode&modeType == modeSymlink {
		if n.Linkname, err = in.readLink(); err != nil {
			return nil, &fs.PathError{Op: "reading link", Path: name, Err: err}
		}
	}
	return &n, nil
}

// Xattrs gives the extended attributes of a file by full name.
func (f *FS) Xattrs(name string) (map[string][]byte, error) {
	in, err := f.walk("reading attributes of", name)
	if err != nil {
		return nil, err
	}
	set, err := f.xattrsOf(in)
	if err != nil {
		return nil, &fs.PathError{Op: "reading attributes of", Path: name, Err: err}
	}
	return set, nil
}

// walk finds the file of a clean relative path; no link is followed.
func (f *FS) walk(op, name string) (*fileNode, error) {
	in, err := f.walkPath(name)
	if err != nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: err}
	}
	return in, nil
}

func (f *FS) walkPath(name string) (*fileNode, error) {
	in, err := f.readNode(f.root)
	if err != nil {
		return nil, err
	}
	if in.Mode&modeType != modeDir {
		return nil, fmt.Errorf("%q object %d: the root has mode %#o", f.set.name, f.root, in.Mode)
	}
	if !fs.ValidPath(name) {
		return nil, fs.ErrInvalid
	}
	if name == "." {
		return in, nil
	}
	for part := range strings.SplitSeq(name, "/") {
		if in.Mode&modeType != modeDir {
			return nil, fs.ErrNotExist
		}
		e, err := f.lookup(in, part)
		if err != nil {
			return nil, err
		}
		if in, err = f.child(in.Ino, e); err != nil {
			return nil, err
		}
	}
	return in, nil
}

// Lstat describes a file; Sys of the result is a [*Node].
func (f *FS) Lstat(name string) (fs.FileInfo, error) {
	in, err := f.walk("stat", name)
	if err != nil {
		return nil, err
	}
	return &fileInfo{path.Base(name), &in.Node, in}, nil
}

// Stat is Lstat: it does not follow symbolic links.
func (f *FS) Stat(name string) (fs.FileInfo, error) { return f.Lstat(name) }

// ReadLink gives the target of a symbolic link.
func (f *FS) ReadLink(name string) (string, error) {
	in, err := f.walk("readlink", name)
	if err != nil {
		return "", err
	}
	if in.Mode&modeType != modeSymlink {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
	}
	target, err := in.readLink()
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: err}
	}
	return target, nil
}

// ReadDir lists a directory by name.
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	in, err := f.walk("readdir", name)
	if err != nil {
		return nil, err
	}
	return f.dirEntries(name, in)
}

func (f *FS) dirEntries(name string, in *fileNode) ([]fs.DirEntry, error) {
	if in.Mode&modeType != modeDir {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: errors.New("not a directory")}
	}
	l, err := f.list(in)
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}
	all := make([]fs.DirEntry, len(l.entries))
	for i, e := range l.entries {
		all[i] = &readEntry{f, in.Ino, e}
	}
	return all, nil
}

// Open opens a regular file (a [*File]) or a directory (an [fs.ReadDirFile]).
// Symbolic links and special files cannot be opened.
func (f *FS) Open(name string) (fs.File, error) {
	in, err := f.walk("open", name)
	if err != nil {
		return nil, err
	}
	info := fileInfo{path.Base(name), &in.Node, in}
	switch in.Mode & modeType {
	case modeDir:
		list, err := f.dirEntries(name, in)
		if err != nil {
			return nil, err
		}
		return &openDir{info: info, list: list}, nil
	case modeRegular:
		body := &fileBody{ob: in.ob, name: name, size: in.Size}
		return &File{io.NewSectionReader(body, 0, in.Size), body, info}, nil
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("not a regular file or directory")}
}

// Resolve follows symbolic links in name, inside the file system: absolute
// targets start at its root and ".." stops there. The result names no link.
func (f *FS) Resolve(name string) (string, error) { return resolve(f, name) }

// linkFS is what resolving needs of a file system.
type linkFS interface {
	Lstat(name string) (fs.FileInfo, error)
	ReadLink(name string) (string, error)
}

func resolve(f linkFS, name string) (string, error) {
	done, rest := ".", strings.Split(name, "/")
	for follows := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			done = path.Dir(done)
			continue
		}
		next := path.Join(done, part)
		info, err := f.Lstat(next)
		if err != nil {
			return "", err
		}
		if info.Mode().Type() != fs.ModeSymlink {
			done = next
			continue
		}
		if follows++; follows > maxFollow {
			return "", &fs.PathError{Op: "resolving", Path: name, Err: fmt.Errorf("more than %d symbolic links", maxFollow)}
		}
		target, err := f.ReadLink(next)
		if err != nil {
			return "", err
		}
		if strings.HasPrefix(target, "/") {
			done = "."
		}
		rest = slices.Concat(strings.Split(target, "/"), rest)
	}
	return done, nil
}

type openDir struct {
	info fileInfo
	list []fs.DirEntry
}

func (d *openDir) Stat() (fs.FileInfo, error) { return &d.info, nil }
func (d *openDir) Close() error               { return nil }

func (d *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.info.name, Err: errors.New("is a directory")}
}

func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if n > 0 && len(d.list) == 0 {
		return nil, io.EOF
	}
	if n <= 0 || n > len(d.list) {
		n = len(d.list)
	}
	part := d.list[:n:n]
	d.list = d.list[n:]
	return part, nil
}

type readEntry struct {
	fs  *FS
	dir uint64
	e   listed
}

func (d *readEntry) Name() string      { return d.e.name }
func (d *readEntry) IsDir() bool       { return d.Type().IsDir() }
func (d *readEntry) Type() fs.FileMode { return goMode(uint32(d.e.kind) << 12).Type() }

func (d *readEntry) Info() (fs.FileInfo, error) {
	in, err := d.fs.child(d.dir, d.e)
	if err != nil {
		return nil, &fs.PathError{Op: "stat", Path: d.e.name, Err: err}
	}
	return &fileInfo{d.e.name, &in.Node, in}, nil
}

type fileInfo struct {
	name string
	node *Node
	in   *fileNode // nil for a directory that a Tree adds
}

func (i *fileInfo) Name() string       { return i.name }
func (i *fileInfo) Size() int64        { return i.node.Size }
func (i *fileInfo) Mode() fs.FileMode  { return goMode(i.node.Mode) }
func (i *fileInfo) ModTime() time.Time { return i.node.ModTime }
func (i *fileInfo) IsDir() bool        { return i.Mode().IsDir() }
func (i *fileInfo) Sys() any           { return i.node }
