package zfs

import (
	"fmt"
	"slices"
	"strconv"
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

// close writes the directories and the tables of the file system.
func (fs *filesystem) close() error {
	for _, d := range fs.dirs {
		if err := d.close(); err != nil {
			return err
		}
	}
	fs.putTables()
	return nil
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
