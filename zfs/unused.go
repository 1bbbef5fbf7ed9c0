package zfs

import (
	"context"
	"errors"
	"fmt"
	"math/bits"

	"github.com/kldload/kldload/zfs/internal/ondisk"
)

// What the bytes are that [Pool.Unused] goes over.
const (
	FreeSpace = "free space" // of no block, or of one that is to be freed
	LabelArea = "label"      // labels, their rings of uberblocks, the boot area, what is behind the last metaslab
	IntentLog = "intent log" // blocks of logs that are not in free space
)

// Unused goes over the bytes of the device that no dataset refers to, each kind in
// order of its place. off and size are bytes from the start of the device; free space
// comes in whole sectors, of [Pool.SectorSize]. What lies there may never have been
// written. An error of yield ends it and is returned; where the pool's space
// maps are unreadable or contradict each other, the error comes after all that they
// say. Memory is two bits for each sector of the pool.
//
// Blocks in free space mostly are compressed: [Pool.Remnants] unpacks them.
// Space that a checkpoint holds, or a dataset whose destruction has not ended, is not
// taken for free.
func (p *Pool) Unused(yield func(kind string, off, size int64) error) error {
	if err := p.checkable(); err != nil {
		return err
	}
	end := min(p.size, ondisk.LabelStart+int64(p.vdev.asize))
	if err := yield(LabelArea, 0, ondisk.LabelStart); err != nil {
		return err
	}
	if end < p.size {
		if err := yield(LabelArea, end, p.size-end); err != nil {
			return err
		}
	}
	c := &checker{p: p, ctx: context.Background(), notes: map[string]int{}}
	c.loadSpace()
	c.markLoose()
	if err := c.freeRuns(yield); err != nil {
		return err
	}
	for _, d := range p.dirs {
		if err := c.logBlocks(d, yield); err != nil {
			return err
		}
	}
	var errs []error
	for _, x := range c.finish().Problems {
		errs = append(errs, errors.New(x.String()))
	}
	if len(errs) > 0 {
		return fmt.Errorf("zfs: free space of pool %q: %w", p.Name(), errors.Join(errs[:min(len(errs), 10)]...))
	}
	return nil
}

// SectorSize is the unit of allocation in bytes.
func (p *Pool) SectorSize() int { return 1 << p.vdev.ashift }

// freeRuns goes over what is not allocated, or only so by lists of blocks to be
// freed. Behind the last metaslab nothing ever was.
func (c *checker) freeRuns(yield func(kind string, off, size int64) error) error {
	shift := c.p.vdev.ashift
	sectors := c.p.vdev.asize >> shift
	flush := func(from, to uint64) error {
		if from == to {
			return nil
		}
		return yield(FreeSpace, int64(from<<shift)+ondisk.LabelStart, int64((to-from)<<shift))
	}
	start, at := uint64(0), uint64(0) // a run of free sectors up to at
	for at < sectors {
		free := (^c.allocated.words[at/64] | c.referenced.words[at/64]) >> (at % 64)
		room := min(64-at%64, sectors-at)
		if n := min(uint64(bits.TrailingZeros64(^free)), room); n > 0 {
			at += n
			continue
		}
		if err := flush(start, at); err != nil {
			return err
		}
		at += min(uint64(bits.TrailingZeros64(free)), room)
		start = at
	}
	return flush(start, at)
}

// logBlocks goes over the blocks of a dataset's intent log that are allocated, as
// far as checkZIL would follow it.
func (c *checker) logBlocks(d *dirNode, yield func(kind string, off, size int64) error) error {
	if d.set == nil || d.set.bp.IsHole() {
		return nil
	}
	set, err := c.p.dev.openObjset(d.name, &d.set.bp)
	if err != nil || len(set.phys.ZIL) < zilLog+ondisk.BlockPtrSize {
		return nil // Datasets reports it
	}
	bp := ptrTable(set.phys.ZIL[zilLog : zilLog+ondisk.BlockPtrSize]).at(0)
	for n := 0; n < maxChain && !bp.IsHole() && !bp.IsEmbedded(); n++ {
		b, err := c.p.dev.fetch(bp, 0, gangDepth)
		if err != nil {
			return nil
		}
		if v := bp.DVA(0); !v.Gang && c.allocated.full(v.Offset, v.ASize) && len(b) > 0 {
			if err := yield(IntentLog, int64(v.Offset)+ondisk.LabelStart, int64(len(b))); err != nil {
				return err
			}
		}
		if !chained(bp, b) {
			return nil
		}
		bp = ptrTable(b[chainNext : chainNext+ondisk.BlockPtrSize]).at(0)
	}
	return nil
}
