package ext4

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Extended attributes: "Extended Attributes".
const (
	xattrMagic      = 0xEA020000
	xattrHeaderSize = 32 // of a block; the in-inode header is the magic alone
	xattrEntrySize  = 16
	xattrInodeRoom  = inodeSize - 128 - extraIsize - 4
	xattrACLAccess  = 2
	xattrACLDefault = 3
)

// xattrPrefixes is e_name_index and what it stands for, longest match first.
var xattrPrefixes = []struct {
	index  uint8
	prefix string
	whole  bool // the prefix is the full name
}{
	{xattrACLAccess, "system.posix_acl_access", true},
	{xattrACLDefault, "system.posix_acl_default", true},
	{8, "system.richacl", true},
	{1, "user.", false},
	{4, "trusted.", false},
	{6, "security.", false},
	{7, "system.", false},
}

type xattr struct {
	index uint8
	name  string // without the prefix
	value []byte // in its on-disk form
}

func (x *xattr) entrySize() int { return xattrEntrySize + (len(x.name)+3)&^3 }

func (x *xattr) size() int { return x.entrySize() + (len(x.value)+3)&^3 }

// hash is ext4_xattr_hash_entry.
func (x *xattr) hash() uint32 {
	var h uint32
	for i := range len(x.name) {
		h = h<<5 ^ h>>27 ^ uint32(x.name[i])
	}
	for v := x.value; len(v) > 0; {
		var word [4]byte
		n := copy(word[:], v)
		h = h<<16 ^ h>>16 ^ le.Uint32(word[:])
		v = v[n:]
	}
	return h
}

func newXattr(name string, value []byte) (xattr, error) {
	for _, p := range xattrPrefixes {
		rest, ok := strings.CutPrefix(name, p.prefix)
		if !ok || p.whole != (rest == "") {
			continue
		}
		if len(rest) > 255 {
			return xattr{}, fmt.Errorf("attribute name %q is longer than 255 bytes", name)
		}
		if strings.IndexByte(rest, 0) >= 0 {
			return xattr{}, fmt.Errorf("attribute name %q holds a NUL", name)
		}
		x := xattr{p.index, rest, value}
		if p.index == xattrACLAccess || p.index == xattrACLDefault {
			disk, err := aclToDisk(value)
			if err != nil {
				return xattr{}, fmt.Errorf("attribute %q: %w", name, err)
			}
			x.value = disk
		}
		return x, nil
	}
	return xattr{}, fmt.Errorf("attribute %q: ext4 has no such name space "+
		"(want user., trusted., security. or system. and a name)", name)
}

// newXattrs sorts attributes as the kernel wants them in a block.
func newXattrs(set map[string][]byte) ([]xattr, error) {
	var list []xattr
	for name, value := range set {
		x, err := newXattr(name, value)
		if err != nil {
			return nil, err
		}
		list = append(list, x)
	}
	slices.SortFunc(list, func(a, b xattr) int {
		return cmp.Or(cmp.Compare(a.index, b.index), cmp.Compare(len(a.name), len(b.name)),
			strings.Compare(a.name, b.name))
	})
	return list, nil
}

// splitXattrs puts as many attributes as fit into the inode and the rest into
// one block.
func splitXattrs(list []xattr) (inInode, inBlock []xattr, err error) {
	inodeRoom, blockRoom := xattrInodeRoom-4, blockSize-xattrHeaderSize-4
	for _, x := range list {
		n := x.size()
		switch {
		case n <= inodeRoom:
			inodeRoom -= n
			inInode = append(inInode, x)
		case n <= blockRoom:
			blockRoom -= n
			inBlock = append(inBlock, x)
		default:
			return nil, nil, fmt.Errorf("extended attributes of %d bytes do not fit: "+
				"the inode takes %d and one block %d", sumSizes(list), xattrInodeRoom-4, blockSize-xattrHeaderSize-4)
		}
	}
	return inInode, inBlock, nil
}

func sumSizes(list []xattr) (n int) {
	for _, x := range list {
		n += x.size()
	}
	return n
}

// putXattrs lays entries from the start of area and values from its end. Value
// offsets count from base bytes before area.
func putXattrs(area []byte, base int, list []xattr) {
	at, end := 0, len(area)
	for _, x := range list {
		end -= (len(x.value) + 3) &^ 3
		e := area[at:]
		e[0], e[1] = uint8(len(x.name)), x.index
		if len(x.value) > 0 {
			le.PutUint16(e[2:], uint16(base+end))
		}
		le.PutUint32(e[8:], uint32(len(x.value)))
		le.PutUint32(e[12:], x.hash())
		copy(e[xattrEntrySize:], x.name)
		copy(area[end:], x.value)
		at += x.entrySize()
	}
}

// setXattrs stores split attributes in an inode, writing the block if there is one.
func (w *Writer) setXattrs(path string, in *inode, inInode, inBlock []xattr) error {
	if len(inInode) > 0 {
		in.xattrs = make([]byte, 4+xattrInodeRoom)
		le.PutUint32(in.xattrs, xattrMagic)
		putXattrs(in.xattrs[4:], 0, inInode)
	}
	if len(inBlock) == 0 {
		return nil
	}
	at, err := w.allocBlock(path)
	if err != nil {
		return err
	}
	in.xattrBlock = at
	in.blocks++
	return w.out.write(xattrBlock(w.seed, at, inBlock), at*blockSize)
}

func xattrBlock(seed uint32, at int64, list []xattr) []byte {
	b := make([]byte, blockSize)
	le.PutUint32(b[0:], xattrMagic)
	le.PutUint32(b[4:], 1) // reference count
	le.PutUint32(b[8:], 1) // blocks
	var hash uint32        // ext4_xattr_rehash
	for _, x := range list {
		h := x.hash()
		if h == 0 {
			hash = 0
			break
		}
		hash = hash<<16 ^ hash>>16 ^ h
	}
	le.PutUint32(b[12:], hash)
	putXattrs(b[xattrHeaderSize:], xattrHeaderSize, list)
	le.PutUint32(b[16:], xattrBlockChecksum(seed, at, b))
	return b
}

// xattrBlockChecksum covers the block number and the block with an empty
// checksum field.
func xattrBlockChecksum(seed uint32, at int64, b []byte) uint32 {
	var none [4]byte
	sum := crc32c64(seed, uint64(at))
	sum = crc32c(sum, b[:16])
	sum = crc32c(sum, none[:])
	return crc32c(sum, b[20:])
}
