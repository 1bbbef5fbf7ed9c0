package ext4

import (
	"errors"
	"fmt"
)

// xattrsOf collects the attributes of an inode from it and from its block.
func (f *FS) xattrsOf(in *diskInode) (map[string][]byte, error) {
	set := map[string][]byte{}
	if b := in.xattrs; len(b) >= 4 && le.Uint32(b) == xattrMagic {
		if err := parseXattrs(set, b[4:], 0); err != nil {
			return nil, fmt.Errorf("inode %d: attributes in the inode: %w", in.Ino, err)
		}
	}
	if in.xattrBlock != 0 {
		b, err := f.readBlock(in.xattrBlock)
		if err == nil {
			err = f.parseXattrBlock(set, b, in.xattrBlock)
		}
		if err != nil {
			return nil, fmt.Errorf("inode %d: attributes in block %d: %w", in.Ino, in.xattrBlock, err)
		}
	}
	if len(set) == 0 {
		return nil, nil
	}
	return set, nil
}

func (f *FS) parseXattrBlock(set map[string][]byte, b []byte, at int64) error {
	if m := le.Uint32(b); m != xattrMagic {
		return fmt.Errorf("magic is %#x, want %#x", m, uint32(xattrMagic))
	}
	if n := le.Uint32(b[8:]); n != 1 {
		return fmt.Errorf("%d blocks, want 1", n)
	}
	if f.checksums {
		if err := sameChecksum(le.Uint32(b[16:]), xattrBlockChecksum(f.seed, at, b)); err != nil {
			return err
		}
	}
	return parseXattrs(set, b[xattrHeaderSize:], xattrHeaderSize)
}

// parseXattrs reads entries from area; value offsets count from base bytes
// before it.
func parseXattrs(set map[string][]byte, area []byte, base int) error {
	for at := 0; ; {
		if at+4 > len(area) {
			return errors.New("entries have no end")
		}
		if le.Uint32(area[at:]) == 0 {
			return nil
		}
		e := area[at:]
		if len(e) < xattrEntrySize || len(e) < xattrEntrySize+int(e[0]) {
			return fmt.Errorf("entry at %d does not fit", at)
		}
		x := xattr{index: e[1], name: string(e[xattrEntrySize : xattrEntrySize+int(e[0])])}
		if n := le.Uint32(e[4:]); n != 0 {
			return fmt.Errorf("entry at %d: a value in inode %d is not supported", at, n)
		}
		size, off := int64(le.Uint32(e[8:])), int64(le.Uint16(e[2:]))-int64(base)
		if size > 0 {
			if off < 0 || off+size > int64(len(area)) {
				return fmt.Errorf("entry at %d: value of %d bytes at %d of %d", at, size, off, len(area))
			}
			x.value = area[off : off+size]
		}
		name, value, err := x.full()
		if err != nil {
			return fmt.Errorf("entry at %d: %w", at, err)
		}
		set[name] = value
		at += x.entrySize()
	}
}

// full gives the name with its prefix and the value as programs see it.
func (x *xattr) full() (string, []byte, error) {
	for _, p := range xattrPrefixes {
		if p.index != x.index || p.whole != (x.name == "") {
			continue
		}
		if p.index == xattrACLAccess || p.index == xattrACLDefault {
			v, err := aclFromDisk(x.value)
			return p.prefix, v, err
		}
		return p.prefix + x.name, append([]byte{}, x.value...), nil
	}
	return "", nil, fmt.Errorf("attribute %q has name space %d", x.name, x.index)
}
