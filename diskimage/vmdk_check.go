package diskimage

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
)

// Check implements checker. Every grain that is compressed is inflated. What
// belongs to nothing is not looked for: VMDK has no count of it.
func (d *VMDKDisk) Check(ctx context.Context, progress func(done, total int64)) (CheckResult, error) {
	var r CheckResult
	if progress == nil {
		progress = func(int64, int64) {}
	}
	for i := range d.extents {
		e := &d.extents[i]
		if s, ok := e.disk.(*vmdkSparse); ok {
			c := vmdkCheck{d: s, result: &r, claimed: sectorSet{}}
			if e.name != "" {
				c.prefix = e.name + ": "
			}
			told := func(done int64) { progress(e.start+min(done, e.size), d.size) }
			if err := c.run(ctx, told); err != nil {
				return r, e.wrap(err)
			}
		} else if e.disk != nil {
			r.Used += e.size
		}
		progress(e.start+e.size, d.size)
	}
	return r, nil
}

// vmdkCheck is the check of one sparse extent.
type vmdkCheck struct {
	d       *vmdkSparse
	result  *CheckResult
	prefix  string // of structures: the extent's file
	claimed sectorSet
	copies  []byte // the redundant grain directory; nil for none
	g       *grainReading
	buf     []byte // a grain
}

func (c *vmdkCheck) add(structure string, offset int64, format string, args ...any) {
	c.result.add(c.prefix+structure, offset, format, args...)
}

// run walks the directory, its tables and their grains.
func (c *vmdkCheck) run(ctx context.Context, progress func(done int64)) error {
	d := c.d
	c.g, c.buf = newGrainReading().(*grainReading), make([]byte, d.grain)
	if err := c.checkDirectory(); err != nil {
		return err
	}
	for i := range d.gd {
		if err := ctx.Err(); err != nil {
			return err
		}
		from := int64(i) * d.h.tableSpan()
		table, _, err := d.table(from)
		if err != nil {
			return err
		}
		if table == nil {
			continue
		}
		if err := c.checkTable(i, table); err != nil {
			return err
		}
		if err := c.checkGrains(ctx, i, table); err != nil {
			return err
		}
		progress(from + d.h.tableSpan())
	}
	return nil
}

// checkDirectory claims the metadata, and reads the copy of the directory.
func (c *vmdkCheck) checkDirectory() error {
	h := c.d.h
	n := ceilDiv(h.tables()*4, vmdkSector)
	c.claim("header", 0, 1)
	if h.descriptorOffset < vmdkMaxSectors {
		c.claim("descriptor", int64(h.descriptorOffset), int64(min(h.descriptorSize, maxVMDKDescriptor/vmdkSector)))
	}
	c.claim("grain directory", int64(h.gdOffset), n)
	for _, t := range c.d.tables {
		c.claim("grain table", int64(t), h.tableSectors())
	}
	if h.footer { // QEMU has its directory at the head, without markers
		c.claim("footer", c.d.fileSize/vmdkSector-vmdkFooterBytes/vmdkSector, vmdkFooterBytes/vmdkSector)
		return c.checkMarker("grain directory", int64(h.gdOffset), markerGrainDirectory, n)
	}
	if h.flags&vmdkFlagRedundant == 0 {
		return nil
	}
	at := int64(min(h.rgdOffset, vmdkMaxSectors)) * vmdkSector
	if at == 0 || h.tables()*4 > c.d.fileSize-at {
		c.add("redundant grain directory", at, "reaches past the end of the file at %#x", c.d.fileSize)
		return nil
	}
	c.claim("redundant grain directory", at/vmdkSector, n)
	c.copies = make([]byte, h.tables()*4)
	return readFull(c.d.r, c.copies, at)
}

// checkMarker checks the sector before n sectors of metadata.
func (c *vmdkCheck) checkMarker(structure string, sector int64, kind uint32, n int64) error {
	b := make([]byte, vmdkSector)
	at := (sector - 1) * vmdkSector
	if err := readFull(c.d.r, b, at); err != nil {
		return fmt.Errorf("reading marker at offset %#x: %w", at, err)
	}
	if !bytes.Equal(b, vmdkMarker(kind, n)) {
		c.add(structure+" marker", at, "is %x, want type %d for %d sectors", b[:16], kind, n)
	}
	c.claim(structure+" marker", sector-1, 1)
	return nil
}

