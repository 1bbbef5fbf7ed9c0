package zfs

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kldload/kldload/zfs/internal/ondisk"
	"github.com/kldload/kldload/zfs/internal/sa"
	"github.com/kldload/kldload/zfs/internal/zap"
)

// zplVersion is that of the file systems written here (ZPL_VERSION).
const zplVersion = 5

// Types of directory entries, in their top four bits (sys/zfs_znode.h); they
// are st_mode's type bits shifted.
const entryTypeShift = 60

// filesystem is one dataset being filled. Its directories and entries belong
// to the writer's caller, its objset to the pipe.
type filesystem struct {
	name     string
	own      parsedProperties
	settings settings
	pipe     *pipe
	set      *objset
	options  sa.EncodeOptions
	salt     func() uint64

	root  *directory
	dirs  []*directory
	links map[uint64]uint64 // of objects that have more than one
}

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

// The fixed objects of a file system: the master node must be the first, the
// others are found from it.
const (
	masterObject   = 1
	saMaster       = 2
	saRegistry     = 3
	saLayouts      = 4
	deleteQueue    = 5
	rootDirectory  = 6
	rootPermission = 0o755
)

// newFilesystem makes an empty file system; its root gets its attributes from
// the tree, or these.
func newFilesystem(name string, s settings, own parsedProperties, p *pipe, set *objset, o sa.EncodeOptions, epoch time.Time, salt func() uint64) *filesystem {
	fs := &filesystem{name: name, settings: s, own: own, pipe: p, set: set, options: o, salt: salt, links: map[uint64]uint64{}}
	for n := uint64(masterObject); n < rootDirectory; n++ {
		set.numbers.take(lasting, 1)
	}
	fs.root = fs.newDirectory(nil, "", sa.Attrs{Mode: modeDir | rootPermission, MTime: saTime(epoch), ATime: saTime(epoch), CTime: saTime(epoch)})
	return fs
}

// Bits of st_mode (POSIX, sys/stat.h as Linux has it).
const (
	modeType    = 0o170000
	modeFIFO    = 0o010000
	modeChar    = 0o020000
	modeDir     = 0o040000
	modeBlock   = 0o060000
	modeRegular = 0o100000
	modeSymlink = 0o120000
	modeSocket  = 0o140000
)

func saTime(t time.Time) sa.Time { return sa.Time{Sec: t.Unix(), Nsec: int64(t.Nanosecond())} }

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

// object is a dnode that waits for its blocks; it belongs to the committer
// once its first block is put.
type object struct {
	fs     *filesystem
	number uint64
	typ    ondisk.ObjectType
	path   string
	attrs  sa.Encoded
	uid    uint64
	gid    uint64

	blockSize int
	blocks    int64
	tree      *blockTree
	used      uint64
	spill     *ondisk.BlockPtr
}

// newFile numbers an object for a file with its attributes, and puts its spill
// block, if any, on its way.
func (fs *filesystem) newFile(path string, typ ondisk.ObjectType, a *sa.Attrs) (*object, error) {
	enc, err := sa.Encode(*a, fs.options)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", path, err)
	}
	return fs.begin(path, fs.set.newObject(passing, enc.Slots), typ, a, enc), nil
}

func (fs *filesystem) begin(path string, number uint64, typ ondisk.ObjectType, a *sa.Attrs, enc sa.Encoded) *object {
	o := &object{fs: fs, number: number, typ: typ, path: path, attrs: enc, uid: a.UID, gid: a.GID, blockSize: ondisk.SectorSize}
	if len(enc.Spill) > 0 {
		o.putSpill()
	}
	return o
}

func (o *object) putSpill() {
	n := (len(o.attrs.Spill) + ondisk.SectorSize - 1) &^ (ondisk.SectorSize - 1)
	j := o.fs.pipe.job(n)
	clear(j.data[copy(j.data, o.attrs.Spill):])
	j.set, j.path, j.typ, j.fill = o.fs.set, o.path, ondisk.TypeSA, 1
	j.copies, j.method, j.keep = o.fs.metaCopies(), o.fs.set.metaMethod, true
	j.then = func(ptr ondisk.BlockPtr) error {
		o.spill = &ptr
		o.used += ptr.ASize()
		return nil
	}
	o.fs.pipe.put(j)
}

// metaCopies is one more than data has (redundant_metadata=all).
func (fs *filesystem) metaCopies() int { return min(fs.settings.copies+1, maxCopies) }

