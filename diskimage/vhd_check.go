package diskimage

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
)

// Check implements checker: the footer and its copy, the BAT's entries, whether
// blocks overlap, and that sectors a bitmap calls unused are zero, since not
// every reader looks at the bitmap. A fixed image has its footer only.
func (d *VHDDisk) Check(ctx context.Context, progress func(done, total int64)) (CheckResult, error) {
	var r CheckResult
	if d.damaged != nil {
		r.add("footer", d.fileSize-vhdFooterSize, "%v", d.damaged)
	}
	if d.header == nil {
		r.Used = d.size
		if progress != nil {
			progress(d.size, d.size)
		}
		return r, nil
	}
	if d.damaged == nil {
		if err := d.checkCopy(&r); err != nil {
			return r, err
		}
	}
	d.checkOverlap(&r)
	for i := range int64(len(d.bat)) {
		if err := ctx.Err(); err != nil {
			return r, err
		}
		if err := d.checkBlock(ctx, &r, i); err != nil {
			return r, err
		}
		if progress != nil {
			progress(min((i+1)*d.blockSize, d.size), d.size)
		}
	}
	return r, nil
}

// checkCopy holds the copy of the footer at the head against the footer.
func (d *VHDDisk) checkCopy(r *CheckResult) error {
	n := min(vhdFooterSize, int(d.fileSize-d.footerAt)) // an old footer lacks a byte
	footer, head := make([]byte, n), make([]byte, n)
	if err := readFull(d.r, footer, d.footerAt); err != nil {
		return fmt.Errorf("reading vhd footer at offset %#x: %w", d.footerAt, err)
	}
	if err := readFull(d.r, head, 0); err != nil {
		return fmt.Errorf("reading copy of the vhd footer at offset 0: %w", err)
	}
	if !bytes.Equal(footer, head) {
		r.add("copy of the footer", 0, "differs from the footer at offset %#x", d.footerAt)
	}
	return nil
}

// checkOverlap looks for blocks that share bytes of the file.
func (d *VHDDisk) checkOverlap(r *CheckResult) {
	var used []uint32 // indices of blocks, by their place in the file
	for i, e := range d.bat {
		if e != vhdNoBlock {
			used = append(used, uint32(i))
		}
	}
	slices.SortFunc(used, func(a, b uint32) int { return cmp.Or(cmp.Compare(d.bat[a], d.bat[b]), cmp.Compare(a, b)) })
	length := vhdBitmapSize(d.blockSize) + d.blockSize
	for i := 1; i < len(used); i++ {
		a, b := used[i-1], used[i]
		if int64(d.bat[b]-d.bat[a])*vhdSector < length {
			r.add("BAT", int64(d.header.tableOffset)+int64(b)*4, "block %d at sector %#x overlaps block %d at sector %#x", b, d.bat[b], a, d.bat[a])
		}
	}
}

// checkBlock checks the place of block i, and the sectors that its bitmap
// calls unused.
func (d *VHDDisk) checkBlock(ctx context.Context, r *CheckResult, i int64) error {
	data, err := d.blockAt(i)
	if err != nil {
		r.add("BAT", int64(d.header.tableOffset)+i*4, "%v", err)
		return nil
	}
	if data == 0 {
		return nil
	}
	length := min(d.blockSize, d.size-i*d.blockSize)
	r.Used += length
	bitmap := make([]byte, ceilDiv(length/vhdSector, 8))
	at := data - vhdBitmapSize(d.blockSize)
	if err := readFull(d.r, bitmap, at); err != nil {
		return fmt.Errorf("reading sector bitmap at offset %#x: %w", at, err)
	}
	var page [8 * vhdSector]byte // what one byte of the bitmap stands for
	for j, bits := range bitmap {
		if bits == 0xff {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		off := int64(j) * int64(len(page))
		p := page[:min(int64(len(page)), length-off)]
		if err := readFull(d.r, p, data+off); err != nil {
			return fmt.Errorf("reading vhd data at offset %#x: %w", data+off, err)
		}
		for s := range len(p) / vhdSector {
			if bits<<s&0x80 == 0 && !isZero(p[s*vhdSector:(s+1)*vhdSector]) {
				r.add("sector bitmap", at+int64(j), "block %d: sector %d is marked unused, but is not zero", i, j*8+s)
			}
		}
	}
	return nil
}