// checkTable holds a grain table against its copy or its marker.
func (c *vmdkCheck) checkTable(i int, table []byte) error {
	d := c.d
	at := int64(d.gd[i]) * vmdkSector
	if d.h.footer {
		return c.checkMarker("grain table", int64(d.gd[i]), markerGrainTable, d.h.tableSectors())
	}
	if c.copies == nil {
		return nil
	}
	copyAt := int64(binary.LittleEndian.Uint32(c.copies[i*4:])) * vmdkSector
	if copyAt == 0 || int64(len(table)) > d.fileSize-copyAt {
		c.add("redundant grain directory", int64(d.h.rgdOffset)*vmdkSector+int64(i)*4, "entry %d points at %#x, the file ends at %#x", i, copyAt, d.fileSize)
		return nil
	}
	if copyAt == at {
		return nil // some writers point both directories at the same tables
	}
	c.claim("redundant grain table", copyAt/vmdkSector, d.h.tableSectors())
	b := make([]byte, len(table))
	if err := readFull(d.r, b, copyAt); err != nil {
		return fmt.Errorf("reading redundant grain table %d at offset %#x: %w", i, copyAt, err)
	}
	if !bytes.Equal(b, table) {
		c.add("redundant grain table", copyAt, "differs from grain table %d at %#x", i, at)
	}
	return nil
}

// checkGrains checks each grain of table i.
func (c *vmdkCheck) checkGrains(ctx context.Context, i int, table []byte) error {
	d := c.d
	from := int64(i) * d.h.tableSpan()
	for j := range int64(d.h.tableEntries) {
		off := from + j*d.grain
		entryAt := int64(d.gd[i])*vmdkSector + j*4
		e := binary.LittleEndian.Uint32(table[j*4:])
		if off >= d.size {
			if e != 0 {
				c.add("grain table", entryAt, "entry %d is sector %#x, past the end of the disk", j, e)
			}
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		at, problem := d.place(off, e)
		if problem != "" {
			c.add("grain table", entryAt, "entry %d is sector %#x: %s", j, e, problem)
			continue
		}
		if at == 0 {
			continue
		}
		c.result.Used += min(d.grain, d.size-off)
		if err := c.checkGrain(off, at); err != nil {
			return err
		}
	}
	return nil
}

// checkGrain claims what the grain takes in the file and, when it is
// compressed, inflates it.
func (c *vmdkCheck) checkGrain(off, at int64) error {
	d := c.d
	n := min(d.grain, d.size-off)
	if !d.h.compressed() {
		c.claim("grain", at/vmdkSector, ceilDiv(n, vmdkSector))
		return nil
	}
	c.g.places, c.g.window = append(c.g.places[:0], at), c.g.window[:0]
	got, err := d.unpackSome(c.g, c.buf, off, at)
	switch {
	case errors.Is(err, ErrCorrupt):
		c.add("grain", at, "%v", err)
		return nil
	case err != nil:
		return d.grainError(off, at, err)
	case int64(got) < n:
		c.add("grain", at, "stream ends after %d of %d bytes", got, n)
	}
	c.claim("grain", at/vmdkSector, ceilDiv(vmdkMarkerBytes+int64(len(c.g.in)), vmdkSector))
	return nil
}

// claim notes that a structure has n sectors of the file for itself.
func (c *vmdkCheck) claim(structure string, sector, n int64) {
	n = min(n, ceilDiv(c.d.fileSize, vmdkSector)-sector)
	if at := c.claimed.add(sector, n); at >= 0 {
		c.add(structure, sector*vmdkSector, "overlaps something else at offset %#x", at*vmdkSector)
	}
}

// sectorSet is a set of sectors of a file: a bit for each, 64 KiB for every
// 256 MiB that has any in it.
type sectorSet map[int64]*[8192]uint64

// add adds n sectors and returns the first that was there, -1 for none.
func (s sectorSet) add(sector, n int64) int64 {
	had := int64(-1)
	for at := sector; at < sector+n; at++ {
		const bits = 8192 * 64
		chunk := s[at/bits]
		if chunk == nil {
			chunk = new([8192]uint64)
			s[at/bits] = chunk
		}
		word, bit := &chunk[at%bits/64], uint64(1)<<(at%64)
		if *word&bit != 0 && had < 0 {
			had = at
		}
		*word |= bit
	}
	return had
}
