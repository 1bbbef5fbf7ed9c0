package zfs

import (
	"math/bits"

	"github.com/kldload/kldload/zfs/internal/block"
	"github.com/kldload/kldload/zfs/internal/ondisk"
	"github.com/kldload/kldload/zfs/internal/zap"
)

// mos is the pool's own object set, the meta object set, being written. It is
// stored without compression, so that the space it takes is known before its
// last blocks, which tell of that space, are made.
type mos struct {
	z       *Writer
	set     *objset
	objects []*ondisk.Dnode // by number; nil is free
}

func newMOS(z *Writer) *mos {
	set := &objset{pipe: z.pipe, kind: ondisk.ObjsetMeta, metaMethod: block.Method{Compression: ondisk.CompressOff}, metaCopies: maxCopies}
	return &mos{z: z, set: set, objects: []*ondisk.Dnode{nil}}
}

// object adds an object without content.
func (m *mos) object(typ, bonusType ondisk.ObjectType, bonus []byte) uint64 {
	const oldMaxBonus = 320 // DN_OLD_MAX_BONUSLEN
	roots := min(3, 1+(oldMaxBonus-len(bonus))/ondisk.BlockPtrSize)
	m.objects = append(m.objects, &ondisk.Dnode{
		Type: typ, IndirectShift: ondisk.IndirectShift, Levels: 1, BonusType: bonusType, BlockSize: ondisk.SectorSize,
		Slots: 1, Bonus: bonus, Pointers: make([]ondisk.BlockPtr, roots),
	})
	return uint64(len(m.objects) - 1)
}

// fill gives an object its content, blocks of one size.
func (m *mos) fill(number uint64, blocks [][]byte) error {
	d := m.objects[number]
	c, err := m.set.storeObject(d.Type, blocks)
	if err != nil {
		return err
	}
	copy(d.Pointers, c.Pointers)
	d.Levels, d.Flags, d.BlockSize, d.MaxBlock, d.Used = c.Levels, c.Flags, c.BlockSize, c.MaxBlock, c.Used
	return nil
}

// fillZAP makes an object a ZAP.
func (m *mos) fillZAP(number uint64, entries []zap.Entry) error {
	layout, err := zap.Plan(entries, zap.Options{Salt: m.z.salt()})
	if err != nil {
		return err
	}
	return m.fill(number, layoutBlocks(layout))
}

func layoutBlocks(l *zap.Layout) [][]byte {
	blocks := make([][]byte, l.Blocks())
	for i := range blocks {
		blocks[i] = make([]byte, l.BlockSize())
		l.Block(i, blocks[i])
	}
	return blocks
}

// zap adds an object that is a ZAP.
func (m *mos) zap(typ ondisk.ObjectType, entries ...zap.Entry) (uint64, error) {
	number := m.object(typ, ondisk.TypeNone, nil)
	return number, m.fillZAP(number, entries)
}

// bpobj adds an empty list of block pointers (bpobj_phys_t).
func (m *mos) bpobj(blockSize int) uint64 {
	const header = 56 // with sub-objects and what they freed
	number := m.object(ondisk.TypeBpobj, ondisk.TypeBpobjHeader, make([]byte, header))
	m.objects[number].BlockSize = blockSize
	return number
}

// The objects that the last phase fills.
type lateObjects struct {
	featuresForWrite uint64
	metaslabArray    uint64
	maps             []int // metaslabs with a space map, rising
	firstMap         uint64
}

// lateSizes are the sizes of the blocks that finish writes, in its order. They do
// not depend on what the blocks say.
func (m *mos) lateSizes(maps int, featureBlocks []int) []uint64 {
	var sizes []uint64
	for _, n := range featureBlocks {
		sizes = append(sizes, roundSector(n))
	}
	sizes = append(sizes, roundSector(m.arraySize()))
	for range maps {
		sizes = append(sizes, spaceMapBlock)
	}
	sizes = append(sizes, dnodeSizes((len(m.objects)+maps+slotsPerBlock-1)/slotsPerBlock)...)
	return append(sizes, ondisk.ObjsetSize)
}

