package sa

// attr is the number of an attribute. Those to 15 are fixed (sa_legacy_attrs of
// module/zfs/sa.c); the others are what OpenZFS assigns in a new dataset.
type attr uint16

const (
	attrATime attr = iota
	attrMTime
	attrCTime
	attrCRTime
	attrGen
	attrMode
	attrSize
	attrParent
	attrLinks
	attrXattr
	attrRdev
	attrFlags
	attrUID
	attrGID
	attrPad
	attrZnodeACL
	attrDACLCount
	attrSymlink
	attrScanstamp
	attrDACLACEs
	attrDXattr
	attrProjID
	attrCount

	legacyCount = attrDACLCount
)

// registration is an entry of the registry: a length of 0 means that it varies.
// swap tells how to turn the value round on a machine of the other byte order
// (sa_bswap_type_t of include/sys/sa.h).
type registration struct {
	name   string
	length uint16
	swap   uint8
}

const (
	swap64   = 0
	swapNone = 3
	swapACL  = 4
)

// registrations by attribute number: zfs_attr_table of module/zfs/zfs_sa.c.
var registrations = [attrCount]registration{
	attrATime:     {"ZPL_ATIME", 16, swap64},
	attrMTime:     {"ZPL_MTIME", 16, swap64},
	attrCTime:     {"ZPL_CTIME", 16, swap64},
	attrCRTime:    {"ZPL_CRTIME", 16, swap64},
	attrGen:       {"ZPL_GEN", 8, swap64},
	attrMode:      {"ZPL_MODE", 8, swap64},
	attrSize:      {"ZPL_SIZE", 8, swap64},
	attrParent:    {"ZPL_PARENT", 8, swap64},
	attrLinks:     {"ZPL_LINKS", 8, swap64},
	attrXattr:     {"ZPL_XATTR", 8, swap64},
	attrRdev:      {"ZPL_RDEV", 8, swap64},
	attrFlags:     {"ZPL_FLAGS", 8, swap64},
	attrUID:       {"ZPL_UID", 8, swap64},
	attrGID:       {"ZPL_GID", 8, swap64},
	attrPad:       {"ZPL_PAD", 32, swap64},
	attrZnodeACL:  {"ZPL_ZNODE_ACL", 88, swapNone},
	attrDACLCount: {"ZPL_DACL_COUNT", 8, swap64},
	attrSymlink:   {"ZPL_SYMLINK", 0, swapNone},
	attrScanstamp: {"ZPL_SCANSTAMP", 32, swapNone},
	attrDACLACEs:  {"ZPL_DACL_ACES", 0, swapACL},
	attrDXattr:    {"ZPL_DXATTR", 0, swapNone},
	attrProjID:    {"ZPL_PROJID", 8, swap64},
}

// base is how every object begins. GRUB counts on these offsets.
var base = [...]attr{
	attrMode, attrSize, attrGen, attrUID, attrGID, attrParent, attrFlags,
	attrATime, attrMTime, attrCTime, attrCRTime, attrLinks,
}

// baseSize is the size of base: four times are twice as long.
const baseSize = (len(base) + 4) * 8

// A set says which attributes follow base, in the order of its bits, which is
// the order in the buffer: what varies comes last.
type set uint8

const (
	hasBase set = 1 << iota
	hasProjID
	hasRdev
	hasDACLCount
	hasDACLACEs
	hasSymlink
	hasXattr
	hasDXattr
)

// behind is the attribute of each bit of a set but hasBase.
var behind = [...]attr{1: attrProjID, attrRdev, attrDACLCount, attrDACLACEs, attrSymlink, attrXattr, attrDXattr}

// firstLayout is the number of the first layout: 0 is kept for old znodes and 1
// for the empty layout. The kernel numbers a layout that it adds by how many there
// are, so the numbers have no gaps.
const firstLayout = 2

// layoutSets are the layouts that are written, from number firstLayout. First
// those of whole objects as the kernel makes them, most common first, then what
// is left in the bonus buffer when the rest spills, then what spills.
var layoutSets = func() []set {
	const acl = hasDACLCount | hasDACLACEs
	kinds := []set{hasProjID, 0, hasRdev}
	tails := []set{0, hasDXattr, hasXattr, hasXattr | hasDXattr}
	var l []set
	for _, tail := range tails {
		for _, kind := range kinds {
			l = append(l, hasBase|kind|acl|tail)
		}
		l = append(l, hasBase|acl|hasSymlink|tail)
	}
	for _, kind := range kinds {
		l = append(l, hasBase|kind|hasDACLCount)
	}
	for _, aces := range []set{0, hasDACLACEs} {
		for _, link := range []set{0, hasSymlink} {
			for _, tail := range tails {
				if spill := aces | link | tail; spill&^hasXattr != 0 {
					l = append(l, spill)
				}
			}
		}
	}
	return l
}()

// layoutNumbers finds the number of a layout by its set; 0 for none.
var layoutNumbers = func() (numbers [1 << 8]uint16) {
	for i, s := range layoutSets {
		numbers[s] = firstLayout + uint16(i)
	}
	return numbers
}()

// attrs lists a set in the order of the buffer.
func (s set) attrs() []uint16 {
	var l []uint16
	if s&hasBase != 0 {
		for _, a := range base {
			l = append(l, uint16(a))
		}
	}
	for bit := 1; bit < len(behind); bit++ {
		if s>>bit&1 != 0 {
			l = append(l, uint16(behind[bit]))
		}
	}
	return l
}

// Layout is an entry of the LAYOUTS ZAP: its key is Number in decimal, its value
// Attrs as an array of 16-bit integers.
type Layout struct {
	Number uint16
	Attrs  []uint16
}

// Layouts lists the layouts that [Encode] uses, by rising number without gaps,
// for the LAYOUTS ZAP of a dataset.
func Layouts() []Layout {
	l := make([]Layout, len(layoutSets))
	for i, s := range layoutSets {
		l[i] = Layout{firstLayout + uint16(i), s.attrs()}
	}
	return l
}

// Registered is an entry of the REGISTRY ZAP: Value holds number, byte order and
// length of the attribute called Name (ATTR_ENCODE of include/sys/sa_impl.h).
type Registered struct {
	Name  string
	Value uint64
}

// Registry lists the attributes by number, for the REGISTRY ZAP of a dataset.
func Registry() []Registered {
	l := make([]Registered, attrCount)
	for i, r := range registrations {
		l[i] = Registered{r.name, uint64(i) | uint64(r.swap)<<16 | uint64(r.length)<<24}
	}
	return l
}
