package ext4

import (
	"cmp"
	"fmt"
	"slices"
)

// Hash tree directories: "Hash Tree Directories".
const (
	dxEntrySize  = 8
	dxTailSize   = 8
	dxRootStart  = 32 // of the entries in the root block
	dxNodeStart  = 8
	dxRootLimit  = (blockSize - dxRootStart - dxTailSize) / dxEntrySize
	dxNodeLimit  = (blockSize - dxNodeStart - dxTailSize) / dxEntrySize
	dxMaxEntries = dxRootLimit * dxNodeLimit // leaves; two levels without large_dir

	// Leaves are filled to four fifths, as e2fsck -D does, so that the first
	// files added on the running system do not split each of them.
	dxLeafFill = dirRoom * 4 / 5
)

// dxEntry says which block holds the names from a hash on.
type dxEntry struct {
	hash  uint32
	block uint32 // of the directory
}

type hashedName struct {
	hash  uint32
	index int32
}

// indexedDir builds the blocks of a hash tree: root, inner nodes, leaves.
func (w *Writer) indexedDir(d *dir, seed uint32) ([][]byte, error) {
	leaves, index := w.leaves(d, seed)
	if len(leaves) > dxMaxEntries {
		return nil, fmt.Errorf("directory of %d entries is too large for a hash tree of two levels", len(d.entries))
	}
	inner := 0
	if len(index) > dxRootLimit {
		inner = int(ceilDiv(int64(len(index)), dxNodeLimit))
	}
	for i := range index {
		index[i].block += uint32(1 + inner)
	}
	blocks := make([][]byte, 1, 1+inner+len(leaves))
	top := index
	if inner > 0 {
		top = nil
		for chunk := range slices.Chunk(index, dxNodeLimit) {
			top = append(top, dxEntry{chunk[0].hash, uint32(len(blocks))})
			blocks = append(blocks, dxNode(chunk, seed))
		}
	}
	blocks[0] = dxRoot(d, top, inner > 0, seed)
	return append(blocks, leaves...), nil
}

// leaves sorts the names by hash into blocks. A run of equal hashes may cross a
// block border; the low bit of the later block's hash says so.
func (w *Writer) leaves(d *dir, seed uint32) (blocks [][]byte, index []dxEntry) {
	order := make([]hashedName, len(d.entries))
	for i, e := range d.entries {
		order[i] = hashedName{nameHash(e.name, &w.hashSeed), int32(i)}
	}
	slices.SortFunc(order, func(a, b hashedName) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.index, b.index))
	})
	k := newDirBlock()
	index = []dxEntry{{}}
	for i, o := range order {
		e := d.entries[o.index]
		if size := direntSize(e.name); k.at > 0 && k.at+size > dxLeafFill {
			blocks = append(blocks, k.seal(seed))
			k = newDirBlock()
			hash := o.hash
			if hash == order[i-1].hash {
				hash |= 1
			}
			index = append(index, dxEntry{hash, uint32(len(blocks))})
		}
		k.add(e.name, e.ino, e.kind)
	}
	return append(blocks, k.seal(seed)), index
}

func dxRoot(d *dir, index []dxEntry, deep bool, seed uint32) []byte {
	k := newDirBlock()
	k.add(".", d.ino, modeDir>>12)
	k.add("..", d.parent, modeDir>>12)
	b := k.b
	le.PutUint16(b[12+4:], blockSize-12) // ".." hides the tree from old kernels
	b[0x1C], b[0x1D] = hashHalfMD4, 8    // hash version, size of this record
	if deep {
		b[0x1E] = 1
	}
	putIndex(b, dxRootStart, dxRootLimit, index, seed)
	return b
}

func dxNode(index []dxEntry, seed uint32) []byte {
	b := make([]byte, blockSize)
	le.PutUint16(b[4:], blockSize) // an unused entry over the whole block
	putIndex(b, dxNodeStart, dxNodeLimit, index, seed)
	return b
}

// putIndex writes the entries of a root or node. The first has no hash; limit and
// count lie in its place.
func putIndex(b []byte, start, limit int, index []dxEntry, seed uint32) {
	for i, e := range index {
		le.PutUint32(b[start+i*dxEntrySize:], e.hash)
		le.PutUint32(b[start+i*dxEntrySize+4:], e.block)
	}
	le.PutUint16(b[start:], uint16(limit))
	le.PutUint16(b[start+2:], uint16(len(index)))
	le.PutUint32(b[start+limit*dxEntrySize+4:], dxChecksum(b, start, limit, len(index), seed))
}

// dxChecksum covers the entries in use and the tail with an empty checksum.
func dxChecksum(b []byte, start, limit, count int, seed uint32) uint32 {
	var none [4]byte
	sum := crc32c(seed, b[:start+count*dxEntrySize])
	tail := start + limit*dxEntrySize
	sum = crc32c(sum, b[tail:tail+4])
	return crc32c(sum, none[:])
}
