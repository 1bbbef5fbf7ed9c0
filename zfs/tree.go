package zfs

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/kldload/kldload/zfs/internal/ondisk"
)

var (
	_ fs.ReadDirFS  = (*Tree)(nil)
	_ fs.StatFS     = (*Tree)(nil)
	_ fs.ReadLinkFS = (*Tree)(nil)
)

// Tree is the files of a whole system: a root file system with the others
// joined at their mountpoints, as a boot does. It has the methods of [FS].
type Tree struct {
	mounts []treeMount // the deepest first, "." last
	// made are the directories that lead to mountpoints and are in no file
	// system; a boot makes them.
	made map[string]bool
}

// Mount says where a dataset lies in a tree.
type Mount struct {
	Path    string // clean and relative, "." for the root
	Dataset string
}

type treeMount struct {
	Mount
	fs  *FS
	err error // why its files cannot be read
}

// Tree joins the file systems of the system whose root is the dataset of that
// name, "" for the pool's bootfs: every other one with canmount=on and a path as
// its mountpoint. If root is a snapshot, the others are their snapshots of
// that name, where they have one. Files of encrypted file systems give
// [ErrEncrypted].
func (p *Pool) Tree(root string) (*Tree, error) {
	if root == "" {
		if root = p.props["bootfs"]; root == "" {
			return nil, fmt.Errorf("zfs: the pool %q has no bootfs: want the name of a root file system", p.Name())
		}
	}
	f, err := p.Dataset(root)
	if err != nil {
		return nil, err
	}
	t := &Tree{mounts: []treeMount{{Mount{".", root}, f, nil}}, made: map[string]bool{}}
	name, snap, _ := strings.Cut(root, "@")
	for _, d := range p.mountOrder(name) {
		if err := p.join(t, d, snap); err != nil {
			return nil, fmt.Errorf("zfs: joining dataset %q: %w", d.name, err)
		}
	}
	return t, nil
}

// mountOrder is the datasets that a boot mounts, but root, by mountpoint.
func (p *Pool) mountOrder(root string) []*dirNode {
	var all []*dirNode
	for _, d := range p.dirs {
		if m := d.mountpoint(); !d.internal && d.set != nil && d.name != root && d.canMount() && strings.HasPrefix(m, "/") && m != "/" {
			all = append(all, d)
		}
	}
	slices.SortStableFunc(all, func(a, b *dirNode) int { return strings.Compare(a.mountpoint(), b.mountpoint()) })
	return all
}

// join mounts a dataset, or its snapshot of that name.
func (p *Pool) join(t *Tree, d *dirNode, snap string) error {
	s := d.set
	if snap != "" {
		if s = p.findSet(d.name + "@" + snap); s == nil {
			return nil
		}
	}
	if !d.encrypted {
		set, err := p.dev.openObjset(s.name, &s.bp)
		if err != nil {
			return err
		}
		if set.phys.Type == ondisk.ObjsetZVOL {
			return nil
		}
	}
	f, err := p.openFS(s)
	if err != nil && !errors.Is(err, ErrEncrypted) {
		return err
	}
	at, resolved := t.place(d.mountpoint())
	if resolved != nil {
		return resolved
	}
	if m := t.mounts[t.find(at)]; m.Path == at {
		return fmt.Errorf("%q is mounted at %q too", m.Dataset, "/"+at)
	}
	t.mounts = slices.Insert(t.mounts, 0, treeMount{Mount{at, s.name}, f, err})
	slices.SortStableFunc(t.mounts, func(a, b treeMount) int { return pathDepth(b.Path) - pathDepth(a.Path) })
	return nil
}

func pathDepth(p string) int {
	if p == "." {
		return 0
	}
	return 1 + strings.Count(p, "/")
}

// place finds where a mountpoint is, links followed, and makes what is missing
// on the way.
func (t *Tree) place(mountpoint string) (string, error) {
	at := path.Clean(mountpoint)[1:]
	real, err := t.Resolve(at)
	if err == nil {
		info, err := t.Lstat(real)
		if err == nil && !info.IsDir() {
			err = fmt.Errorf("its mountpoint %q is no directory", mountpoint)
		}
		return real, err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	for up := at; up != "."; up = path.Dir(up) {
		if _, err := t.Lstat(up); err == nil {
			break
		}
		t.made[up] = true
	}
	return at, nil
}

// find gives the index of the mount that a name is in.
func (t *Tree) find(name string) int {
	return slices.IndexFunc(t.mounts, func(m treeMount) bool {
		return m.Path == "." || name == m.Path || strings.HasPrefix(name, m.Path+"/")
	})
}

// Mounts lists the file systems of the tree by path.
func (t *Tree) Mounts() []Mount {
	var all []Mount
	for _, m := range t.mounts {
		all = append(all, m.Mount)
	}
	slices.SortFunc(all, func(a, b Mount) int { return strings.Compare(a.Path, b.Path) })
	return all
}

// inside finds the file system of a name, and the name there.
func (t *Tree) inside(op, name string) (*FS, string, error) {
	if !fs.ValidPath(name) {
		return nil, "", &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	m := t.mounts[t.find(name)]
	if m.err != nil {
		return nil, "", &fs.PathError{Op: op, Path: name, Err: fmt.Errorf("%q: %w", m.Dataset, m.err)}
	}
	switch m.Path {
	case ".":
		return m.fs, name, nil
	case name:
		return m.fs, ".", nil
	}
	return m.fs, name[len(m.Path)+1:], nil
}

// rename puts the name in the tree in place of that in a file system.
func rename(err error, name string) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return &fs.PathError{Op: p.Op, Path: name, Err: p.Err}
	}
	return err
}

