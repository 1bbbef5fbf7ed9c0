package ondisk

import "fmt"

// Flags of a dnode (sys/dnode.h).
const (
	DnodeUsedBytes            = 1 << 0 // Used counts bytes
	DnodeUserUsedAccounted    = 1 << 1
	DnodeSpill                = 1 << 2 // the last pointer is the spill block's
	DnodeUserObjUsedAccounted = 1 << 3
)

const (
	dnodeCore    = 64 // bytes before the block pointers
	maxBlockPtrs = 3  // DN_MAX_NBLKPTR
	maxLevels    = 12 // DN_MAX_LEVELS, with the smallest indirect blocks
	maxSlots     = 32 // DNODE_MAX_SIZE / DNODE_MIN_SIZE
)

// Dnode describes an object (dnode_phys_t, sys/dnode.h).
type Dnode struct {
	Type          ObjectType
	IndirectShift uint8
	Levels        uint8 // 1: the pointers lead to content
	BonusType     ObjectType
	Checksum      Checksum
	Compression   Compression
	Flags         uint8
	BlockSize     int // bytes of a level 0 block
	Slots         int // of 512 bytes
	MaxBlock      uint64
	Used          uint64 // bytes, with DnodeUsedBytes
	Pointers      []BlockPtr
	Bonus         []byte
	Spill         *BlockPtr
}

// BonusRoom is how many bytes of bonus fit into a dnode.
func BonusRoom(slots, pointers int, spill bool) int {
	room := slots*DnodeSize - dnodeCore - pointers*BlockPtrSize
	if spill {
		room -= BlockPtrSize
	}
	return room
}

// Put encodes the dnode into b, Slots*512 bytes that are zero.
func (d *Dnode) Put(b []byte) {
	flags := d.Flags
	b[0], b[1], b[2], b[3], b[4] = byte(d.Type), d.IndirectShift, d.Levels, byte(len(d.Pointers)), byte(d.BonusType)
	b[5], b[6] = byte(d.Checksum), byte(d.Compression)
	le.PutUint16(b[8:], uint16(d.BlockSize/SectorSize))
	le.PutUint16(b[10:], uint16(len(d.Bonus)))
	b[12] = byte(d.Slots - 1)
	le.PutUint64(b[16:], d.MaxBlock)
	le.PutUint64(b[24:], d.Used)
	for i := range d.Pointers {
		copy(b[dnodeCore+i*BlockPtrSize:], d.Pointers[i][:])
	}
	copy(b[dnodeCore+len(d.Pointers)*BlockPtrSize:], d.Bonus)
	if d.Spill != nil {
		flags |= DnodeSpill
		copy(b[d.Slots*DnodeSize-BlockPtrSize:], d.Spill[:])
	}
	b[7] = flags
}

