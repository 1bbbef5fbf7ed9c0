package diskimage

import (
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
)

const (
	// vhdxBATPage is the unit in which the BAT is read: a region is whole MiB.
	vhdxBATPage = 64 << 10

	// vhdxRun bounds how far NextData looks for the end of a run.
	vhdxRun = 1 << 30
)

// VHDXDisk is an open VHDX image, fixed or dynamic.
type VHDXDisk struct {
	r        io.ReaderAt // the file, its log replayed
	file     io.ReaderAt // the file
	holes    Disk        // the file, when it knows its holes
	fileSize int64
	head     *vhdxHead
	meta     *vhdxMeta
	creator  string
	changes  int        // that the log makes
	spans    []vhdxSpan // of the file that are no block's
	bat      vhdxSpan
	cache    tableCache // pages of the BAT
}

// OpenVHDX opens the VHDX image of size bytes in r ([MS-VHDX]). Headers,
// region table and metadata are checked at once, entries of the BAT as they
// are used. When the image was not closed its log is replayed in memory; r is
// not changed. When r is a Disk, too, the holes in r are holes of the disk.
func OpenVHDX(r io.ReaderAt, size int64) (*VHDXDisk, error) {
	if size < vhdxUnit {
		return nil, corruptf("vhdx file has %d bytes, its headers take %d", size, vhdxUnit)
	}
	creator, err := vhdxCreator(r)
	if err != nil {
		return nil, err
	}
	d := &VHDXDisk{r: r, file: r, fileSize: size, creator: creator}
	d.holes, _ = r.(Disk)
	d.cache.init(vhdxBATPage, 1)
	if d.head, err = currentVHDXHeader(r, size); err != nil {
		return nil, err
	}
	if d.head.log != (guid{}) {
		f, err := replayVHDXLog(r, size, d.head)
		if err != nil {
			return nil, err
		}
		d.r, d.holes, d.fileSize, d.changes = f, nil, f.size, len(f.patches)
	}
	if err := d.readRegions(); err != nil {
		return nil, err
	}
	return d, nil
}

// readRegions reads what the region table leads to.
func (d *VHDXDisk) readRegions() error {
	regions, err := readVHDXRegions(d.r, d.fileSize)
	if err != nil {
		return err
	}
	if d.spans, err = vhdxFixedSpans(d.head, regions); err != nil {
		return err
	}
	if d.meta, err = readVHDXMetadata(d.r, regions[vhdxMetadataRegion]); err != nil {
		return err
	}
	d.bat = regions[vhdxBATRegion]
	if n := d.meta.g.batEntries(); n*8 > d.bat.end-d.bat.start {
		return corruptf("vhdx BAT at offset %#x of %d bytes: a disk of %d bytes in blocks of %d needs %d entries",
			d.bat.start, d.bat.end-d.bat.start, d.meta.g.size, d.meta.g.blockSize, n)
	}
	return nil
}

// Size implements Disk.
func (d *VHDXDisk) Size() int64 { return d.meta.g.size }

// Info implements Image.
func (d *VHDXDisk) Info() Info {
	kind := VHDXDynamic
	if d.meta.fixed {
		kind = VHDXFixed
	}
	i := Info{Format: VHDX, Subformat: string(kind), VirtualSize: d.meta.g.size, BlockSize: d.meta.g.blockSize, Details: []Detail{
		{"creator", d.creator},
		{"disk id", d.meta.id.String()},
		{"logical sector size", strconv.FormatInt(d.meta.g.sector, 10)},
		{"physical sector size", strconv.FormatInt(d.meta.physical, 10)},
	}}
	if d.head.log != (guid{}) {
		i.Details = append(i.Details, Detail{"log", fmt.Sprintf("not empty, %d changes replayed in memory", d.changes)})
	}
	return i
}

// entry reads a BAT entry by its index.
func (d *VHDXDisk) entry(index int64) (uint64, error) {
	at := d.bat.start + index*8
	page := at - at%vhdxBATPage // regions are whole MiB, pages divide them
	b, err := d.cache.get(page, func(b []byte) error { return readFull(d.r, b, page) })
	if err != nil {
		return 0, fmt.Errorf("reading vhdx BAT at offset %#x: %w", page, err)
	}
	return binary.LittleEndian.Uint64(b[at-page:]), nil
}

