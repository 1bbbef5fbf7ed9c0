package sa

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kldload/kldload/zfs/internal/nvlist"
)

// maxXattr is the longest value among the system attributes
// (DXATTR_MAX_ENTRY_SIZE of include/sys/zfs_sa.h).
const maxXattr = 32768

const maxName = 255

// namespaces are the beginnings of the names that Linux knows. A name without
// one is a user's: pools written with zfs_xattr_compat=1 leave "user." out.
var namespaces = []string{userNamespace, "security.", "system.", "trusted."}

const userNamespace = "user."

// packXattrs makes the value of ZPL_DXATTR: an nvlist of byte arrays, here by
// rising name.
func packXattrs(xattrs map[string][]byte) ([]byte, error) {
	list := make(nvlist.List, 0, len(xattrs))
	for _, name := range sortedNames(xattrs) {
		if err := checkXattr(name); err != nil {
			return nil, err
		}
		list = append(list, nvlist.Pair{Name: name, Value: xattrs[name]})
	}
	b, err := nvlist.Encode(list)
	if err != nil {
		return nil, fmt.Errorf("encoding xattrs: %w", err)
	}
	if len(b) > maxLength {
		return nil, fmt.Errorf("encoding xattrs: %d bytes, at most %d", len(b), maxLength)
	}
	return b, nil
}

// unpackXattrs reads the value of ZPL_DXATTR.
func unpackXattrs(b []byte) (map[string][]byte, error) {
	list, err := nvlist.Decode(b)
	if err != nil {
		return nil, fmt.Errorf("decoding xattrs: %w", err)
	}
	xattrs := make(map[string][]byte, len(list))
	for _, p := range list {
		value, ok := p.Value.([]byte)
		if !ok {
			return nil, fmt.Errorf("decoding the xattr %q: a %T, want bytes", p.Name, p.Value)
		}
		name := XattrName(p.Name)
		if _, twice := xattrs[name]; twice {
			return nil, fmt.Errorf("decoding the xattr %q: it is there twice", name)
		}
		xattrs[name] = value
	}
	return xattrs, nil
}

// XattrName is the name under which Linux shows an xattr that is stored as
// stored, here or as an entry of an xattr directory.
func XattrName(stored string) string {
	for _, prefix := range namespaces {
		if strings.HasPrefix(stored, prefix) {
			return stored
		}
	}
	return userNamespace + stored
}

func sortedNames(xattrs map[string][]byte) []string { return slices.Sorted(maps.Keys(xattrs)) }

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
	for _, name := range sortedNames(xattrs) {
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