// plan settles the shape of the object's content.
func (o *object) plan(blockSize int, blocks int64) {
	o.blockSize, o.blocks = blockSize, blocks
	o.tree = newBlockTree(o.fs.pipe, o.fs.set, o.typ, o.fs.metaCopies(), treeLevels(blocks, 1))
}

// put sends the next block of content; last ends the object.
func (o *object) put(j *job, last bool) {
	j.set, j.path, j.typ, j.fill = o.fs.set, o.path, o.typ, 1
	j.then = func(ptr ondisk.BlockPtr) error {
		o.used += ptr.ASize()
		if err := o.tree.add(0, &ptr); err != nil || !last {
			return err
		}
		return o.finish()
	}
	o.fs.pipe.put(j)
}

// finish makes the dnode; on the committer.
func (o *object) finish() error {
	d := ondisk.Dnode{
		Type: o.typ, IndirectShift: ondisk.IndirectShift, Levels: 1, BonusType: ondisk.TypeSA, BlockSize: o.blockSize,
		Slots: o.attrs.Slots, Bonus: o.attrs.Bonus, Spill: o.spill, Flags: o.fs.set.accounting.dnodeFlags(),
	}
	if o.tree != nil {
		ptrs, err := o.tree.finish()
		if err != nil {
			return err
		}
		d.Pointers, d.Levels, d.MaxBlock = ptrs, uint8(o.tree.levels), uint64(o.blocks-1)
		o.used += o.tree.used
	} else {
		d.Pointers = make([]ondisk.BlockPtr, 1)
	}
	d.Used = o.used
	o.fs.set.accounting.add(o.uid, o.gid, o.used)
	return o.fs.set.setDnode(o.number, &d)
}

// end finishes an object without content.
func (o *object) end() { o.fs.pipe.do(o.finish) }

// putContent reads a file's body into blocks. A body that ends early or goes
// on is an error.
func (o *object) putContent(body io.Reader, size int64) error {
	record := int64(o.fs.settings.recordSize)
	if size == 0 {
		o.end()
		return wantEnd(body, o.path, size)
	}
	blockSize := min(record, (size+ondisk.SectorSize-1)&^(ondisk.SectorSize-1))
	o.plan(int(blockSize), (size+blockSize-1)/blockSize)
	in := newBlockReader(body)
	for at := int64(0); at < size; {
		holes, err := in.holes(blockSize, size-at)
		if err != nil {
			return bodyError(o.path, at, size, err)
		}
		if holes > 0 {
			at += holes * blockSize
			o.putHoles(holes, at >= size)
			continue
		}
		j := o.fs.pipe.job(int(blockSize))
		n := min(blockSize, size-at)
		if got, err := in.fill(j.data[:n]); err != nil {
			return bodyError(o.path, at+int64(got), size, err)
		}
		clear(j.data[n:])
		j.method, j.copies, j.embed = o.fs.settings.method, o.fs.settings.copies, true
		at += n
		o.put(j, at >= size)
	}
	return wantEnd(body, o.path, size)
}

// putHoles passes over blocks that are holes.
func (o *object) putHoles(n int64, last bool) {
	o.fs.pipe.do(func() error {
		var hole ondisk.BlockPtr
		for ; n > 0; n-- {
			if err := o.tree.add(0, &hole); err != nil {
				return err
			}
		}
		if last {
			return o.finish()
		}
		return nil
	})
}

func bodyError(path string, at, size int64, err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("writing %q: its body ends after %d bytes: its size is %d", path, at, size)
	}
	return fmt.Errorf("reading the content of %q at %d: %w", path, at, err)
}

func wantEnd(body io.Reader, path string, size int64) error {
	if body == nil {
		return nil
	}
	var one [1]byte
	switch n, err := io.ReadFull(body, one[:]); {
	case n > 0:
		return fmt.Errorf("writing %q: its body goes on after %d bytes, its size", path, size)
	case err != io.EOF:
		return fmt.Errorf("reading the content of %q at %d: %w", path, size, err)
	}
	return nil
}

// putZAP writes an object that is a ZAP: a directory or one of the tables.
func (o *object) putZAP(entries []zap.Entry) error {
	layout, err := zap.Plan(entries, zap.Options{Salt: o.fs.salt()})
	if err != nil {
		return fmt.Errorf("dataset %q: directory %q: %w", o.fs.name, o.path, err)
	}
	o.plan(layout.BlockSize(), int64(layout.Blocks()))
	for i := range layout.Blocks() {
		j := o.fs.pipe.job(layout.BlockSize())
		layout.Block(i, j.data)
		j.method, j.copies, j.embed, j.keep = o.fs.set.metaMethod, o.fs.metaCopies(), true, true
		o.put(j, i == layout.Blocks()-1)
	}
	return nil
}

