package ext4

import (
	"fmt"
	"math"
	"sort"
	"sync"
)

const maxExtentDepth = 5 // EXT4_MAX_EXTENT_DEPTH

// extentMap finds the blocks of a file. It keeps the leaf it used last.
type extentMap struct {
	fs *FS
	in *diskInode

	mu       sync.Mutex
	leaf     []mapped
	from, to int64 // logical blocks that leaf speaks for
}

// mapped is a run of blocks of a leaf; unwritten ones read as zeros.
type mapped struct {
	extent
	unwritten bool
}

// read fills b from offset off of the file, which has these bytes.
func (m *extentMap) read(b []byte, off int64) error {
	bs := m.fs.blockSize
	for len(b) > 0 {
		disk, n, err := m.find(off / bs)
		if err != nil {
			return err
		}
		skip := off % bs
		part := b[:min(int64(len(b)), n*bs-skip)]
		if disk == 0 {
			clear(part)
		} else if err := m.fs.readAt(part, disk*bs+skip); err != nil {
			return err
		}
		b, off = b[len(part):], off+int64(len(part))
	}
	return nil
}

// find returns where a logical block lies and for how many blocks that holds;
// disk is 0 in a hole.
func (m *extentMap) find(logical int64) (disk, n int64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if logical < m.from || logical >= m.to {
		if err := m.descend(logical); err != nil {
			return 0, 0, err
		}
	}
	i := sort.Search(len(m.leaf), func(i int) bool { return int64(m.leaf[i].file) > logical })
	end := m.to
	if i < len(m.leaf) {
		end = int64(m.leaf[i].file)
	}
	if i > 0 {
		e := m.leaf[i-1]
		if in := logical - int64(e.file); in < int64(e.n) {
			if e.unwritten {
				return 0, int64(e.n) - in, nil
			}
			return e.disk + in, int64(e.n) - in, nil
		}
	}
	return 0, end - logical, nil
}

// descend loads the leaf for a logical block. Each level must be one less deep
// than the one above and stay in its range, so a cycle ends with an error.
func (m *extentMap) descend(logical int64) error {
	node := m.in.block[:]
	from, to := int64(0), int64(math.MaxUint32)+1
	depth := int(le.Uint16(node[6:]))
	if depth > maxExtentDepth {
		return fmt.Errorf("extent tree of depth %d, want at most %d", depth, maxExtentDepth)
	}
	for where := "in the inode"; ; depth-- {
		count, err := checkExtentHeader(node, depth)
		if err != nil {
			return fmt.Errorf("extent node %s: %w", where, err)
		}
		if depth == 0 {
			leaf, err := m.fs.parseLeaf(node, count, from, to)
			if err != nil {
				return fmt.Errorf("extent node %s: %w", where, err)
			}
			m.leaf, m.from, m.to = leaf, from, to
			return nil
		}
		var child int64
		if child, from, to, err = parseIndex(node, count, from, to, logical); err != nil {
			return fmt.Errorf("extent node %s: %w", where, err)
		}
		if child == 0 { // before the first entry: a hole
			m.leaf, m.from, m.to = nil, from, to
			return nil
		}
		where = fmt.Sprintf("at block %d", child)
		if node, err = m.fs.extentBlock(m.in, child); err != nil {
			return fmt.Errorf("extent node %s: %w", where, err)
		}
	}
}

func checkExtentHeader(b []byte, depth int) (count int, err error) {
	count, limit := int(le.Uint16(b[2:])), int(le.Uint16(b[4:]))
	switch {
	case le.Uint16(b) != extentMagic:
		return 0, fmt.Errorf("magic is %#x, want %#x", le.Uint16(b), extentMagic)
	case count > limit || limit > len(b)/extentEntrySize-1:
		return 0, fmt.Errorf("%d of %d entries in %d bytes", count, limit, len(b))
	case int(le.Uint16(b[6:])) != depth:
		return 0, fmt.Errorf("depth is %d, want %d", le.Uint16(b[6:]), depth)
	}
	return count, nil
}

func (f *FS) extentBlock(in *diskInode, n int64) ([]byte, error) {
	b, err := f.readBlock(n)
	if err != nil {
		return nil, err
	}
	if tail := extentEntrySize * (1 + int(le.Uint16(b[4:]))); f.checksums && tail+4 <= len(b) {
		got := crc32c(inodeSeed(f.seed, in.Ino, in.generation), b[:tail])
		if want := le.Uint32(b[tail:]); got != want {
			return nil, fmt.Errorf("checksum is %#x, computed %#x", want, got)
		}
	}
	return b, nil
}

func (f *FS) parseLeaf(b []byte, count int, from, to int64) ([]mapped, error) {
	leaf := make([]mapped, count)
	at := from
	for i := range leaf {
		p := b[extentEntrySize*(i+1):]
		e := mapped{extent: extent{file: le.Uint32(p), n: uint32(le.Uint16(p[4:])),
			disk: int64(le.Uint32(p[8:])) | int64(le.Uint16(p[6:]))<<32}}
		if e.n > maxExtentBlocks {
			e.n, e.unwritten = e.n-maxExtentBlocks, true
		}
		end := int64(e.file) + int64(e.n)
		if e.n == 0 || int64(e.file) < at || end > to {
			return nil, fmt.Errorf("extent %d covers blocks %d to %d, want within %d and %d", i, e.file, end, at, to)
		}
		if e.disk <= f.firstBlock || e.disk+int64(e.n) > f.blocks {
			return nil, fmt.Errorf("extent %d is at block %d + %d of %d", i, e.disk, e.n, f.blocks)
		}
		leaf[i], at = e, end
	}
	return leaf, nil
}

// parseIndex picks the child that speaks for a logical block and its range.
func parseIndex(b []byte, count int, from, to, logical int64) (child, lo, hi int64, err error) {
	lo, hi = from, to
	at := from - 1
	for i := range count {
		p := b[extentEntrySize*(i+1):]
		first := int64(le.Uint32(p))
		if first <= at || first >= to {
			return 0, 0, 0, fmt.Errorf("entry %d starts at block %d, want within %d and %d", i, first, at+1, to)
		}
		at = first
		if first > logical {
			hi = min(hi, first)
			continue
		}
		child, lo = int64(le.Uint32(p[4:]))|int64(le.Uint16(p[8:]))<<32, first
		if child == 0 {
			return 0, 0, 0, fmt.Errorf("entry %d points to block 0", i)
		}
	}
	return child, lo, hi, nil
}
