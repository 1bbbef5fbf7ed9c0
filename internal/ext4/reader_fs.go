package ext4

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// maxFollow bounds the symbolic links of one [FS.Resolve], as Linux does.
const maxFollow = 40

var (
	_ fs.ReadDirFS  = (*FS)(nil)
	_ fs.StatFS     = (*FS)(nil)
	_ fs.ReadLinkFS = (*FS)(nil)
	_ io.ReaderAt   = (*File)(nil)
)

// Node is what an inode says of a file. From [FS.Node] its Header is complete and
// can go to [Writer.Create]; from Sys of a FileInfo it has no Linkname and Xattrs.
type Node struct {
	Header
	Ino     uint32
	Links   uint32
	Sectors int64 // of 512 bytes, in use on disk
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
		if n.Linkname, err = f.readLink(in); err != nil {
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

// walk finds the inode of a clean relative path; no link is followed.
func (f *FS) walk(op, name string) (*diskInode, error) {
	in, err := f.walkPath(name)
	if err != nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: err}
	}
	return in, nil
}

func (f *FS) walkPath(name string) (*diskInode, error) {
	in, err := f.readInode(inoRoot)
	if err != nil {
		return nil, err
	}
	if in.Mode&modeType != modeDir {
		return nil, fmt.Errorf("inode %d: root has mode %#o", inoRoot, in.Mode)
	}
	if name == "." {
		return in, nil
	}
	if checkPath(name) != nil {
		return nil, fs.ErrInvalid
	}
	for part := range strings.SplitSeq(name, "/") {
		if in.Mode&modeType != modeDir {
			return nil, fs.ErrNotExist
		}
		l, err := f.list(in)
		if err != nil {
			return nil, err
		}
		i, ok := l.names[part]
		if !ok {
			return nil, fs.ErrNotExist
		}
		if in, err = f.child(in.Ino, l.entries[i]); err != nil {
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
	return &fileInfo{path.Base(name), &in.Node}, nil
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
	target, err := f.readLink(in)
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

func (f *FS) dirEntries(name string, in *diskInode) ([]fs.DirEntry, error) {
	if in.Mode&modeType != modeDir {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: errors.New("not a directory")}
	}
	l, err := f.list(in)
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}
	list := make([]fs.DirEntry, len(l.entries))
	for i, e := range l.entries {
		list[i] = &dirEntry{f, in.Ino, e}
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return list, nil
}

// Open opens a regular file (a [*File]) or a directory (an [fs.ReadDirFile]).
// Symbolic links and special files cannot be opened.
func (f *FS) Open(name string) (fs.File, error) {
	in, err := f.walk("open", name)
	if err != nil {
		return nil, err
	}
	info := fileInfo{path.Base(name), &in.Node}
	switch in.Mode & modeType {
	case modeDir:
		list, err := f.dirEntries(name, in)
		if err != nil {
			return nil, err
		}
		return &openDir{info: info, list: list}, nil
	case modeRegular:
		if err := in.readable(); err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		m := &extentMap{fs: f, in: in}
		body := bodyReader{m, name}
		return &File{io.NewSectionReader(body, 0, in.Size), info, body}, nil
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("not a regular file or directory")}
}

// Resolve follows symbolic links in name, inside the image: absolute targets start
// at its root and ".." stops there. The result names no link.
func (f *FS) Resolve(name string) (string, error) {
	done, rest := ".", strings.Split(path.Clean("/" + name)[1:], "/")
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
		in, err := f.walk("resolving", next)
		if err != nil {
			return "", err
		}
		if in.Mode&modeType != modeSymlink {
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
		rest = append(strings.Split(target, "/"), rest...)
	}
	return done, nil
}

// File is an open regular file. ReadAt may be used concurrently.
type File struct {
	*io.SectionReader
	info fileInfo
	body bodyReader
}

// Stat implements [fs.File].
func (f *File) Stat() (fs.FileInfo, error) { return &f.info, nil }

// Close implements [fs.File]; there is nothing to release.
func (f *File) Close() error { return nil }

// bodyReader reads inside the file's size; the SectionReader sees to that.
type bodyReader struct {
	m    *extentMap
	name string
}

func (b bodyReader) ReadAt(p []byte, off int64) (int, error) {
	if err := b.m.read(p, off); err != nil {
		return 0, &fs.PathError{Op: "read", Path: b.name, Err: fmt.Errorf("inode %d: %w", b.m.in.Ino, err)}
	}
	return len(p), nil
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

type dirEntry struct {
	fs  *FS
	dir uint32
	e   dirent
}

func (d *dirEntry) Name() string      { return d.e.name }
func (d *dirEntry) IsDir() bool       { return d.Type().IsDir() }
func (d *dirEntry) Type() fs.FileMode { return goMode(direntMode(d.e.kind)).Type() }

func (d *dirEntry) Info() (fs.FileInfo, error) {
	in, err := d.fs.child(d.dir, d.e)
	if err != nil {
		return nil, &fs.PathError{Op: "stat", Path: d.e.name, Err: err}
	}
	return &fileInfo{d.e.name, &in.Node}, nil
}

func direntMode(kind uint8) uint32 {
	for t, k := range direntTypes {
		if k == kind && k != 0 {
			return uint32(t) << 12
		}
	}
	return 0
}

type fileInfo struct {
	name string
	node *Node
}

func (i *fileInfo) Name() string       { return i.name }
func (i *fileInfo) Size() int64        { return i.node.Size }
func (i *fileInfo) Mode() fs.FileMode  { return goMode(i.node.Mode) }
func (i *fileInfo) ModTime() time.Time { return i.node.ModTime }
func (i *fileInfo) IsDir() bool        { return i.Mode().IsDir() }
func (i *fileInfo) Sys() any           { return i.node }

// goMode turns st_mode into Go's form.
func goMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	switch mode & modeType {
	case modeDir:
		m |= fs.ModeDir
	case modeSymlink:
		m |= fs.ModeSymlink
	case modeFIFO:
		m |= fs.ModeNamedPipe
	case modeSocket:
		m |= fs.ModeSocket
	case modeBlock:
		m |= fs.ModeDevice
	case modeChar:
		m |= fs.ModeDevice | fs.ModeCharDevice
	case modeRegular:
	default:
		m |= fs.ModeIrregular
	}
	for _, b := range []struct {
		bit uint32
		go_ fs.FileMode
	}{{0o4000, fs.ModeSetuid}, {0o2000, fs.ModeSetgid}, {0o1000, fs.ModeSticky}} {
		if mode&b.bit != 0 {
			m |= b.go_
		}
	}
	return m
}
