package diskimage

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/bits"
)

// vhdxMaxFile is the end of the file up to which Check follows blocks: room
// for a disk of 64 TiB twice over. The map of it takes 16 MiB.
const vhdxMaxFile = 128 << 40

// Check checks both copies of the headers and region tables and all of the BAT
// that the disk uses. What OpenVHDX refuses is not looked at again.
func (d *VHDXDisk) Check(ctx context.Context, progress func(done, total int64)) (CheckResult, error) {
	var r CheckResult
	d.checkCopies(&r)
	c := vhdxBlockCheck{d: d, r: &r, used: make([]uint64, ceilDiv(min(d.fileSize, vhdxMaxFile), vhdxUnit*64))}
	for block := range d.meta.g.blocks() {
		if block%(1<<16) == 0 {
			if err := ctx.Err(); err != nil {
				return r, err
			}
			if progress != nil {
				progress(block*d.meta.g.blockSize, d.Size())
			}
		}
		if err := c.block(block); err != nil {
			return r, err
		}
	}
	r.Leaked = c.leaked()
	if progress != nil {
		progress(d.Size(), d.Size())
	}
	return r, nil
}

// checkCopies checks both headers and both region tables, one of each of which
// may be broken for the file to be read.
func (d *VHDXDisk) checkCopies(r *CheckResult) {
	for _, at := range vhdxHeadersAt {
		if _, err := readVHDXHeader(d.file, at); err != nil {
			r.add("header", at, "%v", err)
		}
	}
	var tables []*vhdxRegionTable
	for _, at := range vhdxTablesAt {
		t, err := readVHDXRegionTable(d.r, at)
		if err != nil {
			r.add("region table", at, "%v", err)
			continue
		}
		tables = append(tables, t)
	}
	if len(tables) == 2 && !bytes.Equal(tables[0].raw, tables[1].raw) {
		r.add("region table", tables[1].at, "differs from the one at %#x", tables[0].at)
	}
	for _, t := range tables {
		n := min(int(binary.LittleEndian.Uint32(t.raw[8:])), vhdxMaxEntries)
		for i := range n {
			if flags := binary.LittleEndian.Uint32(t.raw[16+i*vhdxEntrySize+28:]); flags > 1 {
				r.add("region table", t.at, "entry %d has unknown bits %#x", i, flags)
			}
		}
	}
}

// vhdxBlockCheck follows the BAT.
type vhdxBlockCheck struct {
	d    *VHDXDisk
	r    *CheckResult
	used []uint64 // a bit for each MiB of the file
}

// block checks the entry of a payload block and, when it comes first in its
// chunk, that of the sector bitmap before it.
func (c *vhdxBlockCheck) block(block int64) error {
	d, g := c.d, c.d.meta.g
	i := g.batIndex(block)
	if block > 0 && block%g.chunkRatio() == 0 {
		e, err := d.entry(i - 1)
		if err != nil {
			return err
		}
		if e&vhdxStateMask != 0 {
			c.r.add("BAT", d.bat.start+(i-1)*8, "entry %d is %#x: a sector bitmap in a disk without a parent", i-1, e)
		}
	}
	host, err := d.place(block)
	switch {
	case errors.Is(err, ErrCorrupt):
		c.r.add("BAT", d.bat.start+i*8, "%v", err)
		return nil
	case err != nil || host == noPlace:
		return err
	case host+g.blockSize > vhdxMaxFile:
		c.r.add("BAT", d.bat.start+i*8, "block %d lies at %#x, past %#x", block, host, int64(vhdxMaxFile))
		return nil
	}
	c.r.Used += min(g.blockSize, g.size-block*g.blockSize)
	if c.take(host, g.blockSize) {
		c.r.add("BAT", d.bat.start+i*8, "block %d at %#x shares bytes with another", block, host)
	}
	return nil
}

// take marks a part of the file and tells whether some of it was already.
func (c *vhdxBlockCheck) take(at, length int64) bool {
	shared := false
	for unit := at / vhdxUnit; unit < (at+length)/vhdxUnit; unit++ {
		bit := uint64(1) << (unit % 64)
		shared = shared || c.used[unit/64]&bit != 0
		c.used[unit/64] |= bit
	}
	return shared
}

// leaked is what of the file belongs to nothing, as far as it has been
// followed.
func (c *vhdxBlockCheck) leaked() int64 {
	leaked := min(c.d.fileSize, vhdxMaxFile)
	for _, word := range c.used {
		leaked -= int64(bits.OnesCount64(word)) * vhdxUnit
	}
	for _, s := range c.d.spans {
		leaked -= s.end - s.start
	}
	return max(0, leaked)
}
