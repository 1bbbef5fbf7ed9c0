package diskimage

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
)

const (
	// countPage is how many counters are allocated at once.
	countPage = 1024
	// maxCountPages bounds the counters to 96 MiB: enough for 3 TiB of
	// referenced clusters of 64 KiB, whatever a header claims.
	maxCountPages = 96 << 20 / (2 * countPage)

	// A counter holds references up to maxCount, where it stays, and whether
	// one of them makes the cluster part of a table.
	maxCount   = 1<<15 - 1
	countTable = 1 << 15
)

// clusterCounts counts the references to each cluster of a file. Memory is
// taken for the parts of the file that are referenced.
type clusterCounts struct {
	pages map[int64]*[countPage]uint16
	last  *[countPage]uint16
	index int64 // of last
}

// add counts n references to a cluster. It refuses what is beyond its bound.
func (t *clusterCounts) add(cluster int64, n uint32, flag uint16) error {
	if p := cluster / countPage; t.last == nil || p != t.index {
		if t.pages[p] == nil {
			if len(t.pages) == maxCountPages {
				return unsupportedf("checking refcounts: more than %d clusters, or so, of the file are in use", maxCountPages*countPage)
			}
			t.pages[p] = new([countPage]uint16)
		}
		t.last, t.index = t.pages[p], p
	}
	c := &t.last[cluster%countPage]
	*c = uint16(min(uint32(*c&maxCount)+min(n, maxCount), maxCount)) | *c&countTable | flag
	return nil
}

// refcountTable reads the refcounts stored in an image ("Host cluster
// management" of the specification).
type refcountTable struct {
	order  uint    // a refcount has 1<<order bits
	blocks []int64 // offset of each refcount block, 0 for none, -1 for a bad one
	each   int64   // refcounts in a block
	cache  tableCache
	read   func(p []byte, off int64) error
}

// known tells whether the refcount of a cluster can be read.
func (t *refcountTable) known(cluster int64) bool {
	i := cluster / t.each
	return i >= int64(len(t.blocks)) || t.blocks[i] >= 0
}

// block returns the refcount block with index i, nil when there is none.
func (t *refcountTable) block(i int64) ([]byte, error) {
	if i >= int64(len(t.blocks)) || t.blocks[i] <= 0 {
		return nil, nil
	}
	at := t.blocks[i]
	b, err := t.cache.get(at, func(p []byte) error { return t.read(p, at) })
	if err != nil {
		return nil, fmt.Errorf("reading refcount block at offset %#x: %w", at, err)
	}
	return b, nil
}

// get returns the refcount of a cluster, 0 where no block says anything.
func (t *refcountTable) get(cluster int64) (uint64, error) {
	b, err := t.block(cluster / t.each)
	if err != nil || b == nil {
		return 0, err
	}
	return refcount(b, cluster%t.each, t.order), nil
}

// refcount reads entry i of a refcount block. Entries smaller than a byte
// begin at its least significant bit.
func refcount(b []byte, i int64, order uint) uint64 {
	switch order {
	case 3:
		return uint64(b[i])
	case 4:
		return uint64(binary.BigEndian.Uint16(b[i*2:]))
	case 5:
		return uint64(binary.BigEndian.Uint32(b[i*4:]))
	case 6:
		return binary.BigEndian.Uint64(b[i*8:])
	}
	bits := int64(1) << order
	return uint64(b[i*bits/8]>>(i*bits%8)) & (1<<bits - 1)
}

// visits lists, in order, the indices of the refcount blocks that exist or
// should, given what is referenced.
func (t *refcountTable) visits(refs *clusterCounts) []int64 {
	var all []int64
	for i, at := range t.blocks {
		if at > 0 {
			all = append(all, int64(i))
		}
	}
	for _, p := range slices.Sorted(maps.Keys(refs.pages)) {
		for i := p * countPage / t.each; i*t.each < (p+1)*countPage; i++ {
			if n := len(all); n == 0 || all[n-1] != i {
				all = append(all, i)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
