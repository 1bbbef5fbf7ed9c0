package zfs

import (
	"crypto/sha256"
	"encoding/binary"
	"io/fs"
)

// Identity tells whether two files of one pool are the same without reading
// them: a file of a snapshot and that of the dataset, above all.
type Identity struct {
	// Content is equal where the bytes of two files of the same number (Ino) are.
	// Other than that, nothing follows from it: equal bytes may be stored twice.
	Content [16]byte
	// Attributes is equal where owner, mode, times and extended attributes are the
	// same; never of files whose attributes are in a directory of their own.
	Attributes [16]byte
}

// IdentityOf makes the identity of a file that Lstat or the Info of a directory's
// entry describes; ok is false where info is
// not of an [FS]. It reads
// nothing: it is a digest of the file's dnode, whose pointers lead to other
// blocks once the content is another.
func IdentityOf(info fs.FileInfo) (id Identity, ok bool) {
	i, ok := info.(*fileInfo)
	if !ok || i.in == nil {
		return id, false
	}
	dn := i.in.ob.dn
	h := sha256.New()
	var head [24]byte
	binary.LittleEndian.PutUint64(head[:], uint64(i.in.Size))
	binary.LittleEndian.PutUint64(head[8:], uint64(dn.BlockSize))
	binary.LittleEndian.PutUint64(head[16:], dn.MaxBlock)
	h.Write(head[:])
	for n := range dn.Pointers {
		h.Write(dn.Pointers[n][:])
	}
	copy(id.Content[:], h.Sum(nil))
	h.Reset()
	h.Write(dn.Bonus)
	if dn.Spill != nil {
		h.Write(dn.Spill[:])
	}
	if i.in.attrs.XattrObj != 0 { // they are files of their own, which may change alone
		h.Write([]byte(i.in.Dataset))
	}
	copy(id.Attributes[:], h.Sum(nil))
	return id, true
}

// Unchanged tells whether two datasets or snapshots have the same root, so that
// all of their files are the same. Names as in [Pool.Dataset].
func (p *Pool) Unchanged(a, b string) bool {
	x, y := p.findSet(a), p.findSet(b)
	return x != nil && y != nil && x.bp == y.bp
}