// putXattrDir writes the hidden directory of the extended attributes that do
// not fit among the system attributes of the file owner.
func (fs *filesystem) putXattrDir(number, owner uint64, path string, a *sa.Attrs, xattrs map[string][]byte) error {
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

// close writes the directories and the tables of the file system. Object
// numbers are settled by now.
func (fs *filesystem) close() error {
	for _, d := range fs.dirs {
		if err := d.close(); err != nil {
			return err
		}
	}
	fs.putTables()
	return nil
}

func (d *directory) close() error {
	a := d.attrs
	a.Size, a.Links, a.Gen = uint64(len(d.entries))+2, d.subdirs+2, birthTxg
	enc, err := d.fs.encodeIn(d.slots, a)
	if err != nil {
		return fmt.Errorf("%q: %w", d.path, err)
	}
	entries := make([]zap.Entry, len(d.entries))
	for i, e := range d.entries {
		entries[i] = zap.Uint64(e.name, e.value)
	}
	d.entries, d.byName = nil, nil
	return d.fs.begin(d.path, d.object, ondisk.TypeDirectory, &a, enc).putZAP(entries)
}

// encodeIn encodes attributes for a dnode whose size is settled.
func (fs *filesystem) encodeIn(slots int, a sa.Attrs) (sa.Encoded, error) {
	o := fs.options
	o.MaxSlots = slots
	enc, err := sa.Encode(a, o)
	enc.Slots = slots
	return enc, err
}

// putTables writes the master node and what it leads to.
func (fs *filesystem) putTables() {
	var registry, layouts []zap.Entry
	for _, r := range sa.Registry() {
		registry = append(registry, zap.Uint64(r.Name, r.Value))
	}
	for _, l := range sa.Layouts() {
		layouts = append(layouts, zap.Uint16s(strconv.Itoa(int(l.Number)), l.Attrs))
	}
	tables := []struct {
		object  uint64
		typ     ondisk.ObjectType
		entries []zap.Entry
	}{
		{masterObject, ondisk.TypeMasterNode, []zap.Entry{
			zap.Uint64("VERSION", zplVersion), zap.Uint64("ROOT", rootDirectory), zap.Uint64("DELETE_QUEUE", deleteQueue),
			zap.Uint64("SA_ATTRS", saMaster), zap.Uint64("utf8only", 0), zap.Uint64("normalization", 0), zap.Uint64("casesensitivity", 0),
		}},
		{saMaster, ondisk.TypeSAMasterNode, []zap.Entry{zap.Uint64("LAYOUTS", saLayouts), zap.Uint64("REGISTRY", saRegistry)}},
		{saRegistry, ondisk.TypeSAAttrRegistration, registry},
		{saLayouts, ondisk.TypeSAAttrLayouts, layouts},
		{deleteQueue, ondisk.TypeUnlinkedSet, nil},
	}
	for _, t := range tables {
		fs.putTable(t.object, t.typ, t.entries)
	}
}

func (fs *filesystem) putTable(number uint64, typ ondisk.ObjectType, entries []zap.Entry) {
	salt := fs.salt()
	fs.pipe.do(func() error {
		d, err := fs.set.storeZAP(typ, entries, salt)
		if err != nil {
			return fmt.Errorf("dataset %q: %w", fs.name, err)
		}
		d.Flags = fs.set.accounting.dnodeFlags()
		return fs.set.setDnode(number, d)
	})
}

// patchLinks gives files with several names their link counts. Everything put
// so far must be flushed.
func (fs *filesystem) patchLinks() error {
	objects := make([]uint64, 0, len(fs.links))
	for number := range fs.links {
		objects = append(objects, number)
	}
	slices.Sort(objects)
	for _, number := range objects {
		b := &fs.set.dnodes[number/slotsPerBlock]
		if err := fs.set.unpack(b); err != nil {
			return err
		}
		at := int(number%slotsPerBlock) * ondisk.DnodeSize
		d, err := ondisk.ParseDnode(b.raw[at:])
		if err != nil {
			return err
		}
		if err := sa.SetLinks(d.Bonus, fs.links[number]); err != nil {
			return err
		}
		d.Put(b.raw[at : at+d.Slots*ondisk.DnodeSize])
	}
	return nil
}
