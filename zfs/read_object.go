package zfs

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/kldload/kldload/zfs/internal/ondisk"
	"github.com/kldload/kldload/zfs/internal/zap"
)

// mosName stands for the pool's own object set in errors.
const mosName = "MOS"

// openSet is an object set that was opened: the pool's own or a dataset's.
type openSet struct {
	dev  *device
	name string
	phys *ondisk.Objset
}

// openObjset reads the object set that bp leads to.
func (d *device) openObjset(name string, bp *ondisk.BlockPtr) (*openSet, error) {
	w := where{set: name}
	switch {
	case bp.IsHole():
		return nil, w.wrap(bp, errHoleRead)
	case bp.Type() != ondisk.TypeObjset || bp.Level() != 0:
		return nil, w.wrap(bp, fmt.Errorf("block of type %d and level %d: want an object set", bp.Type(), bp.Level()))
	}
	b, err := d.readCached(bp)
	if err != nil {
		return nil, w.wrap(bp, err)
	}
	phys, err := ondisk.ParseObjset(b)
	if err != nil {
		return nil, w.wrap(bp, err)
	}
	return &openSet{d, name, phys}, nil
}

// readObject is a dnode in its set; number 0 is the set's array of dnodes.
type readObject struct {
	set *openSet
	id  uint64
	dn  *ondisk.Dnode
}

func (s *openSet) dnodes() *readObject { return &readObject{s, 0, s.phys.Meta} }

// object finds the dnode of that number.
func (s *openSet) object(id uint64) (*readObject, error) {
	meta := s.dnodes()
	per := uint64(meta.dn.BlockSize / ondisk.DnodeSize)
	if id == 0 || per == 0 || id/per > meta.dn.MaxBlock {
		return nil, fmt.Errorf("%q object %d: there is none", s.name, id)
	}
	b, err := meta.block(id / per)
	if err != nil {
		return nil, err
	}
	slot := int(id % per)
	for at := range dnodeStarts(b) {
		if at != slot {
			continue
		}
		dn, err := ondisk.ParseDnode(b[at*ondisk.DnodeSize:])
		if err != nil {
			return nil, fmt.Errorf("%q object %d: %w", s.name, id, err)
		}
		return &readObject{s, id, dn}, nil
	}
	return nil, fmt.Errorf("%q object %d: there is none", s.name, id)
}

// dnodeStarts goes over the slots in use where a dnode begins: a large one
// takes several.
func dnodeStarts(b []byte) func(func(int) bool) {
	return func(yield func(int) bool) {
		for at := 0; (at+1)*ondisk.DnodeSize <= len(b); at++ {
			d := b[at*ondisk.DnodeSize:]
			if d[0] == byte(ondisk.TypeNone) {
				continue
			}
			if !yield(at) {
				return
			}
			at += int(d[12])
		}
	}
}

// typed is object, of a certain type.
func (s *openSet) typed(id uint64, types ...ondisk.ObjectType) (*readObject, error) {
	ob, err := s.object(id)
	if err != nil {
		return nil, err
	}
	for _, t := range types {
		if ob.dn.Type == t {
			return ob, nil
		}
	}
	return nil, fmt.Errorf("%q object %d has type %d: want one of %d", s.name, id, ob.dn.Type, types)
}

// indirectBits is the power of two of the pointers in an indirect block.
func (ob *readObject) indirectBits() uint { return uint(ob.dn.IndirectShift) - 7 }

// at names a block of the object.
func (ob *readObject) at(level int, n uint64) where { return where{ob.set.name, ob.id, level, n} }

// checkPointer says why bp cannot lead to a block of that level.
func (ob *readObject) checkPointer(bp *ondisk.BlockPtr, level int) error {
	size := ob.dn.BlockSize
	if level > 0 {
		size = 1 << ob.dn.IndirectShift
	}
	switch {
	case bp.IsHole():
		return nil
	case bp.Level() != level:
		return fmt.Errorf("the pointer has level %d: want %d", bp.Level(), level)
	case bp.LSize() != size:
		return fmt.Errorf("the pointer has %d bytes: want %d", bp.LSize(), size)
	}
	return nil
}

// ptrTable is the pointers of an indirect block, or of a dnode.
type ptrTable []byte

func (t ptrTable) len() int { return len(t) / ondisk.BlockPtrSize }

func (t ptrTable) at(i int) *ondisk.BlockPtr {
	return (*ondisk.BlockPtr)(t[i*ondisk.BlockPtrSize : (i+1)*ondisk.BlockPtrSize])
}

// run counts the pointers from i on that are holes like the first, or are not.
func (t ptrTable) run(i int) uint64 {
	n := i + 1
	for hole := t.at(i).IsHole(); n < t.len() && t.at(n).IsHole() == hole; n++ {
	}
	return uint64(n - i)
}

// roots is the pointers of the dnode.
func (ob *readObject) roots() ptrTable {
	var t ptrTable
	for i := range ob.dn.Pointers {
		t = append(t, ob.dn.Pointers[i][:]...)
	}
	return t
}

// blockSpan is what one look into the tree tells of block n.
type blockSpan struct {
	bp   *ondisk.BlockPtr // of block n, at level 0; nil in a hole
	run  uint64           // blocks from n on of which the same is known; 1 or more
	hole bool
}

