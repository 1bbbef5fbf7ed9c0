package diskimage

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sync"
)

// vmdkSparse is the Disk in one sparse extent, compressed or not.
type vmdkSparse struct {
	r        io.ReaderAt
	fileSize int64
	h        *vmdkHeader
	size     int64
	grain    int64    // bytes of one
	gd       []uint32 // sector of each grain table, 0 where there is none
	tables   []uint32 // the same, sorted
	cache    tableCache
	scratch  sync.Pool // of *grainReading
	shared   *vmdkShared
}

// vmdkShared is what the extents of a disk share, so that the memory they take
// does not grow with their number.
type vmdkShared struct {
	extents int   // how many there are at most
	room    int64 // bytes left for grain directories
	part    partGrain
}

func newVMDKShared(extents int) *vmdkShared {
	return &vmdkShared{extents: extents, room: maxGDBytes}
}

// openVMDKSparse opens the sparse extent of size bytes in r.
func openVMDKSparse(r io.ReaderAt, size int64, shared *vmdkShared) (*vmdkSparse, error) {
	h, err := parseVMDKHeader(r, size)
	if err != nil {
		return nil, err
	}
	if shared.room -= h.tables() * 4; shared.room < 0 {
		return nil, unsupportedf("reading vmdk header: the grain directories of all extents take more than %d bytes", maxGDBytes)
	}
	d := &vmdkSparse{r: r, fileSize: size, h: h, size: int64(h.capacity) * vmdkSector, grain: h.grainBytes(), shared: shared}
	d.cache.init(h.tableSectors()*vmdkSector, shared.extents)
	d.scratch.New = newGrainReading
	return d, d.readDirectory()
}

// embeddedDescriptor reads the descriptor of an extent that is a whole disk.
func (d *vmdkSparse) embeddedDescriptor() (*descriptorFile, error) {
	at, n := d.h.descriptorOffset, d.h.descriptorSize
	if at == 0 || n == 0 {
		return nil, unsupportedf("reading vmdk header: no descriptor, the file is an extent of a larger disk")
	}
	if end := uint64(d.fileSize / vmdkSector); at > end || n > end-at {
		return nil, corruptf("reading vmdk header: descriptor of %d sectors at sector %#x reaches past the end of the file at %#x", n, at, d.fileSize)
	}
	desc, err := readDescriptor(d.r, int64(at)*vmdkSector, int64(n)*vmdkSector)
	if err == nil && len(desc.extents) > 1 {
		return nil, unsupportedf("reading vmdk descriptor: %d extents in the descriptor of a sparse file", len(desc.extents))
	}
	return desc, err
}

// readDirectory reads the grain directory and checks that no grain tables
// overlap and none lies on other metadata. So each table is read for one range
// of the disk only, and nothing can be cyclic.
func (d *vmdkSparse) readDirectory() error {
	at := int64(d.h.gdOffset) * vmdkSector
	b := make([]byte, d.h.tables()*4)
	if err := readFull(d.r, b, at); err != nil {
		return fmt.Errorf("reading grain directory at offset %#x: %w", at, err)
	}
	d.gd = make([]uint32, len(b)/4)
	sectors := d.h.tableSectors()
	for i := range d.gd {
		e := binary.LittleEndian.Uint32(b[i*4:])
		if e == 0 {
			continue
		}
		if (int64(e)+sectors)*vmdkSector > d.fileSize {
			return corruptf("reading grain directory at offset %#x: entry %d points at sector %#x, its grain table reaches past the end of the file at %#x", at, i, e, d.fileSize)
		}
		if what := d.fixedMetadata(int64(e), sectors); what != "" {
			return corruptf("reading grain directory at offset %#x: entry %d points at sector %#x, inside the %s", at, i, e, what)
		}
		d.gd[i] = e
		d.tables = append(d.tables, e)
	}
	slices.Sort(d.tables)
	for i := 1; i < len(d.tables); i++ {
		if int64(d.tables[i]-d.tables[i-1]) < sectors {
			return corruptf("reading grain directory at offset %#x: grain tables at sectors %#x and %#x overlap", at, d.tables[i-1], d.tables[i])
		}
	}
	return nil
}

