package zfs

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/kldload/kldload/zfs/internal/block"
	"github.com/kldload/kldload/zfs/internal/ondisk"
)

// walk is the way through an object set. All of its pointers are followed, and
// what was born after minBirth is read and marked: the rest was, in the
// snapshot before.
type walk struct {
	c         *checker
	set       *openSet
	minBirth  uint64
	encrypted bool
	files     *fileCheck // nil where there are none to look at
	pool      bool       // the pool's own set

	total, fresh atomic.Uint64 // bytes allocated
	ended        atomic.Bool

	mu   sync.Mutex
	sets map[uint64]bool // objects that are datasets or directories of them
}

// tally is the space of an object.
type tally struct {
	wg    sync.WaitGroup
	asize atomic.Uint64
}

func (k *walk) add(t *tally, bp *ondisk.BlockPtr) {
	size := uint64(0)
	for i := range copiesOf(bp) {
		size += bp.DVA(i).ASize
	}
	t.asize.Add(size)
	k.total.Add(size)
	if bp.Birth() > k.minBirth {
		k.fresh.Add(size)
	}
}

// visit reads a block that is no hole: all copies, when it is a new one. It
// gives the content, nil when it is unreadable or sealed by encryption.
func (k *walk) visit(bp *ondisk.BlockPtr, w where) []byte {
	if bp.IsEmbedded() {
		b, err := unpackEmbedded(bp)
		if err != nil {
			k.c.at(w, bp, "bad embedded block", err)
		}
		return b
	}
	if !bp.LittleEndian() {
		k.c.at(w, bp, "bad block pointer", errors.New("the block is big-endian: want a little-endian one"))
		return nil
	}
	var stored []byte
	if bp.Birth() > k.minBirth {
		k.c.blocks.Add(1)
		if !k.c.mark(bp, w) && bp.Level() > 0 {
			k.c.setBroken()
			return nil // never twice down the same tree
		}
		stored = k.c.readCopies(bp, w)
	} else {
		stored, _ = k.c.p.dev.fetchAny(bp)
	}
	if stored == nil || sealed(bp) {
		return nil
	}
	b, err := unpack(bp, stored)
	if err != nil {
		k.c.at(w, bp, "bad compressed block", err)
		return nil
	}
	return b
}

// sealed tells whether a block's bytes are encrypted: those of dnodes are only
// in their bonus.
func sealed(bp *ondisk.BlockPtr) bool {
	return bp.IsEncrypted() && bp.Level() == 0 && bp.Type() != ondisk.TypeDnode && bp.Type() != ondisk.TypeObjset
}

// readCopies reads all copies of a block, and gives the first good one.
func (c *checker) readCopies(bp *ondisk.BlockPtr, w where) (good []byte) {
	for i := range copiesOf(bp) {
		b, err := c.p.dev.fetch(bp, i, gangDepth)
		if err == nil {
			err = c.p.dev.verify(bp, b)
		}
		var unknown *block.UnsupportedSumError
		if errors.As(err, &unknown) && b != nil {
			c.note(fmt.Sprintf("blocks with the checksum %s, which is not supported", unknown.Checksum))
			err = nil
		}
		c.reads.Add(1)
		c.bytes.Add(int64(bp.PSize()))
		if err != nil {
			d := bp.DVA(i)
			c.problem(Problem{"bad block", w.set, w.object, w.level, w.block, int64(d.Offset) + ondisk.LabelStart,
				fmt.Errorf("copy %d of %d at DVA %s: %w", i+1, copiesOf(bp), d, err)})
			continue
		}
		if good == nil {
			good = b
		}
		if bp.DVA(i).Gang {
			c.markGang(bp, i, false, w)
		}
	}
	if good == nil && (bp.Level() > 0 || !isFileData(bp)) {
		c.setBroken()
	}
	return good
}

func (c *checker) setBroken() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broken = true
}

func isFileData(bp *ondisk.BlockPtr) bool {
	return bp.Type() == ondisk.TypePlainFile || bp.Type() == ondisk.TypeZvol
}

// markGang marks the parts of a gang block, and verifies all of their copies.
// Those of a freed block are marked alone.
func (c *checker) markGang(bp *ondisk.BlockPtr, i int, freed bool, w where) {
	parts, err := c.p.dev.gangHeader(bp, i)
	if err != nil {
		return // reported as the block's
	}
	for n := range parts {
		part := &parts[n]
		if part.IsHole() || part.IsEmbedded() {
			continue
		}
		if i > 0 && part.DVA(0) == c.firstPart(bp, n) {
			continue // the copies of a header lead to the same parts
		}
		if !c.mark(part, w) { // never twice down the same tree
			continue
		}
		if !freed {
			c.readCopies(part, w)
		} else if part.DVA(0).Gang {
			c.markGang(part, 0, freed, w)
		}
	}
}

