package sa

import "fmt"

const (
	magic      = 0x2F505A // SA_MAGIC
	headerSize = 8        // magic, layout and the first length

	layoutBits = 10 // of the layout word; the header's size in words is above

	slotSize    = 512
	dnodeHead   = 64 + 128 // dnode header and one block pointer
	pointerSize = 128      // of the spill block, at the end of the dnode

	spillUnit = 512
	maxSpill  = 128 << 10 // SPA_OLD_MAXBLOCKSIZE
)

// EncodeOptions say what a dataset and its pool allow.
type EncodeOptions struct {
	// MaxSlots of 512 bytes a dnode may take: 1 for dnodesize=legacy, which 0
	// means too, 2 for auto.
	MaxSlots int
	// ProjID gives regular files and directories a project, as kernels do with
	// the feature project_quota. Other objects have none.
	ProjID bool
}

// Encoded are the attributes of an object as they go into its dnode.
type Encoded struct {
	// Bonus is the bonus buffer, at most 320 bytes per dnode of one slot, 832 of
	// two, 128 less with a spill block.
	Bonus []byte
	// Spill is the content of the spill block, nil for none: a multiple of 512
	// bytes up to 128 KiB.
	Spill []byte
	// Slots the dnode takes: as many as spare a spill block, else 1.
	Slots int
}

// pieces are the attributes in the form in which they are stored.
type pieces struct {
	present               set
	aceCount              uint64
	aces, symlink, dxattr []byte
}

// Encode makes bonus buffer and spill block from attributes. To Flags it adds
// what kernels set in every object, the project's flag, and, when the list is its
// own, what follows from it.
//
// It is an error when xattrs need more than 65535 bytes, see [SplitXattrs], when a
// name is empty or longer than 255 bytes, and when a symlink's target is missing,
// too long or not as long as Size.
func Encode(a Attrs, o EncodeOptions) (Encoded, error) {
	if err := a.check(); err != nil {
		return Encoded{}, err
	}
	var own [maxTrivial]byte
	p := pieces{present: a.present(o), symlink: []byte(a.Symlink)}
	if len(a.ACL) == 0 {
		p.aces, p.aceCount = appendTrivial(own[:0], a.Mode)
	} else {
		p.aces, p.aceCount = appendACL(nil, a.ACL), uint64(len(a.ACL))
	}
	if len(a.Xattrs) > 0 {
		var err error
		if p.dxattr, err = packXattrs(a.Xattrs); err != nil {
			return Encoded{}, err
		}
	}
	a.Flags |= a.impliedFlags(p.present)
	for slots := 1; slots <= max(1, o.MaxSlots); slots++ {
		if header, used := p.measure(p.present); header+used <= slots*slotSize-dnodeHead {
			return Encoded{Bonus: p.put(&a, p.present, header+used), Slots: slots}, nil
		}
	}
	return p.spill(&a)
}

// check finds what cannot be stored.
func (a *Attrs) check() error {
	link := a.Mode&typeMask == typeSymlink
	switch {
	case link && (a.Symlink == "" || len(a.Symlink) > maxSymlink):
		return fmt.Errorf("encoding a symlink to %d bytes: want 1 to %d", len(a.Symlink), maxSymlink)
	case link && a.Size != uint64(len(a.Symlink)):
		return fmt.Errorf("encoding a symlink to %d bytes with size %d", len(a.Symlink), a.Size)
	case !link && a.Symlink != "":
		return fmt.Errorf("encoding mode %#o with the symlink target %q", a.Mode, a.Symlink)
	case len(a.ACL) > maxLength/objectSize:
		return fmt.Errorf("encoding an access control list of %d entries: at most %d", len(a.ACL), maxLength/objectSize)
	}
	return nil
}

// present tells which attributes an object has.
func (a *Attrs) present(o EncodeOptions) set {
	s := hasBase | hasDACLCount | hasDACLACEs
	switch a.Mode & typeMask {
	case typeRegular, typeDir:
		if o.ProjID {
			s |= hasProjID
		}
	case typeChar, typeBlock:
		s |= hasRdev
	case typeSymlink:
		s |= hasSymlink
	}
	if a.XattrObj != 0 {
		s |= hasXattr
	}
	if len(a.Xattrs) != 0 {
		s |= hasDXattr
	}
	return s
}

