package zfs

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/kldload/kldload/zfs/internal/zap"
)

const cachedListed = 1 << 18 // entries of all directories that are kept

// listed is an entry of a directory. Its value is the file's object in the low
// 48 bits and its type, as in st_mode, in the high 4 (ZFS_DIRENT_*, zfs_znode.h).
type listed struct {
	name   string
	object uint64
	kind   uint8 // of st_mode, shifted down by 12; 0 is unknown
}

func newListed(e zap.Entry) (listed, error) {
	v := e.Integers()
	if e.IntSize() != 8 || len(v) == 0 {
		return listed{}, fmt.Errorf("entry %q has integers of %d bytes: want one of 8", e.Name, e.IntSize())
	}
	if e.Name == "" || e.Name == "." || e.Name == ".." || strings.ContainsAny(e.Name, "/\x00") {
		return listed{}, fmt.Errorf("entry %q is none of a directory", e.Name)
	}
	return listed{e.Name, v[0] & (1<<48 - 1), uint8(v[0] >> 60)}, nil
}

// listing is a directory as read, by name.
type listing struct {
	entries []listed
	names   map[string]int32
}

// listingCache keeps listings until they hold too many entries in sum.
type listingCache struct {
	byID    map[uint64]*listing
	entries int
}

func (f *FS) cachedList(id uint64) *listing {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dirs.byID[id]
}

// list reads a directory, or takes it from the cache.
func (f *FS) list(in *fileNode) (*listing, error) {
	if l := f.cachedList(in.Ino); l != nil {
		return l, nil
	}
	l, err := readListing(in.ob)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dirs.entries += len(l.entries) + 8; f.dirs.byID == nil || f.dirs.entries > cachedListed {
		f.dirs = listingCache{byID: map[uint64]*listing{}, entries: len(l.entries)}
	}
	f.dirs.byID[in.Ino] = l
	return l, nil
}

func readListing(ob *readObject) (*listing, error) {
	z, err := ob.zap()
	if err != nil {
		return nil, err
	}
	l := &listing{names: map[string]int32{}}
	err = z.Walk(func(entry zap.Entry) error {
		e, err := newListed(entry)
		if err != nil {
			return err
		}
		l.entries = append(l.entries, e)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%q directory object %d: %w", ob.set.name, ob.id, err)
	}
	slices.SortFunc(l.entries, func(a, b listed) int { return strings.Compare(a.name, b.name) })
	for i, e := range l.entries {
		if _, twice := l.names[e.name]; twice {
			return nil, fmt.Errorf("%q directory object %d: entry %q is there twice", ob.set.name, ob.id, e.name)
		}
		l.names[e.name] = int32(i)
	}
	return l, nil
}

// lookup finds a name in a directory, which is not listed for that.
func (f *FS) lookup(in *fileNode, name string) (listed, error) {
	if l := f.cachedList(in.Ino); l != nil {
		i, ok := l.names[name]
		if !ok {
			return listed{}, fs.ErrNotExist
		}
		return l.entries[i], nil
	}
	z, err := in.ob.zap()
	if err != nil {
		return listed{}, err
	}
	e, ok, err := z.Lookup(name)
	switch {
	case err != nil:
		return listed{}, fmt.Errorf("%q directory object %d: %w", f.set.name, in.Ino, err)
	case !ok:
		return listed{}, fs.ErrNotExist
	}
	return newListed(e)
}

// child reads the file an entry of a directory stands for. Its type must be the
// entry's, and a directory's parent the one it is found in, which keeps
// directories from being their own descendants.
func (f *FS) child(dir uint64, e listed) (*fileNode, error) {
	in, err := f.readNode(e.object)
	if err != nil {
		return nil, err
	}
	if kind := uint8(in.Mode >> 12); e.kind != 0 && e.kind != kind {
		return nil, fmt.Errorf("%q object %d has mode %#o: the entry %q in %d wants type %d", f.set.name, in.Ino, in.Mode, e.name, dir, e.kind)
	}
	if in.Mode&modeType == modeDir && (in.attrs.Parent != dir || in.Ino == f.root) {
		return nil, fmt.Errorf("%q directory object %d has parent %d: the entry %q is in %d", f.set.name, in.Ino, in.attrs.Parent, e.name, dir)
	}
	return in, nil
}