// firstPart is where part n of a gang block lies by its first header.
func (c *checker) firstPart(bp *ondisk.BlockPtr, n int) ondisk.DVA {
	parts, err := c.p.dev.gangHeader(bp, 0)
	if err != nil {
		return ondisk.DVA{}
	}
	return parts[n].DVA(0)
}

// fetchAny reads the first copy of a block that is good, or whose checksum is
// not known.
func (d *device) fetchAny(bp *ondisk.BlockPtr) ([]byte, error) {
	var errs []error
	for i := range copiesOf(bp) {
		b, err := d.fetch(bp, i, gangDepth)
		if err == nil {
			err = d.verify(bp, b)
		}
		var unknown *block.UnsupportedSumError
		if err == nil || b != nil && errors.As(err, &unknown) {
			return b, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// object goes through the blocks of an object; leaf gets those of level 0 that
// are not holes, wanted ones with their content.
func (k *walk) object(ob *readObject, t *tally, leaf func(n uint64, bp *ondisk.BlockPtr, b []byte)) {
	level := int(ob.dn.Levels) - 1
	for i := range ob.dn.Pointers {
		bp := &ob.dn.Pointers[i]
		k.c.spawn(&t.wg, func() { k.subtree(ob, bp, level, uint64(i), t, leaf) })
	}
	if bp := ob.dn.Spill; bp != nil && !bp.IsHole() {
		w := ob.at(levelSpill, 0)
		if bp.Level() != 0 {
			k.c.at(w, bp, "bad block pointer", fmt.Errorf("spill block of level %d", bp.Level()))
		} else {
			k.add(t, bp)
			k.visit(bp, w)
		}
	}
}

// maxShared is how often a vdev's space may be referred to by one dataset, with
// cloned and deduplicated blocks.
const maxShared = 64

// tooMuch ends a walk that goes in circles through what an earlier one marked.
func (k *walk) tooMuch() bool {
	if k.total.Load()/maxShared <= k.c.p.vdev.asize {
		return false
	}
	if !k.ended.Swap(true) {
		k.c.setBroken()
		k.c.wrong(k.set.name, 0, "endless dataset", fmt.Errorf("its blocks take more than %d times the vdev's %d bytes", maxShared, k.c.p.vdev.asize))
	}
	return true
}

// subtree goes through what is below a pointer.
func (k *walk) subtree(ob *readObject, bp *ondisk.BlockPtr, level int, n uint64, t *tally, leaf func(uint64, *ondisk.BlockPtr, []byte)) {
	if bp.IsHole() || k.c.ctx.Err() != nil || k.tooMuch() {
		return
	}
	w := ob.at(level, n)
	if err := ob.checkPointer(bp, level); err != nil {
		k.c.at(w, bp, "bad block pointer", err)
		return
	}
	if ob.dn.MaxBlock < n<<min(63, uint(level)*ob.indirectBits()) {
		k.c.at(w, bp, "block behind the end", fmt.Errorf("the last block of the object is %d", ob.dn.MaxBlock))
	}
	k.add(t, bp)
	if level == 0 {
		k.leaf(ob, bp, n, leaf)
		return
	}
	b := k.visit(bp, w)
	if b == nil {
		return
	}
	k.children(ob, bp, b, level, n, t, leaf)
}

func (k *walk) leaf(ob *readObject, bp *ondisk.BlockPtr, n uint64, leaf func(uint64, *ondisk.BlockPtr, []byte)) {
	if leaf == nil {
		if bp.Birth() > k.minBirth {
			k.visit(bp, ob.at(0, n))
		}
		return
	}
	if b := k.visit(bp, ob.at(0, n)); b != nil {
		leaf(n, bp, b)
	}
}

// children holds an indirect block's pointers against the one that leads to it.
func (k *walk) children(ob *readObject, bp *ondisk.BlockPtr, b []byte, level int, n uint64, t *tally, leaf func(uint64, *ondisk.BlockPtr, []byte)) {
	ptrs := ptrTable(b)
	fill := uint64(0)
	for i := range ptrs.len() {
		child := ptrs.at(i)
		if child.IsHole() {
			continue
		}
		fill += child.Fill()
		if child.Birth() > bp.Birth() {
			k.c.at(ob.at(level-1, n<<ob.indirectBits()+uint64(i)), child, "bad block pointer",
				fmt.Errorf("born in transaction group %d, the block that leads to it in %d", child.Birth(), bp.Birth()))
		}
	}
	if fill != bp.Fill() {
		k.c.at(ob.at(level, n), bp, "fill count", fmt.Errorf("%d, those of the pointers in it sum up to %d", bp.Fill(), fill))
	}
	for i := range ptrs.len() {
		if child := ptrs.at(i); !child.IsHole() {
			k.c.spawn(&t.wg, func() { k.subtree(ob, child, level-1, n<<ob.indirectBits()+uint64(i), t, leaf) })
		}
	}
}
