package fat

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sort"
	"strings"
	"time"
)

// FS is a file system read. Names are found in any case and listed as stored.
type FS struct {
	r     io.ReaderAt
	g     geometry
	root  *entry
	label string // of the root directory
}

var (
	_ fs.ReadDirFS  = (*FS)(nil)
	_ fs.ReadFileFS = (*FS)(nil)
	_ fs.StatFS     = (*FS)(nil)
	_ io.ReaderAt   = (*file)(nil)
	_ io.Seeker     = (*file)(nil)
)

// Type is FAT12, FAT16 or FAT32.
func (f *FS) Type() Type { return f.g.typ }

// VolumeID is the serial number.
func (f *FS) VolumeID() uint32 { return f.g.volumeID }

// Label is the volume label of the root directory, else of the boot sector;
// empty when there is none.
func (f *FS) Label() string {
	if f.label != "" {
		return f.label
	}
	if string(f.g.label[:]) == noLabel {
		return ""
	}
	return strings.TrimRight(oem(f.g.label[:]), " \x00")
}

func (f *FS) find(op, name string) (*entry, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	e := f.root
	if name == "." {
		return e, nil
	}
	for part := range strings.SplitSeq(name, "/") {
		if e = e.index[fold(part)]; e == nil {
			return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
		}
	}
	return e, nil
}

// Open opens a file or directory. A file follows its cluster chain here, and
// implements io.ReaderAt and io.Seeker too.
func (f *FS) Open(name string) (fs.File, error) {
	e, err := f.find("open", name)
	if err != nil {
		return nil, err
	}
	if e.dir {
		return &dir{e: e}, nil
	}
	c, err := f.chain(e)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return &file{io.NewSectionReader(c, 0, int64(e.size)), e}, nil
}

// Stat describes a file or directory.
func (f *FS) Stat(name string) (fs.FileInfo, error) {
	e, err := f.find("stat", name)
	if err != nil {
		return nil, err
	}
	return info{e}, nil
}

// ReadDir lists a directory by name.
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	e, err := f.find("readdir", name)
	if err != nil {
		return nil, err
	}
	if !e.dir {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: errors.New("not a directory")}
	}
	return (&dir{e: e}).ReadDir(-1)
}

// ReadFile reads a whole file, of up to 4 GiB and never more than the volume.
func (f *FS) ReadFile(name string) ([]byte, error) {
	e, err := f.find("read", name)
	if err == nil && e.dir {
		err = &fs.PathError{Op: "read", Path: name, Err: errors.New("is a directory")}
	}
	if err != nil {
		return nil, err
	}
	c, err := f.chain(e)
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: err}
	}
	b := make([]byte, e.size)
	if n, err := c.ReadAt(b, 0); n < len(b) {
		return nil, &fs.PathError{Op: "read", Path: name, Err: unexpected(err)}
	}
	return b, nil
}

// extents is a file's content as runs of bytes on the volume.
type extents struct {
	r    io.ReaderAt
	runs []extent
	size int64
}

type extent struct{ at, to, length int64 } // in the file, on the volume

// chain follows the clusters of a file. They must be as many as its size wants
// and end there, which also rules out loops.
func (f *FS) chain(e *entry) (*extents, error) {
	cb := f.g.clusterBytes()
	x := &extents{r: f.r, size: int64(e.size)}
	want := (x.size + cb - 1) / cb
	if want == 0 {
		return x, nil
	}
	if want > f.g.clusters {
		return nil, fmt.Errorf("entry at offset %d: size %d wants %d clusters of the volume's %d", e.at, e.size, want, f.g.clusters)
	}
	if err := f.g.inRange(e.start); err != nil {
		return nil, fmt.Errorf("entry at offset %d: %w", e.at, err)
	}
	walk := f.walkChain()
	for c, n := e.start, int64(1); ; n++ {
		x.add(f.g.clusterOffset(c), cb)
		next, last, err := walk.after(c)
		switch {
		case err != nil:
			return nil, err
		case last && n < want:
			return nil, fmt.Errorf("entry at offset %d: size %d wants %d clusters, the chain ends after %d", e.at, e.size, want, n)
		case last:
			return x, nil
		case n == want:
			return nil, fmt.Errorf("entry at offset %d: size %d wants %d clusters, the chain goes on to cluster %d (a loop or a wrong size)", e.at, e.size, want, next)
		}
		c = next
	}
}

func (x *extents) add(to, length int64) {
	var at int64
	if n := len(x.runs); n > 0 {
		last := &x.runs[n-1]
		if last.to+last.length == to {
			last.length += length
			return
		}
		at = last.at + last.length
	}
	x.runs = append(x.runs, extent{at, to, length})
}

// ReadAt reads up to the file's size.
func (x *extents) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 || off >= x.size {
		return 0, io.EOF
	}
	want := len(p)
	p = p[:min(int64(want), x.size-off)]
	i := sort.Search(len(x.runs), func(i int) bool { return off < x.runs[i].at+x.runs[i].length })
	for ; n < len(p); i++ {
		run := x.runs[i]
		skip := off + int64(n) - run.at
		part := p[n:min(int64(len(p)), int64(n)+run.length-skip)]
		if err := readFull(x.r, part, run.to+skip); err != nil {
			return n, err
		}
		n += len(part)
	}
	if n < want {
		return n, io.EOF
	}
	return n, nil
}

type file struct {
	*io.SectionReader
	e *entry
}

func (f *file) Stat() (fs.FileInfo, error) { return info{f.e}, nil }
func (f *file) Close() error               { return nil }

type dir struct {
	e    *entry
	next int
}

func (d *dir) Stat() (fs.FileInfo, error) { return info{d.e}, nil }
func (d *dir) Close() error               { return nil }

func (d *dir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.e.name, Err: errors.New("is a directory")}
}

func (d *dir) ReadDir(n int) ([]fs.DirEntry, error) {
	rest := d.e.children[d.next:]
	if n > 0 {
		if len(rest) == 0 {
			return nil, io.EOF
		}
		rest = rest[:min(n, len(rest))]
	}
	d.next += len(rest)
	list := make([]fs.DirEntry, 0, len(rest))
	for _, c := range rest {
		list = append(list, fs.FileInfoToDirEntry(info{c}))
	}
	return list, nil
}

// info describes an entry: mode 0755 or 0644, without write bits when read-only.
type info struct{ e *entry }

func (i info) Name() string       { return i.e.name }
func (i info) Size() int64        { return int64(i.e.size) }
func (i info) ModTime() time.Time { return i.e.mod }
func (i info) IsDir() bool        { return i.e.dir }
func (i info) Sys() any           { return nil }

func (i info) Mode() fs.FileMode {
	mode := fs.FileMode(0o644)
	if i.e.dir {
		mode = fs.ModeDir | 0o755
	}
	if i.e.readOnly {
		mode &^= 0o222
	}
	return mode
}
