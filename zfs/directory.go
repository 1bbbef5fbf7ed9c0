package zfs

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kldload/kldload/zfs/internal/ondisk"
	"github.com/kldload/kldload/zfs/internal/sa"
	"github.com/kldload/kldload/zfs/internal/zap"
)

// directory is a directory being filled.
type directory struct {
	fs      *filesystem
	object  uint64
	attrs   sa.Attrs
	slots   int
	parent  *directory
	path    string
	entries []dirEntry
	subdirs uint64
	byName  map[string]int // made when it is first needed
}

// dirEntry is a name with the value of its ZAP entry.
type dirEntry struct {
	name  string
	value uint64
}

// objectOf is the entry's object (ZFS_DIRENT_OBJ).
func (e dirEntry) objectOf() uint64 { return e.value & (1<<48 - 1) }

func (d *directory) add(name string, mode uint64, object uint64) {
	if d.byName != nil {
		d.byName[name] = len(d.entries)
	}
	d.entries = append(d.entries, dirEntry{name, mode>>12<<entryTypeShift | object})
}

// find looks an entry up.
func (d *directory) find(name string) (dirEntry, bool) {
	if d.byName == nil {
		d.byName = make(map[string]int, len(d.entries))
		for i, e := range d.entries {
			d.byName[e.name] = i
		}
	}
	i, ok := d.byName[name]
	if !ok {
		return dirEntry{}, false
	}
	return d.entries[i], true
}

// newDirectory numbers a directory; its dnode is as large as any it may need,
// because its attributes may still change.
func (fs *filesystem) newDirectory(parent *directory, path string, a sa.Attrs) *directory {
	d := &directory{fs: fs, parent: parent, path: path, attrs: a, slots: 1}
	if len(a.Xattrs) > 0 {
		d.slots = fs.options.MaxSlots
	}
	d.object = fs.set.newObject(lasting, d.slots)
	d.attrs.Parent = d.object
	if parent != nil {
		d.attrs.Parent = parent.object
	}
	fs.dirs = append(fs.dirs, d)
	return d
}

// child makes a directory and its entry.
func (d *directory) child(name, path string, a sa.Attrs) *directory {
	c := d.fs.newDirectory(d, path, a)
	d.add(name, a.Mode, c.object)
	d.subdirs++
	return c
}

func (d *directory) close() error {
	a := d.attrs
	a.Size, a.Links, a.Gen = uint64(len(d.entries))+2, d.subdirs+2, birthTxg
	inDir := d.fs.splitXattrs(&a)
	enc, err := d.fs.encodeIn(d.slots, a)
	if err != nil {
		return fmt.Errorf("%q: %w", d.path, err)
	}
	entries := make([]zap.Entry, len(d.entries))
	for i, e := range d.entries {
		entries[i] = zap.Uint64(e.name, e.value)
	}
	d.entries, d.byName = nil, nil
	if err := d.fs.begin(d.path, d.object, ondisk.TypeDirectory, &a, enc).putZAP(entries); err != nil {
		return err
	}
	return d.fs.putXattrDir(d.object, d.path, &a, inDir)
}

// xattrSA is the stored value of xattr=sa (ZFS_XATTR_SA).
const xattrSA = 2

// splitXattrs takes out of the attributes the extended ones that do not fit
// among the system attributes, and numbers the directory they go to.
func (fs *filesystem) splitXattrs(a *sa.Attrs) (inDir map[string][]byte) {
	if fs.settings.xattr == xattrSA {
		a.Xattrs, inDir = sa.SplitXattrs(a.Xattrs)
	} else {
		a.Xattrs, inDir = nil, a.Xattrs
	}
	if len(inDir) > 0 {
		a.XattrObj = fs.set.newObject(lasting, 1)
	}
	return inDir
}

// putXattrDir writes the hidden directory that splitXattrs numbered, of the
// object owner; nothing when there is none.
func (fs *filesystem) putXattrDir(owner uint64, path string, a *sa.Attrs, xattrs map[string][]byte) error {
	if len(xattrs) == 0 {
		return nil
	}
	number := a.XattrObj
	names := make([]string, 0, len(xattrs))
	for name := range xattrs {
		names = append(names, name)
	}
	slices.Sort(names)
	dir := *a
	dir.Mode, dir.Size, dir.Links, dir.Parent = modeDir|0o1777, uint64(len(names))+2, 2, owner
	dir.Flags, dir.Xattrs, dir.XattrObj, dir.Symlink, dir.Rdev = sa.FlagXattr, nil, 0, "", 0
	enc, err := fs.encodeIn(1, dir)
	if err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	var entries []zap.Entry
	for _, name := range names {
		file := dir
		file.Mode, file.Size, file.Links, file.Parent = modeRegular|0o644, uint64(len(xattrs[name])), 1, number
		o, err := fs.newFile(path+" "+name, ondisk.TypePlainFile, &file)
		if err != nil {
			return err
		}
		if err := o.putContent(strings.NewReader(string(xattrs[name])), int64(len(xattrs[name]))); err != nil {
			return err
		}
		entries = append(entries, zap.Uint64(name, modeRegular>>12<<entryTypeShift|o.number))
	}
	return fs.begin(path, number, ondisk.TypeDirectory, &dir, enc).putZAP(entries)
}