// ParseDnode decodes the dnode at the start of b, which may go on behind it.
// A free slot gives Type TypeNone. Its slices do not share b.
func ParseDnode(b []byte) (*Dnode, error) {
	if len(b) < DnodeSize {
		return nil, fmt.Errorf("dnode of %d bytes: want %d", len(b), DnodeSize)
	}
	d := &Dnode{
		Type: ObjectType(b[0]), IndirectShift: b[1], Levels: b[2], BonusType: ObjectType(b[4]), Checksum: Checksum(b[5]),
		Compression: Compression(b[6]), Flags: b[7], BlockSize: int(le.Uint16(b[8:])) * SectorSize,
		Slots: int(b[12]) + 1, MaxBlock: le.Uint64(b[16:]), Used: le.Uint64(b[24:]),
	}
	if d.Type == TypeNone {
		return d, nil
	}
	n, bonus := int(b[3]), int(le.Uint16(b[10:]))
	switch spill := d.Flags&DnodeSpill != 0; {
	case !d.Type.Valid():
		return nil, fmt.Errorf("dnode of type %d: no such type", d.Type)
	case d.Slots > maxSlots || d.Slots*DnodeSize > len(b):
		return nil, fmt.Errorf("dnode of %d slots: %d bytes of its block are left", d.Slots, len(b))
	case n < 1 || n > maxBlockPtrs || d.Levels < 1 || d.Levels > maxLevels:
		return nil, fmt.Errorf("dnode with %d block pointers and %d levels: want 1 to %d and 1 to %d", n, d.Levels, maxBlockPtrs, maxLevels)
	case bonus > BonusRoom(d.Slots, n, spill):
		return nil, fmt.Errorf("dnode with %d bytes of bonus: %d fit", bonus, max(0, BonusRoom(d.Slots, n, spill)))
	case d.BlockSize == 0:
		return nil, fmt.Errorf("dnode with blocks of 0 bytes")
	case d.IndirectShift < 12 || d.IndirectShift > 17:
		return nil, fmt.Errorf("dnode with indirect blocks of 2^%d bytes: want 2^12 to 2^17", d.IndirectShift)
	}
	d.Pointers = make([]BlockPtr, n)
	for i := range d.Pointers {
		copy(d.Pointers[i][:], b[dnodeCore+i*BlockPtrSize:])
	}
	at := dnodeCore + n*BlockPtrSize
	d.Bonus = append([]byte(nil), b[at:at+bonus]...)
	if d.Flags&DnodeSpill != 0 {
		d.Spill = new(BlockPtr)
		copy(d.Spill[:], b[d.Slots*DnodeSize-BlockPtrSize:])
	}
	return d, nil
}

// ObjsetType is what an object set is (dmu_objset_type_t).
type ObjsetType uint64

// The kinds of object sets.
const (
	ObjsetMeta ObjsetType = 1
	ObjsetZFS  ObjsetType = 2
	ObjsetZVOL ObjsetType = 3
)

// Flags of an object set (sys/dmu_objset.h): the accounting is complete.
const (
	ObjsetUserAccounting    = 1 << 0
	ObjsetUserObjAccounting = 1 << 1
	ObjsetProjectQuota      = 1 << 2
)

// Objset is an object set (objset_phys_t, sys/dmu_objset.h). The accounting
// dnodes are nil where it has none.
type Objset struct {
	Meta                             *Dnode
	Type                             ObjsetType
	Flags                            uint64
	UserUsed, GroupUsed, ProjectUsed *Dnode
	// ZIL is the intent log's header, 192 bytes; nil is an empty one.
	ZIL []byte
}

// Encode gives the ObjsetSize bytes of the set.
func (o *Objset) Encode() []byte {
	b := make([]byte, ObjsetSize)
	o.Meta.Put(b[:DnodeSize])
	copy(b[512:704], o.ZIL)
	le.PutUint64(b[704:], uint64(o.Type))
	le.PutUint64(b[712:], o.Flags)
	for i, d := range []*Dnode{o.UserUsed, o.GroupUsed, o.ProjectUsed} {
		if d != nil {
			d.Put(b[1024+512*i : 1536+512*i])
		}
	}
	return b
}

// ParseObjset decodes an object set of 1024, 2048 or 4096 bytes.
func ParseObjset(b []byte) (*Objset, error) {
	if len(b) < 1024 {
		return nil, fmt.Errorf("object set of %d bytes: want 1024, 2048 or %d", len(b), ObjsetSize)
	}
	meta, err := ParseDnode(b[:DnodeSize])
	if err != nil {
		return nil, fmt.Errorf("meta dnode: %w", err)
	}
	if meta.Type != TypeDnode {
		return nil, fmt.Errorf("meta dnode of type %d: want %d", meta.Type, TypeDnode)
	}
	o := &Objset{Meta: meta, Type: ObjsetType(le.Uint64(b[704:])), Flags: le.Uint64(b[712:]), ZIL: append([]byte(nil), b[512:704]...)}
	for i, d := range []**Dnode{&o.UserUsed, &o.GroupUsed, &o.ProjectUsed} {
		at := 1024 + 512*i
		if len(b) < at+DnodeSize || b[at] == 0 {
			continue
		}
		if *d, err = ParseDnode(b[at : at+DnodeSize]); err != nil {
			return nil, fmt.Errorf("accounting dnode %d: %w", i, err)
		}
	}
	return o, nil
}
