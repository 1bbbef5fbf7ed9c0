package zap

import (
	"cmp"
	"fmt"
	"slices"
	"sort"
)

// Options are the inputs of a ZAP besides its entries.
type Options struct {
	// Salt is stirred into the hash of names. Its lowest bit is set, as kernels do.
	Salt uint64
}

// Layout is a ZAP whose blocks can be asked for one by one. It keeps the entries
// and 8 bytes for each; a Layout is safe for concurrent use.
type Layout struct {
	entries   []Entry
	salt      uint64
	order     []uint64 // hash>>36<<32 | index into entries, sorted
	micro     bool
	blockSize int

	// Fat ZAPs only.
	geo        geometry
	leaves     []span
	tableShift uint // log2 of the number of pointers
	tableSize  int  // blocks of the external pointer table, or 0
}

// span is a leaf: the entries order[lo:hi], whose hashes begin with the prefixLen
// bits of prefix.
type span struct {
	lo, hi    int
	prefix    uint64
	prefixLen uint
}

// Build lays entries out in one call: all blocks one after another, and their size.
// Errors are those of [Plan].
func Build(entries []Entry, opts Options) (blocks []byte, blockSize int, err error) {
	l, err := Plan(entries, opts)
	if err != nil {
		return nil, 0, err
	}
	blocks = make([]byte, l.Blocks()*l.blockSize)
	for n := range l.Blocks() {
		l.Block(n, blocks[n*l.blockSize:(n+1)*l.blockSize])
	}
	return blocks, l.blockSize, nil
}

// Plan decides the layout of entries: micro if each is one uint64 with a name of at
// most 49 bytes and 128 KiB hold them, else fat. It fails for a name that is empty,
// longer than 255 bytes, holds a NUL or is there twice, for a value of no or more
// than 8192 bytes, and for more names alike in hash than a leaf holds, which no kernel
// could hold either; no salt helps against names of one length made for that.
// Entries must not change while the Layout is in use.
func Plan(entries []Entry, opts Options) (*Layout, error) {
	l := &Layout{entries: entries, salt: opts.Salt | 1, micro: true}
	if uint64(len(entries)) > 1<<32 {
		return nil, fmt.Errorf("ZAP of %d entries: at most %d are supported", len(entries), uint64(1)<<32)
	}
	l.order = make([]uint64, len(entries))
	for i := range entries {
		e := &entries[i]
		if err := e.check(); err != nil {
			return nil, err
		}
		l.order[i] = hashName(l.salt, e.Name)>>(64-hashBits)<<32 | uint64(i)
		l.micro = l.micro && e.single && len(e.Name) < microNameLen
	}
	slices.Sort(l.order)
	if err := l.checkTwins(); err != nil {
		return nil, err
	}
	size := max(512, (microHead+microEntry*len(entries)+511)&^511)
	if l.micro = l.micro && size <= microMax; l.micro {
		l.blockSize = size
		return l, nil
	}
	return l, l.planFat()
}

// entry returns the entry at a place of the sorted order.
func (l *Layout) entry(at int) *Entry { return &l.entries[uint32(l.order[at])] }

// hash returns the hash of the entry at a place of the sorted order.
func (l *Layout) hash(at int) uint64 { return l.order[at] >> 32 << (64 - hashBits) }

// checkTwins looks at names of one hash: it fails for a name that is there twice,
// and for more than fit into a leaf. A micro ZAP of those would end the day a kernel
// makes it a fat one.
func (l *Layout) checkTwins() error {
	for lo := 0; lo < len(l.order); {
		hi := lo + 1
		for hi < len(l.order) && l.hash(hi) == l.hash(lo) {
			hi++
		}
		if hi-lo > 1 {
			if err := l.checkAlike(lo, hi); err != nil {
				return err
			}
		}
		lo = hi
	}
	return nil
}

func (l *Layout) checkAlike(lo, hi int) error {
	names, chunks := make([]string, 0, hi-lo), 0
	for at := lo; at < hi; at++ {
		names = append(names, l.entry(at).Name)
		chunks += l.entry(at).chunks()
	}
	slices.Sort(names)
	for i := 1; i < len(names); i++ {
		if names[i] == names[i-1] {
			return fmt.Errorf("ZAP entry %q is there twice", names[i])
		}
	}
	if chunks > newGeometry(fatShift).chunks {
		return l.tooAlike(lo, hi, hashBits)
	}
	return nil
}

func (l *Layout) tooAlike(lo, hi int, bits uint) error {
	return fmt.Errorf("ZAP entry %q and %d more have hashes alike in %d bits, wanted no more than fit into one leaf of %d bytes",
		l.entry(lo).Name, hi-lo-1, bits, 1<<fatShift)
}