// impliedFlags are those that zfs_mknode sets.
func (a *Attrs) impliedFlags(present set) uint64 {
	flags := uint64(FlagArchive | FlagAVModified)
	if present&hasProjID != 0 {
		flags |= FlagProjID
	}
	if len(a.ACL) != 0 {
		return flags
	}
	flags |= FlagACLTrivial
	if a.Mode&typeMask == typeDir {
		flags |= FlagAutoInherit
	}
	if a.Mode&0o111 == 0o111 {
		flags |= FlagNoExecsDenied
	}
	return flags
}

// spill parts the attributes as sa_build_layouts does: the first that would lie
// where the spill block's pointer goes, and all behind it, go to the spill block.
func (p *pieces) spill(a *Attrs) (Encoded, error) {
	const room = slotSize - dnodeHead - pointerSize
	var stay set
	for bit := hasBase; bit != 0; bit <<= 1 {
		if p.present&bit == 0 {
			continue
		}
		if header, used := p.measure(stay | bit); header+used > room {
			break
		}
		stay |= bit
	}
	gone := p.present &^ stay
	header, used := p.measure(gone)
	if header+used > maxSpill {
		return Encoded{}, fmt.Errorf("encoding system attributes: %d bytes to spill, at most %d", header+used, maxSpill)
	}
	size := (header + used + spillUnit - 1) / spillUnit * spillUnit
	return Encoded{Bonus: p.put(a, stay, room), Spill: p.put(a, gone, size), Slots: 1}, nil
}

// variable is the value of the bit's attribute if its length varies, nil if not.
func (p *pieces) variable(bit set) []byte {
	switch bit {
	case hasDACLACEs:
		return p.aces
	case hasSymlink:
		return p.symlink
	case hasDXattr:
		return p.dxattr
	}
	return nil
}

// measure gives the size of the header, with a length per attribute that varies,
// and of the attributes of s. Each begins at a multiple of 8 bytes; the last is
// not padded.
func (p *pieces) measure(s set) (header, used int) {
	if s&hasBase != 0 {
		used = baseSize
	}
	lengths := 0
	for bit := hasProjID; bit != 0; bit <<= 1 {
		switch {
		case s&bit == 0:
		case bit&(hasDACLACEs|hasSymlink|hasDXattr) != 0:
			used = align8(used) + len(p.variable(bit))
			lengths++
		default:
			used = align8(used) + 8
		}
	}
	return headerLen(lengths), used
}

// headerLen is the size of a header with so many lengths; there is always room
// for one.
func headerLen(lengths int) int { return align8(headerSize + 2*max(0, lengths-1)) }

// put makes a buffer of size bytes with the attributes of s.
func (p *pieces) put(a *Attrs, s set, size int) []byte {
	header, used := p.measure(s)
	b := make([]byte, max(size, align8(header+used)))
	le.PutUint32(b, magic)
	le.PutUint16(b[4:], layoutNumbers[s]|uint16(header/8)<<layoutBits)
	at, length := header, headerSize-2
	if s&hasBase != 0 {
		putBase(b[at:], a)
		at += baseSize
	}
	for bit := hasProjID; bit != 0; bit <<= 1 {
		if s&bit == 0 {
			continue
		}
		if v := p.variable(bit); v != nil {
			le.PutUint16(b[length:], uint16(len(v)))
			length += 2
			at += align8(copy(b[at:], v))
			continue
		}
		le.PutUint64(b[at:], p.fixed(a, bit))
		at += 8
	}
	return b[:size]
}

// fixed is the value of the bit's attribute if it is a single word.
func (p *pieces) fixed(a *Attrs, bit set) uint64 {
	switch bit {
	case hasProjID:
		return a.ProjID
	case hasRdev:
		return a.Rdev
	case hasXattr:
		return a.XattrObj
	}
	return p.aceCount
}

// putBase writes the attributes of base.
func putBase(b []byte, a *Attrs) {
	for i, v := range [baseSize / 8]uint64{
		a.Mode, a.Size, a.Gen, a.UID, a.GID, a.Parent, a.Flags,
		uint64(a.ATime.Sec), uint64(a.ATime.Nsec), uint64(a.MTime.Sec), uint64(a.MTime.Nsec),
		uint64(a.CTime.Sec), uint64(a.CTime.Nsec), uint64(a.CRTime.Sec), uint64(a.CRTime.Nsec),
		a.Links,
	} {
		le.PutUint64(b[8*i:], v)
	}
}

func align8(n int) int { return (n + 7) &^ 7 }
