package sa

import (
	"encoding/binary"
	"fmt"
)

var le = binary.LittleEndian

// ACE is an entry of an access control list (zfs_ace_t and zfs_object_ace_t of
// include/sys/zfs_acl.h).
type ACE struct {
	Type  uint16 // 0 allows, 1 denies, 2 audits, 3 alarms; 5 to 8 the same for objects
	Flags uint16 // whom it concerns and who inherits it
	Mask  uint32 // what may be done
	// Who is the user or group; stored only when Flags name no class.
	Who uint64
	// Object and Inherit are the GUIDs of types 5 to 8.
	Object, Inherit [16]byte
}

const (
	aceAllow       = 0
	aceDeny        = 1
	aceFirstObject = 5
	aceLastObject  = 8

	aceOwner    = 0x1000
	aceGroup    = 0x2040 // the file's group, as opposed to a named one
	aceEveryone = 0x4000
	aceClasses  = 0x7040 // ACE_TYPE_FLAGS

	aceReadData    = 0x1
	aceWriteData   = 0x2
	aceAppendData  = 0x4
	aceReadNamed   = 0x8
	aceWriteNamed  = 0x10
	aceExecute     = 0x20
	aceDeleteChild = 0x40
	aceReadAttrs   = 0x80
	aceWriteAttrs  = 0x100
	aceReadACL     = 0x20000
	aceWriteACL    = 0x40000
	aceWriteOwner  = 0x80000
	aceSynchronize = 0x100000

	// What everybody may do, and what only the owner may.
	aceCommon = aceReadACL | aceReadAttrs | aceReadNamed | aceSynchronize
	aceOwners = aceWriteAttrs | aceWriteOwner | aceWriteACL | aceWriteNamed
)

const (
	classSize  = 8  // an entry for a class: type, flags, mask
	namedSize  = 16 // and a user or group
	objectSize = 48 // and two GUIDs

	maxTrivial = 6 * classSize
)

// storedSize is the length of an entry on disk (zfs_ace_fuid_size).
func storedSize(kind, flags uint16) int {
	switch {
	case kind >= aceFirstObject && kind <= aceLastObject:
		return objectSize
	case kind > aceDeny:
		return namedSize
	}
	switch flags & aceClasses {
	case aceOwner, aceGroup, aceEveryone:
		return classSize
	}
	return namedSize
}

// permissions turns three bits of a mode into a mask.
func permissions(bits uint64, dir bool) (mask uint32) {
	if bits&4 != 0 {
		mask |= aceReadData
	}
	if bits&2 != 0 {
		mask |= aceWriteData | aceAppendData
		if dir {
			mask |= aceDeleteChild
		}
	}
	if bits&1 != 0 {
		mask |= aceExecute
	}
	return mask
}

// appendTrivial appends the list that says what mode says, and how many entries
// it has, 3 to 6. The first entries exist only where a class may less than one
// behind it, since lists are read until something is allowed or denied
// (acl_trivial_access_masks and zfs_acl_chmod).
func appendTrivial(b []byte, mode uint64) ([]byte, uint64) {
	dir := mode&typeMask == typeDir
	owner, group, other := mode>>6&7, mode>>3&7, mode&7
	start := len(b)
	for _, e := range [...]struct {
		kind, flags uint16
		bits        uint64
	}{
		{aceAllow, aceOwner, owner &^ group & other},
		{aceDeny, aceOwner, (group | other) &^ owner},
		{aceDeny, aceGroup, other &^ group},
	} {
		if e.bits != 0 {
			b = appendClass(b, e.kind, e.flags, permissions(e.bits, dir))
		}
	}
	b = appendClass(b, aceAllow, aceOwner, aceCommon|aceOwners|permissions(owner, dir))
	b = appendClass(b, aceAllow, aceGroup, aceCommon|permissions(group, dir))
	b = appendClass(b, aceAllow, aceEveryone, aceCommon|permissions(other, dir))
	return b, uint64(len(b)-start) / classSize
}

func appendClass(b []byte, kind, flags uint16, mask uint32) []byte {
	return le.AppendUint32(le.AppendUint16(le.AppendUint16(b, kind), flags), mask)
}

func appendACL(b []byte, acl []ACE) []byte {
	for _, e := range acl {
		b = appendClass(b, e.Type, e.Flags, e.Mask)
		size := storedSize(e.Type, e.Flags)
		if size >= namedSize {
			b = le.AppendUint64(b, e.Who)
		}
		if size == objectSize {
			b = append(append(b, e.Object[:]...), e.Inherit[:]...)
		}
	}
	return b
}

// parseACL reads count entries that fill b.
func parseACL(b []byte, count uint64) ([]ACE, error) {
	if count > uint64(len(b)/classSize) {
		return nil, fmt.Errorf("access control list of %d entries in %d bytes", count, len(b))
	}
	acl := make([]ACE, count)
	for i := range acl {
		if len(b) < classSize {
			return nil, fmt.Errorf("entry %d of an access control list of %d: %d bytes left, want %d", i, count, len(b), classSize)
		}
		e := &acl[i]
		e.Type, e.Flags, e.Mask = le.Uint16(b), le.Uint16(b[2:]), le.Uint32(b[4:])
		size := storedSize(e.Type, e.Flags)
		if len(b) < size {
			return nil, fmt.Errorf("entry %d of an access control list of %d: %d bytes left, want %d", i, count, len(b), size)
		}
		if size >= namedSize {
			e.Who = le.Uint64(b[classSize:])
		}
		if size == objectSize {
			copy(e.Object[:], b[namedSize:])
			copy(e.Inherit[:], b[namedSize+len(e.Object):])
		}
		b = b[size:]
	}
	if len(b) != 0 {
		return nil, fmt.Errorf("%d bytes behind an access control list of %d entries", len(b), count)
	}
	return acl, nil
}