// fixedMetadata names what the n sectors at a sector overlap, or nothing.
func (d *vmdkSparse) fixedMetadata(sector, n int64) string {
	overlaps := func(at, size uint64) bool { return uint64(sector) < at+size && uint64(sector+n) > at }
	switch {
	case overlaps(0, 1):
		return "header"
	case d.h.descriptorOffset < vmdkMaxSectors && d.h.descriptorSize < vmdkMaxSectors && overlaps(d.h.descriptorOffset, d.h.descriptorSize):
		return "descriptor"
	case overlaps(d.h.gdOffset, uint64(ceilDiv(d.h.tables()*4, vmdkSector))):
		return "grain directory"
	}
	return ""
}

// metadata is fixedMetadata with the grain tables.
func (d *vmdkSparse) metadata(sector, n int64) string {
	if what := d.fixedMetadata(sector, n); what != "" {
		return what
	}
	i, _ := slices.BinarySearch(d.tables, uint32(max(0, sector-d.h.tableSectors()+1)))
	if i < len(d.tables) && int64(d.tables[i]) < sector+n {
		return fmt.Sprintf("grain table at sector %#x", d.tables[i])
	}
	return ""
}

// table returns the grain table for off, nil when there is none, and off's
// index in it.
func (d *vmdkSparse) table(off int64) ([]byte, int64, error) {
	i := off / d.h.tableSpan()
	at := int64(d.gd[i]) * vmdkSector
	if at == 0 {
		return nil, 0, nil
	}
	table, err := d.cache.get(at, func(b []byte) error { return readFull(d.r, b, at) })
	if err != nil {
		return nil, 0, fmt.Errorf("reading grain table %d at offset %#x: %w", i, at, err)
	}
	return table, off % d.h.tableSpan() / d.grain, nil
}

// lookup returns the place in the file of the grain that holds off, 0 when it
// reads as zeros.
func (d *vmdkSparse) lookup(off int64) (int64, error) {
	table, i, err := d.table(off)
	if err != nil || table == nil {
		return 0, err
	}
	return d.decode(off, binary.LittleEndian.Uint32(table[i*4:]))
}

// decode reads one grain table entry, see place.
func (d *vmdkSparse) decode(off int64, e uint32) (int64, error) {
	at, problem := d.place(off, e)
	if problem != "" {
		i := off / d.h.tableSpan()
		return 0, corruptf("reading grain table %d at offset %#x: entry %d is sector %#x: %s",
			i, int64(d.gd[i])*vmdkSector, off%d.h.tableSpan()/d.grain, e, problem)
	}
	return at, nil
}

// place returns where the grain that holds off is in the file, or 0 when it
// reads as zeros. It says what is wrong with the entry. A compressed grain is
// looked at no further than its marker.
func (d *vmdkSparse) place(off int64, e uint32) (at int64, problem string) {
	if e == 0 || e == 1 && d.h.flags&vmdkFlagZeroGrain != 0 {
		return 0, ""
	}
	n := int64(vmdkMarkerBytes)
	if !d.h.compressed() {
		n = min(d.grain, d.size-(off-off%d.grain))
	}
	at = int64(e) * vmdkSector
	if at > d.fileSize-n {
		return 0, fmt.Sprintf("past the end of the file at %#x", d.fileSize)
	}
	if what := d.metadata(int64(e), ceilDiv(n, vmdkSector)); what != "" {
		return 0, "inside the " + what
	}
	return at, ""
}

// Size implements Disk.
func (d *vmdkSparse) Size() int64 { return d.size }

// NextData implements Disk. A run ends with its grain table.
func (d *vmdkSparse) NextData(off int64) (start, end int64, err error) {
	for off < d.size {
		tableEnd := min(off-off%d.h.tableSpan()+d.h.tableSpan(), d.size)
		table, i, err := d.table(off)
		if err != nil {
			return 0, 0, err
		}
		if table == nil {
			off = tableEnd
			continue
		}
		start := int64(-1)
		for ; off < tableEnd; off, i = off-off%d.grain+d.grain, i+1 {
			at, err := d.decode(off, binary.LittleEndian.Uint32(table[i*4:]))
			if err != nil {
				return 0, 0, err
			}
			if at == 0 && start >= 0 {
				break
			}
			if at != 0 && start < 0 {
				start = off
			}
		}
		if start >= 0 {
			return start, min(off, tableEnd), nil
		}
	}
	return d.size, d.size, nil
}

// ReadAt implements Disk.
func (d *vmdkSparse) ReadAt(p []byte, off int64) (int, error) {
	return readRuns(p, off, d.size, d.readRun)
}