// noPlace is the place of a block that is not in the file.
const noPlace = -1

// place returns where a payload block lies in the file, noPlace when it reads
// as zeros. All states of a block that is not present do: what may be
// arbitrary by the specification is zero here as in Hyper-V and QEMU.
func (d *VHDXDisk) place(block int64) (int64, error) {
	i := d.meta.g.batIndex(block)
	e, err := d.entry(i)
	if err != nil {
		return 0, err
	}
	bad := func(format string, args ...any) error {
		return corruptf("reading vhdx BAT at offset %#x: entry %d of block %d is %#x: %s", d.bat.start+i*8, i, block, e, fmt.Sprintf(format, args...))
	}
	if e&vhdxReservedMask != 0 {
		return 0, bad("reserved bits are set")
	}
	switch state := e & vhdxStateMask; state {
	case vhdxPresent:
	case vhdxNotPresent, vhdxUndefined, vhdxZero, vhdxUnmapped:
		return noPlace, nil
	case vhdxPartial:
		return 0, bad("partially present, in a disk without a parent")
	default:
		return 0, bad("state %d is not defined", state)
	}
	host := e &^ (1<<20 - 1)
	if end := d.fileSize - d.meta.g.blockSize; end < 0 || host > uint64(end) {
		return 0, bad("its block of %d bytes reaches past the end of the file at %#x", d.meta.g.blockSize, d.fileSize)
	}
	if s, hit := vhdxOverlap(d.spans, int64(host), int64(host)+d.meta.g.blockSize); hit {
		return 0, bad("its block lies on the %s", s.name)
	}
	return int64(host), nil
}

// run returns where the byte at off lies in the file, or noPlace, and how far,
// up to limit, the bytes after it follow in the file, or have no place either.
func (d *VHDXDisk) run(off, limit int64) (host, end int64, err error) {
	bs := d.meta.g.blockSize
	block := off / bs
	first, err := d.place(block)
	if err != nil {
		return 0, 0, err
	}
	for n := int64(1); ; n++ {
		if end = (block + n) * bs; end >= limit {
			end = limit
			break
		}
		next, err := d.place(block + n)
		if err != nil {
			return 0, 0, err
		}
		if first == noPlace && next != noPlace || first != noPlace && next != first+n*bs {
			break
		}
	}
	if first == noPlace {
		return noPlace, end, nil
	}
	return first + off%bs, end, nil
}

// NextData implements Disk.
func (d *VHDXDisk) NextData(off int64) (start, end int64, err error) {
	for size := d.Size(); off < size; off = end {
		var host int64
		host, end, err = d.run(off, min(size, off+vhdxRun))
		if err != nil {
			return 0, 0, err
		}
		if host == noPlace {
			continue
		}
		if d.holes == nil {
			return off, end, nil
		}
		s, e, err := d.holes.NextData(host)
		if err != nil {
			return 0, 0, fmt.Errorf("vhdx file: %w", err)
		}
		if s < host+end-off {
			return off + s - host, min(end, off+e-host), nil
		}
	}
	return d.Size(), d.Size(), nil
}

// ReadAt implements Disk.
func (d *VHDXDisk) ReadAt(p []byte, off int64) (int, error) {
	return readRuns(p, off, d.Size(), d.readRun)
}

// readRun fills the front of p with what lies together in the file.
func (d *VHDXDisk) readRun(p []byte, off int64) (int, error) {
	host, end, err := d.run(off, off+int64(len(p)))
	if err != nil {
		return 0, err
	}
	p = p[:end-off]
	if host == noPlace {
		clear(p)
	} else if err := readFull(d.r, p, host); err != nil {
		return 0, fmt.Errorf("reading vhdx block %d at offset %#x: %w", off/d.meta.g.blockSize, host, err)
	}
	return len(p), nil
}
