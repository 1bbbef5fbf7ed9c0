package zfs

import (
	"fmt"
	"io/fs"
	"math"
	"strconv"
	"time"

	"github.com/kldload/kldload/zfs/internal/ondisk"
	"github.com/kldload/kldload/zfs/internal/sa"
	"github.com/kldload/kldload/zfs/internal/zap"
)

const (
	maxTarget     = 64 << 10 // bytes of a link; Linux reads less
	maxXattrValue = 1 << 20  // bytes; Linux reads 64 KiB
	maxXattrBytes = 16 << 20 // of all values of a file
)

// fileNode is a file as read, with the parts that reading goes on from.
type fileNode struct {
	Node
	ob    *readObject
	attrs sa.Attrs
}

// attrTable reads how a file system stores attributes: the registry and the
// layouts behind SA_ATTRS of its master node.
func (s *openSet) attrTable() (*sa.Table, error) {
	master, err := s.need(masterObject, "SA_ATTRS")
	if err != nil {
		return nil, err
	}
	registry, err := s.need(master, "REGISTRY")
	if err != nil {
		return nil, err
	}
	_, names, err := s.numbers(registry)
	if err != nil {
		return nil, err
	}
	id, err := s.need(master, "LAYOUTS")
	if err != nil {
		return nil, err
	}
	layouts := map[uint16][]uint16{}
	err = s.walkZAP(id, func(e zap.Entry) error {
		n, err := strconv.ParseUint(e.Name, 10, 16)
		if err != nil {
			return fmt.Errorf("layout %q: want a number", e.Name)
		}
		var attrs []uint16
		for _, v := range e.Integers() {
			attrs = append(attrs, uint16(v))
		}
		layouts[uint16(n)] = attrs
		return nil
	})
	if err != nil {
		return nil, err
	}
	t, err := sa.NewTable(names, layouts)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", s.name, err)
	}
	return t, nil
}

// readNode reads the file of an object's number.
func (f *FS) readNode(id uint64) (*fileNode, error) {
	ob, err := f.set.object(id)
	if err != nil {
		return nil, err
	}
	in, err := parseNode(ob, f.attrs)
	if err != nil {
		return nil, err
	}
	return in, nil
}

// spill reads the block with the attributes that do not fit a dnode; nil when
// there is none.
func (ob *readObject) spill() ([]byte, error) {
	bp := ob.dn.Spill
	if bp == nil || bp.IsHole() {
		return nil, nil
	}
	w := ob.at(levelSpill, 0)
	if bp.Level() != 0 {
		return nil, w.wrap(bp, fmt.Errorf("the pointer has level %d: want 0", bp.Level()))
	}
	b, err := ob.set.dev.readCached(bp)
	if err != nil {
		return nil, w.wrap(bp, err)
	}
	return b, nil
}

// parseNode makes sense of a file's dnode.
func parseNode(ob *readObject, table *sa.Table) (*fileNode, error) {
	if ob.dn.BonusType != ondisk.TypeSA {
		return nil, fmt.Errorf("%q object %d has a bonus of type %d: want a file's, %d", ob.set.name, ob.id, ob.dn.BonusType, ondisk.TypeSA)
	}
	spill, err := ob.spill()
	if err != nil {
		return nil, err
	}
	a, err := table.Decode(ob.dn.Bonus, spill)
	if err != nil {
		return nil, fmt.Errorf("%q object %d: %w", ob.set.name, ob.id, err)
	}
	if a.Mode > math.MaxUint16 || a.Size > math.MaxInt64 {
		return nil, fmt.Errorf("%q object %d: mode %#o and %d bytes are none of a file", ob.set.name, ob.id, a.Mode, a.Size)
	}
	in := &fileNode{ob: ob, attrs: a}
	in.Mode, in.UID, in.GID = uint32(a.Mode), uint32(a.UID), uint32(a.GID)
	in.ModTime, in.AccessTime, in.ChangeTime = goTime(a.MTime), goTime(a.ATime), goTime(a.CTime)
	in.Dataset, in.Ino, in.Links, in.Used, in.Project = ob.set.name, ob.id, a.Links, ob.used(), a.ProjID
	in.Size = int64(a.Size)
	switch in.Mode & modeType {
	case modeChar, modeBlock:
		in.Major, in.Minor = sa.Device(a.Rdev)
	case modeRegular, modeDir, modeSymlink, modeFIFO, modeSocket:
	default:
		return nil, fmt.Errorf("%q object %d: mode %#o has no known file type", ob.set.name, ob.id, in.Mode)
	}
	return in, nil
}

func goTime(t sa.Time) time.Time { return time.Unix(t.Sec, t.Nsec).UTC() }

// used is what the dnode says its blocks take, in bytes.
func (ob *readObject) used() uint64 {
	if ob.dn.Flags&ondisk.DnodeUsedBytes == 0 {
		return ob.dn.Used * ondisk.SectorSize
	}
	return ob.dn.Used
}

// readLink gives the target of a symbolic link; old pools keep it in a block.
func (in *fileNode) readLink() (string, error) {
	if in.attrs.Symlink != "" || in.Size == 0 {
		return in.attrs.Symlink, nil
	}
	b, err := in.ob.bytes(uint64(in.Size), maxTarget)
	return string(b), err
}

// xattrsOf collects the attributes of a file from it and from its directory of
// attributes; nil when it has none.
func (f *FS) xattrsOf(in *fileNode) (map[string][]byte, error) {
	all := map[string][]byte{}
	for name, v := range in.attrs.Xattrs {
		all[name] = v
	}
	if in.attrs.XattrObj != 0 {
		if err := f.addXattrDir(all, in); err != nil {
			return nil, err
		}
	}
	if len(all) == 0 {
		return nil, nil
	}
	return all, nil
}

// xattrDir is the directory with a file's attributes.
func (f *FS) xattrDir(in *fileNode) (*fileNode, error) {
	dir, err := f.readNode(in.attrs.XattrObj)
	if err != nil {
		return nil, err
	}
	if dir.Mode&modeType != modeDir || dir.attrs.Flags&sa.FlagXattr == 0 {
		return nil, fmt.Errorf("%q object %d: mode %#o and flags %#x are none of a directory of attributes",
			f.set.name, dir.Ino, dir.Mode, dir.attrs.Flags)
	}
	return dir, nil
}

func (f *FS) addXattrDir(all map[string][]byte, in *fileNode) error {
	dir, err := f.xattrDir(in)
	if err != nil {
		return err
	}
	l, err := f.list(dir)
	if err != nil {
		return err
	}
	sum := int64(0)
	for _, e := range l.entries {
		v, err := f.readNode(e.object)
		if err != nil {
			return fmt.Errorf("attribute %q: %w", e.name, err)
		}
		if sum += v.Size; v.Mode&modeType != modeRegular || v.Size > maxXattrValue || sum > maxXattrBytes {
			return fmt.Errorf("attribute %q: mode %#o with %d bytes: want a file of at most %d bytes, %d in sum",
				e.name, v.Mode, v.Size, maxXattrValue, maxXattrBytes)
		}
		b := make([]byte, v.Size)
		body := fileBody{ob: v.ob, name: e.name, size: v.Size}
		if _, err := body.ReadAt(b, 0); err != nil {
			return fmt.Errorf("attribute %q: %w", e.name, err)
		}
		name := sa.XattrName(e.name)
		if _, twice := all[name]; !twice { // what is in the file itself hides it
			all[name] = b
		}
	}
	return nil
}

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