// find descends to block n of level 0. Each level must be one less than the
// one above.
func (ob *readObject) find(n uint64) (blockSpan, error) {
	shift := ob.indirectBits()
	level := int(ob.dn.Levels) - 1
	t, i := ob.roots(), n>>(uint(level)*shift) // shifts of 64 and more give 0
	if i >= uint64(t.len()) {
		return blockSpan{hole: true, run: math.MaxUint64 - n}, nil
	}
	for ; ; level-- {
		here := n >> (uint(level) * shift)
		bp := t.at(int(i))
		if err := ob.checkPointer(bp, level); err != nil {
			return blockSpan{}, ob.at(level, here).wrap(bp, err)
		}
		if bp.IsHole() {
			return blockSpan{hole: true, run: ob.holeRun(n, level, t.run(int(i)))}, nil
		}
		if level == 0 {
			return blockSpan{bp: bp, run: t.run(int(i))}, nil
		}
		b, err := ob.set.dev.readCached(bp)
		if err != nil {
			return blockSpan{}, ob.at(level, here).wrap(bp, err)
		}
		t = b
		i = n >> (uint(level-1) * shift) & (1<<shift - 1)
	}
}

// holeRun is how many blocks from n on are behind run pointers of a level.
func (ob *readObject) holeRun(n uint64, level int, run uint64) uint64 {
	bits := uint(level) * ob.indirectBits()
	if bits > 50 { // more than any file has
		return math.MaxUint64 - n
	}
	return run<<bits - n&(1<<bits-1)
}

// block gives block n whole. The bytes are shared and must not change.
func (ob *readObject) block(n uint64) ([]byte, error) {
	s, err := ob.find(n)
	if err != nil {
		return nil, err
	}
	if s.hole {
		return make([]byte, ob.dn.BlockSize), nil
	}
	b, err := ob.set.dev.readCached(s.bp)
	if err != nil {
		return nil, ob.at(0, n).wrap(s.bp, err)
	}
	return b, nil
}

// stored is block of an object that has no holes.
func (ob *readObject) stored(n uint64) ([]byte, error) {
	s, err := ob.find(n)
	if err != nil {
		return nil, err
	}
	if s.hole {
		return nil, ob.at(0, n).wrap(nil, errHoleRead)
	}
	return ob.block(n)
}

// ReadBlock makes an object a source of a ZAP's blocks.
func (ob *readObject) ReadBlock(n uint64) ([]byte, error) { return ob.block(n) }

// size is how many bytes the blocks of the object could hold.
func (ob *readObject) size() int64 {
	bs := uint64(ob.dn.BlockSize)
	if ob.dn.MaxBlock >= math.MaxInt64/bs-1 {
		return math.MaxInt64
	}
	return int64((ob.dn.MaxBlock + 1) * bs)
}

// bytes reads the first n bytes of the object, of which there must be no more
// than limit.
func (ob *readObject) bytes(n, limit uint64) ([]byte, error) {
	if n > limit || n > uint64(ob.size()) {
		return nil, fmt.Errorf("%q object %d: %d bytes wanted of at most %d", ob.set.name, ob.id, n, min(limit, uint64(ob.size())))
	}
	out := make([]byte, 0, n)
	for i := uint64(0); uint64(len(out)) < n; i++ {
		b, err := ob.block(i)
		if err != nil {
			return nil, err
		}
		out = append(out, b[:min(uint64(len(b)), n-uint64(len(out)))]...)
	}
	return out, nil
}

// zap opens the object as a ZAP.
func (ob *readObject) zap() (*zap.ZAP, error) {
	z, err := zap.Open(ob, ob.dn.BlockSize, ob.size())
	if err != nil {
		return nil, fmt.Errorf("%q object %d: %w", ob.set.name, ob.id, err)
	}
	return z, nil
}

// zap opens the object of that number as a ZAP.
func (s *openSet) zap(id uint64) (*zap.ZAP, error) {
	ob, err := s.object(id)
	if err != nil {
		return nil, err
	}
	return ob.zap()
}

// walkZAP calls f for each entry of the object of that number.
func (s *openSet) walkZAP(id uint64, f func(zap.Entry) error) error {
	z, err := s.zap(id)
	if err != nil {
		return err
	}
	if err := z.Walk(f); err != nil {
		return fmt.Errorf("%q object %d: %w", s.name, id, err)
	}
	return nil
}

// lookup gives the number under a name; ok is false where there is none.
func (s *openSet) lookup(id uint64, name string) (v uint64, ok bool, err error) {
	z, err := s.zap(id)
	if err != nil {
		return 0, false, err
	}
	e, ok, err := z.Lookup(name)
	if err != nil || !ok {
		if err != nil {
			err = fmt.Errorf("%q object %d: %w", s.name, id, err)
		}
		return 0, false, err
	}
	if v, ok = e.Uint64(); !ok {
		return 0, false, fmt.Errorf("%q object %d: %q is no number", s.name, id, name)
	}
	return v, true, nil
}

// need is lookup of what must be there.
func (s *openSet) need(id uint64, name string) (uint64, error) {
	v, ok, err := s.lookup(id, name)
	if err == nil && !ok {
		err = fmt.Errorf("%q object %d: no entry %q", s.name, id, name)
	}
	return v, err
}

func le64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }
