package zfs

import (
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/kldload/kldload/zfs/internal/ondisk"
	"github.com/kldload/kldload/zfs/internal/zap"
)

// bitmap has a bit for each sector of the vdev. Bits are set from several
// goroutines.
type bitmap struct {
	words []uint64
	shift uint // of a sector
}

func newBitmap(size uint64, shift int) bitmap {
	return bitmap{make([]uint64, size>>shift/64+1), uint(shift)}
}

// masks goes over the words of a range of bytes that lies inside.
func (b bitmap) masks(off, size uint64, f func(w *uint64, mask uint64)) {
	for at, end := off>>b.shift, (off+size)>>b.shift; at < end; {
		n := min(64-at%64, end-at)
		f(&b.words[at/64], (1<<n-1)<<(at%64))
		at += n
	}
}

// set sets a range and tells whether it was clear.
func (b bitmap) set(off, size uint64) bool {
	clear := true
	b.masks(off, size, func(w *uint64, mask uint64) { clear = atomic.OrUint64(w, mask)&mask == 0 && clear })
	return clear
}

// unset clears a range and tells whether it was set.
func (b bitmap) unset(off, size uint64) bool {
	full := true
	b.masks(off, size, func(w *uint64, mask uint64) { full = atomic.AndUint64(w, ^mask)&mask == mask && full })
	return full
}

// full tells whether a range is set.
func (b bitmap) full(off, size uint64) bool {
	full := true
	b.masks(off, size, func(w *uint64, mask uint64) { full = atomic.LoadUint64(w)&mask == mask && full })
	return full
}

// count is the bytes that are set in a range.
func (b bitmap) count(off, size uint64) uint64 {
	n := 0
	b.masks(off, size, func(w *uint64, mask uint64) { n += bits.OnesCount64(*w & mask) })
	return uint64(n) << b.shift
}

// Entries of space maps (sys/space_map.h).
const (
	debugEntry   = 2 // in the top two bits
	twoWordEntry = 3
)

// spaceEntry is a range that was allocated or freed.
type spaceEntry struct {
	offset, size uint64 // bytes
	vdev         uint64
	free         bool
}

// readSpaceMap calls f for the entries of a space map, whose numbers count
// units of 2^shift bytes, from start on. It gives the bytes that the map says are
// allocated.
func (s *openSet) readSpaceMap(id, start uint64, shift uint, f func(spaceEntry)) (alloc uint64, err error) {
	ob, err := s.typed(id, ondisk.TypeSpaceMap)
	if err != nil {
		return 0, err
	}
	if len(ob.dn.Bonus) < 24 {
		return 0, fmt.Errorf("%q object %d: %d bytes of bonus: want the 24 of a space map", s.name, id, len(ob.dn.Bonus))
	}
	length := le64(ob.dn.Bonus[8:])
	if length%8 != 0 || length > min(uint64(ob.size()), s.dev.asize) {
		return 0, fmt.Errorf("%q object %d: space map of %d bytes", s.name, id, length)
	}
	return le64(ob.dn.Bonus[16:]), ob.eachWord(length/8, func(word uint64, next func() uint64) {
		switch word >> 62 {
		case debugEntry:
		case twoWordEntry:
			w := next()
			f(spaceEntry{start + w&(1<<63-1)<<shift, (word>>24&(1<<36-1) + 1) << shift, word & (1<<24 - 1), w>>63 == 1})
		default:
			f(spaceEntry{start + word>>16&(1<<47-1)<<shift, (word&(1<<15-1) + 1) << shift, 0, word>>15&1 == 1})
		}
	})
}

// eachWord calls f for words of an object without holes, from the first on; next
// gives the one behind, 0 at the end.
func (ob *readObject) eachWord(count uint64, f func(word uint64, next func() uint64)) error {
	var block []byte
	var err error
	at, per := uint64(0), uint64(ob.dn.BlockSize/8)
	next := func() uint64 {
		if at >= count || err != nil {
			return 0
		}
		if at%per == 0 {
			if block, err = ob.stored(at / per); err != nil {
				return 0
			}
		}
		w := le64(block[at%per*8:])
		at++
		return w
	}
	for at < count && err == nil {
		if w := next(); err == nil {
			f(w, next)
		}
	}
	return err
}

// loadSpace makes the map of what is allocated: that of each metaslab, then the
// changes that are in the logs alone.
func (c *checker) loadSpace() {
	v := c.p.vdev
	c.allocated, c.referenced = newBitmap(v.asize, v.ashift), newBitmap(v.asize, v.ashift)
	if err := c.loadMetaslabs(); err != nil {
		c.leaksUnknown = "space maps are unreadable"
		c.wrong(mosName, v.metaslabArray, "space maps", err)
	}
	if err := c.loadLogs(); err != nil {
		c.leaksUnknown = "logs of space maps are unreadable"
		c.wrong(mosName, 0, "logs of space maps", err)
	}
	if err := c.loadClones(); err != nil {
		c.wrong(mosName, 0, "table of cloned blocks", err)
	}
	c.total = int64(c.allocated.count(0, v.asize>>v.ashift<<v.ashift))
	c.report.Allocated = c.total
}

func (c *checker) loadMetaslabs() error {
	v := c.p.vdev
	array, err := c.p.mos.object(v.metaslabArray)
	if err != nil {
		return err
	}
	i := uint64(0)
	return array.eachWord(min(uint64(v.metaslabs), uint64(array.size())/8), func(id uint64, _ func() uint64) {
		if id != 0 {
			c.loadMetaslab(i, id)
		}
		i++
	})
}

func (c *checker) loadMetaslab(i, id uint64) {
	v := c.p.vdev
	start, size := i<<v.metaslabShift, uint64(1)<<v.metaslabShift
	alloc, err := c.p.mos.readSpaceMap(id, start, uint(v.ashift), func(e spaceEntry) {
		if e.offset < start || e.offset >= start+size || e.size > start+size-e.offset {
			c.wrong(mosName, id, "space map", fmt.Errorf("metaslab %d: entry of %d bytes at %d lies outside", i, e.size, e.offset))
			return
		}
		c.apply(id, e)
	})
	if err != nil {
		c.leaksUnknown = "space maps are unreadable"
		c.wrong(mosName, id, "space map", err)
		return
	}
	if got := c.allocated.count(start, size); got != alloc {
		c.wrong(mosName, id, "space map", fmt.Errorf("metaslab %d: %d bytes are allocated by its header, %d by its entries", i, alloc, got))
	}
}

// apply puts an entry into the map of what is allocated.
func (c *checker) apply(id uint64, e spaceEntry) {
	switch {
	case e.offset%(1<<c.p.vdev.ashift) != 0 || e.size%(1<<c.p.vdev.ashift) != 0 || e.offset >= c.p.vdev.asize || e.size > c.p.vdev.asize-e.offset:
		c.wrong(mosName, id, "space map", fmt.Errorf("entry of %d bytes at %d is not within the vdev's %d in sectors", e.size, e.offset, c.p.vdev.asize))
	case e.free && !c.allocated.unset(e.offset, e.size):
		c.wrong(mosName, id, "space map", fmt.Errorf("%d bytes at %d are freed and were not allocated", e.size, e.offset))
	case !e.free && !c.allocated.set(e.offset, e.size):
		c.wrong(mosName, id, "space map", fmt.Errorf("%d bytes at %d are allocated twice", e.size, e.offset))
	}
}