// planFat splits the hashes into leaves that hold their entries, and sizes the
// pointer table after the longest prefix.
func (l *Layout) planFat() error {
	l.geo = newGeometry(fatShift)
	l.blockSize = 1 << fatShift
	used := make([]int, len(l.order)+1) // chunks of all entries before
	for at := range l.order {
		used[at+1] = used[at] + l.entry(at).chunks()
	}
	if err := l.split(span{hi: len(l.order)}, used); err != nil {
		return err
	}
	l.tableShift = l.geo.embeddedShift()
	for _, s := range l.leaves {
		l.tableShift = max(l.tableShift, s.prefixLen)
	}
	if l.tableShift > l.geo.embeddedShift() {
		l.tableSize = 1 << (l.tableShift - (l.geo.shift - 3))
	}
	return nil
}

// split appends s to the leaves, or its halves if it is too full for one.
func (l *Layout) split(s span, used []int) error {
	if used[s.hi]-used[s.lo] <= l.geo.chunks {
		l.leaves = append(l.leaves, s)
		return nil
	}
	// A kernel's pointer table ends two bits before the hash (zap_table_grow).
	if s.prefixLen == hashBits-2 {
		return l.tooAlike(s.lo, s.hi, s.prefixLen)
	}
	left := span{s.lo, 0, s.prefix << 1, s.prefixLen + 1}
	right := span{0, s.hi, s.prefix<<1 | 1, s.prefixLen + 1}
	mid := s.lo + sort.Search(s.hi-s.lo, func(i int) bool {
		return prefix(l.hash(s.lo+i), right.prefixLen) >= right.prefix
	})
	left.hi, right.lo = mid, mid
	if err := l.split(left, used); err != nil {
		return err
	}
	return l.split(right, used)
}

// Blocks is the number of blocks.
func (l *Layout) Blocks() int {
	if l.micro {
		return 1
	}
	return 1 + l.tableSize + len(l.leaves)
}

// BlockSize is the size of each block in bytes: a multiple of 512 up to 128 KiB for
// a micro ZAP, 16 KiB for a fat one.
func (l *Layout) BlockSize() int { return l.blockSize }

// Micro says whether the ZAP is a micro ZAP.
func (l *Layout) Micro() bool { return l.micro }

// Block writes block n, below Blocks, into b, which has BlockSize bytes.
func (l *Layout) Block(n int, b []byte) {
	clear(b)
	switch {
	case l.micro:
		l.microBlock(b)
	case n == 0:
		l.header(b)
	case n <= l.tableSize:
		l.pointers(b, uint64(n-1)*uint64(l.blockSize/8))
	default:
		l.leaf(l.leaves[n-1-l.tableSize], b)
	}
}

// microBlock writes the entries in their own order.
func (l *Layout) microBlock(b []byte) {
	le.PutUint64(b, TypeMicro)
	le.PutUint64(b[8:], l.salt)
	cd := uint32(0)
	for at := range l.order {
		cd = l.nextCD(at, 0, cd)
		e := l.entry(at)
		p := b[microHead+microEntry*int(uint32(l.order[at])):]
		le.PutUint64(p, e.word)
		le.PutUint32(p[8:], cd)
		copy(p[14:microEntry-1], e.Name)
	}
}

// nextCD is the collision differentiator of the entry at a place, where lo is the
// first place of its leaf and cd was that of the place before: entries of one hash
// are numbered from 0.
func (l *Layout) nextCD(at, lo int, cd uint32) uint32 {
	if at > lo && l.hash(at) == l.hash(at-1) {
		return cd + 1
	}
	return 0
}

// header writes zap_phys_t with the pointers if they fit into its second half.
func (l *Layout) header(b []byte) {
	le.PutUint64(b, TypeHeader)
	le.PutUint64(b[8:], headerMagic)
	if l.tableSize > 0 {
		le.PutUint64(b[offPtrtbl:], 1)
		le.PutUint64(b[offPtrtbl+8:], uint64(l.tableSize))
	} else {
		l.pointers(b[l.blockSize/2:], 0)
	}
	le.PutUint64(b[offPtrtbl+16:], uint64(l.tableShift))
	le.PutUint64(b[offFreeBlock:], uint64(l.Blocks()))
	le.PutUint64(b[offLeaves:], uint64(len(l.leaves)))
	le.PutUint64(b[offEntries:], uint64(len(l.entries)))
	le.PutUint64(b[offSalt:], l.salt)
}

// pointers fills b with the part of the pointer table that starts at index first.
func (l *Layout) pointers(b []byte, first uint64) {
	i, _ := slices.BinarySearchFunc(l.leaves, first, func(s span, want uint64) int {
		return cmp.Compare((s.prefix+1)<<(l.tableShift-s.prefixLen)-1, want)
	})
	for at := 0; at < len(b); at += 8 {
		s := l.leaves[i]
		le.PutUint64(b[at:], uint64(1+l.tableSize+i))
		if first += 1; first == (s.prefix+1)<<(l.tableShift-s.prefixLen) {
			i++
		}
	}
}
