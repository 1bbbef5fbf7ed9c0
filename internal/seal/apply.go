package seal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// Apply seals the tree at dir. It must run as root of the tree's ids, and
// never leaves the tree, whatever its symbolic links say.
//
// Everything that goes is removed first; then each file appears whole in its
// place. A run that is interrupted and run again ends where one run would
// have.
func Apply(dir string, opts Options) ([]Result, error) {
	return apply(dir, opts, func(string, string) error { return nil })
}

// apply calls before with each operation and its name before it is done.
func apply(dir string, opts Options, before func(op, name string) error) ([]Result, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("sealing: %w", err)
	}
	defer root.Close()
	plan, err := NewPlan(root.FS().(FS), opts)
	if err != nil {
		return nil, err
	}
	x := executor{root, opts.Live, before}
	for _, c := range plan.changes {
		if c.file != nil {
			continue
		}
		if err := x.remove(c.path); err != nil {
			return nil, fmt.Errorf("sealing: removing: %w", err)
		}
	}
	for _, f := range plan.Files() {
		if err := x.put(f); err != nil {
			return nil, fmt.Errorf("sealing: %s: writing %q: %w", f.Item, f.Path, err)
		}
	}
	return plan.Results, nil
}

// executor carries out a plan.
type executor struct {
	root   *os.Root
	sync   bool
	before func(op, name string) error
}

// remove takes a name away with all below it, children first. That it is gone
// already is fine.
func (x *executor) remove(name string) error {
	info, err := x.root.Lstat(name)
	if err != nil {
		return unlessAbsent(err)
	}
	if info.IsDir() {
		entries, err := fs.ReadDir(x.root.FS(), name)
		if err != nil {
			return unlessAbsent(err)
		}
		for _, e := range entries {
			if err := x.remove(path.Join(name, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := x.before("remove", name); err != nil {
		return err
	}
	if err := unlessAbsent(x.root.Remove(name)); err != nil {
		return err
	}
	return x.syncFolder(path.Dir(name))
}

// put makes a folder, or a file under another name that it then takes off.
func (x *executor) put(f File) error {
	if f.Mode.IsDir() {
		return x.makeFolder(f)
	}
	part := f.Path + partSuffix
	steps := []struct {
		op string
		do func() error
	}{
		{"create", func() error { return x.create(part, f.Content) }},
		{"attributes", func() error { return x.attributes(part, f) }},
		{"rename", func() error { return x.root.Rename(part, f.Path) }},
	}
	for _, s := range steps {
		if err := x.before(s.op, part); err != nil {
			return err
		}
		if err := s.do(); err != nil {
			return err
		}
	}
	return x.syncFolder(path.Dir(f.Path))
}

func (x *executor) makeFolder(f File) error {
	if err := x.before("mkdir", f.Path); err != nil {
		return err
	}
	err := x.root.Mkdir(f.Path, 0o700)
	return errors.Join(err, x.chown(f.Path, f), x.root.Chmod(f.Path, f.Mode.Perm()), x.syncFolder(path.Dir(f.Path)))
}

// create writes a file that nobody else can read.
func (x *executor) create(name, content string) error {
	if err := unlessAbsent(x.root.Remove(name)); err != nil {
		return err
	}
	f, err := x.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	return errors.Join(err, f.Close())
}

// attributes gives the new file what the old one has: of one that is edited
// all extended attributes, of one that is replaced its SELinux label.
func (x *executor) attributes(part string, f File) error {
	if err := x.chown(part, f); err != nil {
		return err
	}
	if err := x.root.Chmod(part, f.Mode); err != nil {
		return err
	}
	to, err := x.root.Open(part)
	if err != nil {
		return err
	}
	err = x.copyXattrs(to, f)
	if err == nil && x.sync {
		err = to.Sync()
	}
	return errors.Join(err, to.Close())
}

func (x *executor) copyXattrs(to *os.File, f File) error {
	if info, err := x.root.Lstat(f.Path); err != nil || !info.Mode().IsRegular() {
		return unlessAbsent(err)
	}
	from, err := x.root.Open(f.Path)
	if err != nil {
		return err
	}
	defer from.Close()
	list := make([]byte, 64<<10) // XATTR_LIST_MAX, as is XATTR_SIZE_MAX: xattr(7)
	n, err := unix.Flistxattr(int(from.Fd()), list)
	if errors.Is(err, unix.ENOTSUP) || n == 0 && err == nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("listing extended attributes: %w", err)
	}
	value := make([]byte, 64<<10)
	for name := range strings.SplitSeq(strings.TrimRight(string(list[:n]), "\x00"), "\x00") {
		if !f.Edit && name != "security.selinux" {
			continue
		}
		n, err := unix.Fgetxattr(int(from.Fd()), name, value)
		if err == nil {
			err = unix.Fsetxattr(int(to.Fd()), name, value[:n], 0)
		}
		if err != nil {
			return fmt.Errorf("copying extended attribute %s: %w", name, err)
		}
	}
	return nil
}

// chown changes an owner that is another.
func (x *executor) chown(name string, f File) error {
	info, err := x.root.Lstat(name)
	if err != nil {
		return err
	}
	if have, err := ownerOf(name, info); err != nil || have == (owner{f.UID, f.GID}) {
		return err
	}
	return x.root.Lchown(name, int(f.UID), int(f.GID))
}

// syncFolder makes the names of a folder last.
func (x *executor) syncFolder(name string) error {
	if !x.sync {
		return nil
	}
	d, err := x.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