// loadLogs applies the logs of all metaslabs (feature log_spacemap): a log's
// entries count for the metaslabs that were last flushed before it.
func (c *checker) loadLogs() error {
	mos := c.p.mos
	id, ok, err := mos.lookup(directoryObject, "com.delphix:log_spacemap_zap")
	if err != nil || !ok {
		return err
	}
	flushed, err := c.flushedTxgs()
	if err != nil {
		return err
	}
	type log struct{ txg, id uint64 }
	var logs []log
	err = mos.walkZAP(id, func(e zap.Entry) error {
		txg, err := strconv.ParseUint(e.Name, 16, 64)
		id, ok := e.Uint64()
		if err != nil || !ok {
			return fmt.Errorf("entry %q is none of a log", e.Name)
		}
		logs = append(logs, log{txg, id})
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortFunc(logs, func(a, b log) int {
		if a.txg < b.txg {
			return -1
		}
		return 1
	})
	for _, l := range logs {
		_, err := mos.readSpaceMap(l.id, 0, 9, func(e spaceEntry) { // SPA_MINBLOCKSHIFT
			if m := e.offset >> c.p.vdev.metaslabShift; e.vdev == 0 && (m >= uint64(len(flushed)) || l.txg >= flushed[m]) {
				c.apply(l.id, e)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// flushedTxgs is, for each metaslab, the first transaction group whose log counts.
func (c *checker) flushedTxgs() ([]uint64, error) {
	if c.p.vdev.topZAP == 0 {
		return nil, nil
	}
	id, ok, err := c.p.mos.lookup(c.p.vdev.topZAP, "com.delphix:ms_unflushed_phys_txgs")
	if err != nil || !ok {
		return nil, err
	}
	ob, err := c.p.mos.object(id)
	if err != nil {
		return nil, err
	}
	var txgs []uint64
	err = ob.eachWord(min(uint64(c.p.vdev.metaslabs), uint64(ob.size())/8), func(w uint64, _ func() uint64) { txgs = append(txgs, w) })
	return txgs, err
}

// clones are the blocks that files share (feature block_cloning): by offset, how
// many references there are besides the first.
type clones struct {
	mu    sync.Mutex
	extra map[uint64]uint64 // as the pool says
	seen  map[uint64]uint64
}

func (c *checker) loadClones() error {
	id, ok, err := c.p.mos.lookup(directoryObject, "com.fudosecurity:brt:vdev:0")
	if err != nil || !ok {
		return err
	}
	ob, err := c.p.mos.object(id)
	if err != nil {
		return err
	}
	if len(ob.dn.Bonus) < 8 {
		return fmt.Errorf("%q object %d: no bonus", mosName, id)
	}
	c.clones.extra, c.clones.seen = map[uint64]uint64{}, map[uint64]uint64{}
	return c.p.mos.walkZAP(le64(ob.dn.Bonus), func(e zap.Entry) error {
		// The count is one number, in older pools as eight bytes.
		key, v := e.Key(), e.Integers()
		if e.IntSize() == 1 && len(v) == 8 {
			n := uint64(0)
			for i, b := range v {
				n |= b << (8 * i)
			}
			v = []uint64{n}
		}
		if len(key) != 1 || len(v) != 1 {
			return fmt.Errorf("entry %q is none of a cloned block", e.Name)
		}
		c.clones.extra[key[0]] = v[0]
		return nil
	})
}

// again tells whether a block may be referred to once more.
func (s *clones) again(offset uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.extra[offset] == 0 {
		return false
	}
	s.seen[offset]++
	return true
}

// mark notes that something refers to a block's space.
// It tells whether that was the first to do so.
func (c *checker) mark(bp *ondisk.BlockPtr, w where) (first bool) {
	first = true
	for i := range copiesOf(bp) {
		d := bp.DVA(i)
		size := d.ASize
		if d.Gang { // the rest is its parts'
			size = max(gangHeaderSize, uint64(1)<<c.p.vdev.ashift)
		}
		first = c.markRange(bp, i, d, size, w) && first
	}
	return first
}

func (c *checker) markRange(bp *ondisk.BlockPtr, i int, d ondisk.DVA, size uint64, w where) (first bool) {
	d.ASize = size
	if err := c.p.dev.checkDVA(d, size); err != nil {
		c.at(w, bp, "block outside of the vdev", err)
		return false
	}
	if sector := uint64(1) << c.p.vdev.ashift; d.Offset%sector != 0 || size%sector != 0 {
		c.at(w, bp, "block not in whole sectors", fmt.Errorf("copy %d: %d bytes at %d", i, size, d.Offset))
		return false
	}
	if c.leaksUnknown == "" && !c.allocated.full(d.Offset, size) {
		c.at(w, bp, "block in free space", fmt.Errorf("copy %d at DVA %s: the space maps do not have it as allocated", i, d))
	}
	if c.opts.Progress != nil {
		c.opts.Progress(min(c.total, c.done.Add(int64(size))), c.total)
	}
	if c.referenced.set(d.Offset, size) {
		return true
	}
	switch {
	case bp.IsDedup():
		c.note("counts of references to deduplicated blocks")
	case !c.clones.again(d.Offset):
		c.at(w, bp, "space in use twice", fmt.Errorf("copy %d at DVA %s: another block lies there", i, d))
	}
	return false
}

// compareSpace reports what is allocated and not referred to.
func (c *checker) compareSpace() {
	v := c.p.vdev
	c.report.Referenced = int64(c.referenced.count(0, v.asize>>v.ashift<<v.ashift))
	for off, extra := range c.clones.extra {
		if seen := c.clones.seen[off]; seen != extra && !c.broken {
			c.problem(Problem{What: "count of cloned block", Offset: int64(off) + ondisk.LabelStart,
				Err: fmt.Errorf("%d references besides the first, the pool counts %d", seen, extra)})
		}
	}
	if c.broken && c.leaksUnknown == "" {
		c.leaksUnknown = "blocks with pointers are unreadable"
	}
	if c.leaksUnknown != "" {
		c.note("whether all allocated space is in use: " + c.leaksUnknown)
		return
	}
	start, end := uint64(0), uint64(0)
	flush := func() {
		if end > start {
			c.problem(Problem{What: "leaked space", Offset: int64(start<<v.ashift) + ondisk.LabelStart,
				Err: fmt.Errorf("%d bytes are allocated and nothing refers to them", (end-start)<<v.ashift)})
		}
	}
	for i, w := range c.allocated.words {
		for left := w &^ c.referenced.words[i]; left != 0; left &= left - 1 {
			at := uint64(i)*64 + uint64(bits.TrailingZeros64(left))
			if at != end {
				flush()
				start = at
			}
			end = at + 1
		}
	}
	flush()
}
