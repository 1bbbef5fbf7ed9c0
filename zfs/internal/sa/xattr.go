package sa

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// maxXattr is the longest value among the system attributes
// (DXATTR_MAX_ENTRY_SIZE of include/sys/zfs_sa.h).
const maxXattr = 32768

const maxName = 255

// packXattrs makes the value of ZPL_DXATTR.
func packXattrs(xattrs map[string][]byte) ([]byte, error) {
	be := binary.BigEndian
	b := []byte{1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}
	for _, name := range slices.Sorted(maps.Keys(xattrs)) {
		v := xattrs[name]
		if err := checkXattr(name); err != nil {
			return nil, err
		}
		b = be.AppendUint32(b, uint32(pairLen(name, v)))
		b = be.AppendUint32(b, uint32(align8(16+len(name)+1)+align8(len(v))))
		b = be.AppendUint32(b, uint32(len(name)))
		b = append(b, name...)
		b = append(b, make([]byte, align4(len(name))-len(name))...)
		b = be.AppendUint32(b, 10)
		b = be.AppendUint32(b, uint32(len(v)))
		b = append(b, v...)
		b = append(b, make([]byte, align4(len(v))-len(v))...)
	}
	b = append(b, make([]byte, 8)...)
	if len(b) > maxLength {
		return nil, fmt.Errorf("encoding xattrs: %d bytes, at most %d", len(b), maxLength)
	}
	return b, nil
}

func checkXattr(name string) error {
	if name == "" || len(name) > maxName || strings.IndexByte(name, 0) >= 0 {
		return fmt.Errorf("encoding the xattr %q: a name has 1 to %d bytes and no NUL", name, maxName)
	}
	return nil
}

// listLen is the length of a packed list without pairs: header, version and
// flags, and the two words that end it.
const listLen = 4 + 8 + 8

// pairLen is the length of a packed pair: its two sizes, its name, type and
// count, its bytes.
func pairLen(name string, value []byte) int {
	return 4 + 4 + 4 + align4(len(name)) + 4 + 4 + align4(len(value))
}

func align4(n int) int { return (n + 3) &^ 3 }

// SplitXattrs decides which xattrs go among the system attributes and which into
// an xattr directory, as a kernel does that sets them by rising name on a dataset
// with xattr=sa (zpl_xattr_set_sa and zfs_sa_set_xattr): values of more than
// 32768 bytes, and those with which the packed list would pass 65535, go to the
// directory. A map without entries is nil.
func SplitXattrs(xattrs map[string][]byte) (inSA, inDir map[string][]byte) {
	size := listLen
	for name, v := range xattrs {
		if len(v) > maxXattr {
			size = maxLength
		}
		size += pairLen(name, v)
	}
	if len(xattrs) == 0 || size <= maxLength {
		return xattrs, nil
	}
	size = listLen
	inSA, inDir = map[string][]byte{}, map[string][]byte{}
	for _, name := range slices.Sorted(maps.Keys(xattrs)) {
		v := xattrs[name]
		if grown := size + pairLen(name, v); len(v) <= maxXattr && grown <= maxLength {
			inSA[name], size = v, grown
		} else {
			inDir[name] = v
		}
	}
	if len(inSA) == 0 {
		inSA = nil
	}
	return inSA, inDir
}