// dnodeSizes are the sizes of so many blocks of dnodes and of the blocks of
// pointers to them, each where blockTree stores it: when it is full, or in the
// end.
func dnodeSizes(blocks int) (sizes []uint64) {
	levels := treeLevels(int64(blocks), metaPointers)
	rest := 0
	for level, n := 1, blocks; level < levels; level++ {
		n = (n + fanout - 1) / fanout
		rest += n
	}
	for i := range blocks {
		sizes = append(sizes, ondisk.DnodeBlockSize)
		for level, n := 1, i+1; level < levels && n%fanout == 0; level, n = level+1, n/fanout {
			sizes = append(sizes, 1<<ondisk.IndirectShift)
			rest--
		}
	}
	for range rest {
		sizes = append(sizes, 1<<ondisk.IndirectShift)
	}
	return sizes
}

func roundSector(n int) uint64 { return uint64(n+sector-1) &^ (sector - 1) }

// arraySize is the size of the metaslab array's one block: a power of two,
// because an object can get further blocks only then, and a pool that grows
// gets more metaslabs (dmu_buf_hold_array_by_dnode).
func (m *mos) arraySize() int {
	return max(ondisk.SectorSize, 1<<bits.Len(uint(8*len(m.z.space.used)-1)))
}

// plan finds out which metaslabs will be in use in the end: the blocks that
// tell so take space themselves. used is what the whole set will take.
func (m *mos) plan(featureBlocks []int) (maps []int, used uint64, err error) {
	for {
		trial := m.z.space.clone()
		used = m.set.used
		for _, n := range m.lateSizes(len(maps), featureBlocks) {
			for c := range maxCopies {
				if _, ok := trial.alloc(c, n); !ok {
					return nil, 0, &NoSpaceError{Size: m.z.opts.Size, Usable: int64(m.z.space.limit)}
				}
				used += n
			}
		}
		var now []int
		for i, n := range trial.used {
			if n > 0 {
				now = append(now, i)
			}
		}
		if len(now) == len(maps) {
			return now, used, nil
		}
		maps = now // more of them than before, and no more than there are
	}
}

// finish writes what tells of the pool's space, the dnodes and the set.
func (m *mos) finish(late lateObjects, features []zap.Entry) (ondisk.BlockPtr, error) {
	if err := m.fillZAP(late.featuresForWrite, features); err != nil {
		return ondisk.BlockPtr{}, err
	}
	array := make([]byte, m.arraySize())
	for i, metaslab := range late.maps {
		le.PutUint64(array[8*metaslab:], late.firstMap+uint64(i))
	}
	if err := m.fill(late.metaslabArray, [][]byte{array}); err != nil {
		return ondisk.BlockPtr{}, err
	}
	if err := m.writeMaps(late); err != nil {
		return ondisk.BlockPtr{}, err
	}
	for number, d := range m.objects {
		if d != nil {
			if err := m.set.setDnode(uint64(number), d); err != nil {
				return ondisk.BlockPtr{}, err
			}
		}
	}
	meta, err := m.set.storeDnodes(0)
	if err != nil {
		return ondisk.BlockPtr{}, err
	}
	return m.set.storeObjset(&ondisk.Objset{Meta: meta, Type: ondisk.ObjsetMeta})
}

// writeMaps writes the space maps as they will be: the space of all that
// follows is taken in a copy first.
func (m *mos) writeMaps(late lateObjects) error {
	final := m.z.space.clone()
	sizes := m.lateSizes(0, nil)[1:] // without the features and the array
	for range late.maps {
		sizes = append([]uint64{spaceMapBlock}, sizes...)
	}
	for _, n := range sizes {
		for c := range maxCopies {
			final.alloc(c, n)
		}
	}
	for i, metaslab := range late.maps {
		content, bonus := final.spaceMap(metaslab, late.firstMap+uint64(i))
		number := late.firstMap + uint64(i)
		m.objects[number].Bonus = bonus
		if err := m.fill(number, [][]byte{content}); err != nil {
			return err
		}
	}
	return nil
}