// madeDir describes a directory that no file system has.
func (t *Tree) madeDir(name string) (*Node, bool) {
	if !t.made[name] || t.mounts[t.find(name)].Path == name {
		return nil, false
	}
	return &Node{Header: Header{Path: name, Mode: modeDir | 0o755}, Links: 2}, true
}

// Node gives all there is to know of a file but its content.
func (t *Tree) Node(name string) (*Node, error) {
	if n, ok := t.madeDir(name); ok {
		return n, nil
	}
	f, rest, err := t.inside("reading", name)
	if err != nil {
		return nil, err
	}
	n, err := f.Node(rest)
	if err != nil {
		return nil, rename(err, name)
	}
	n.Path = name
	return n, nil
}

// Xattrs gives the extended attributes of a file by full name.
func (t *Tree) Xattrs(name string) (map[string][]byte, error) {
	if _, ok := t.madeDir(name); ok {
		return nil, nil
	}
	f, rest, err := t.inside("reading attributes of", name)
	if err != nil {
		return nil, err
	}
	set, err := f.Xattrs(rest)
	return set, rename(err, name)
}

// Lstat describes a file; Sys of the result is a [*Node].
func (t *Tree) Lstat(name string) (fs.FileInfo, error) {
	if n, ok := t.madeDir(name); ok {
		return &fileInfo{path.Base(name), n, nil}, nil
	}
	f, rest, err := t.inside("stat", name)
	if err != nil {
		return nil, err
	}
	info, err := f.Lstat(rest)
	if err != nil {
		return nil, rename(err, name)
	}
	return &fileInfo{path.Base(name), info.Sys().(*Node), nil}, nil
}

// Stat is Lstat: it does not follow symbolic links.
func (t *Tree) Stat(name string) (fs.FileInfo, error) { return t.Lstat(name) }

// ReadLink gives the target of a symbolic link.
func (t *Tree) ReadLink(name string) (string, error) {
	f, rest, err := t.inside("readlink", name)
	if err != nil {
		return "", err
	}
	target, err := f.ReadLink(rest)
	return target, rename(err, name)
}

// Resolve follows symbolic links in name, from one file system to another.
func (t *Tree) Resolve(name string) (string, error) { return resolve(t, name) }

// ReadDir lists a directory by name, mountpoints included.
func (t *Tree) ReadDir(name string) ([]fs.DirEntry, error) {
	var all []fs.DirEntry
	if _, ok := t.madeDir(name); !ok {
		f, rest, err := t.inside("readdir", name)
		if err != nil {
			return nil, err
		}
		if all, err = f.ReadDir(rest); err != nil {
			return nil, rename(err, name)
		}
	}
	for _, m := range t.mounts {
		all = t.overlay(all, name, m.Path)
	}
	for dir := range t.made {
		all = t.overlay(all, name, dir)
	}
	slices.SortFunc(all, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return all, nil
}

// overlay puts the entry of a mountpoint in place of what it hides.
func (t *Tree) overlay(all []fs.DirEntry, dir, mountpoint string) []fs.DirEntry {
	if mountpoint == "." || path.Dir(mountpoint) != dir {
		return all
	}
	e := &mountEntry{t, mountpoint}
	i := slices.IndexFunc(all, func(d fs.DirEntry) bool { return d.Name() == e.Name() })
	if i < 0 {
		return append(all, e)
	}
	all[i] = e
	return all
}

// mountEntry is the entry of a mountpoint in the directory above.
type mountEntry struct {
	tree *Tree
	path string
}

func (e *mountEntry) Name() string               { return path.Base(e.path) }
func (e *mountEntry) IsDir() bool                { return true }
func (e *mountEntry) Type() fs.FileMode          { return fs.ModeDir }
func (e *mountEntry) Info() (fs.FileInfo, error) { return e.tree.Lstat(e.path) }

// Open opens a regular file (a [*File]) or a directory (an [fs.ReadDirFile]).
func (t *Tree) Open(name string) (fs.File, error) {
	if n, ok := t.madeDir(name); ok {
		list, err := t.ReadDir(name)
		return &openDir{fileInfo{path.Base(name), n, nil}, list}, err
	}
	f, rest, err := t.inside("open", name)
	if err != nil {
		return nil, err
	}
	o, err := f.Open(rest)
	if err != nil {
		return nil, rename(err, name)
	}
	switch o := o.(type) {
	case *openDir:
		o.info.name = path.Base(name)
		o.list, err = t.ReadDir(name)
		return o, err
	case *File:
		o.body.name, o.info.name = name, path.Base(name)
	}
	return o, nil
}
