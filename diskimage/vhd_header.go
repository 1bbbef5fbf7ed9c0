package diskimage

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// Structures and values of Microsoft's "Virtual Hard Disk Image Format
// Specification", version 1.0 (2006). All numbers are big-endian.
const (
	vhdCookie       = "conectix"
	vhdHeaderCookie = "cxsparse"
	vhdVersion      = 0x00010000
	vhdFooterSize   = 512
	vhdOldFooter    = 511 // of Virtual PC before 2004, "Hard Disk Footer Format"
	vhdHeaderSize   = 1024
	vhdSector       = 512

	vhdFixed        = 2 // disk types
	vhdDynamic      = 3
	vhdDifferencing = 4

	vhdReserved   = 2 // feature bit that is always set
	vhdNowhere    = math.MaxUint64
	vhdNoBlock    = math.MaxUint32 // BAT entry of a block that is all zero
	vhdMaxCHS     = 65535 * 16 * 255
	vhdMaxDynamic = 2040 << 30 // of Hyper-V, and of QEMU for either subformat
)

// vhdEpoch is where time stamps count seconds from.
var vhdEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// vhdGeometry is cylinders, heads and sectors per track.
type vhdGeometry struct {
	cylinders      uint16
	heads, sectors uint8
}

func (g vhdGeometry) total() int64 {
	return int64(g.cylinders) * int64(g.heads) * int64(g.sectors)
}

// vhdGeometryOf is the algorithm of the specification's appendix, "CHS
// Calculation". The geometry can be smaller than the disk.
func vhdGeometryOf(sectors int64) vhdGeometry {
	sectors = min(sectors, vhdMaxCHS)
	if sectors >= 65535*16*63 {
		return vhdGeometry{uint16(sectors / 255 / 16), 16, 255}
	}
	track := int64(17)
	heads := max(4, (sectors/track+1023)/1024)
	if sectors/track >= heads*1024 || heads > 16 {
		track, heads = 31, 16
	}
	if sectors/track >= heads*1024 {
		track = 63
	}
	return vhdGeometry{uint16(sectors / track / heads), uint8(heads), uint8(track)}
}

// vhdFooter holds the fields of "Hard Disk Footer Format" that mean anything
// to a reader.
type vhdFooter struct {
	dataOffset     uint64 // of the dynamic disk header
	timestamp      uint32
	creator        [4]byte
	creatorVersion uint32
	creatorOS      [4]byte
	currentSize    uint64
	geometry       vhdGeometry
	diskType       uint32
	uuid           [16]byte
	savedState     bool
}

// encode returns the footer's 512 bytes.
func (f *vhdFooter) encode() []byte {
	b := make([]byte, vhdFooterSize)
	be := binary.BigEndian
	copy(b, vhdCookie)
	be.PutUint32(b[8:], vhdReserved)
	be.PutUint32(b[12:], vhdVersion)
	be.PutUint64(b[16:], f.dataOffset)
	be.PutUint32(b[24:], f.timestamp)
	copy(b[28:], f.creator[:])
	be.PutUint32(b[32:], f.creatorVersion)
	copy(b[36:], f.creatorOS[:])
	be.PutUint64(b[40:], f.currentSize) // original size: it was never another
	be.PutUint64(b[48:], f.currentSize)
	be.PutUint16(b[56:], f.geometry.cylinders)
	b[58], b[59] = f.geometry.heads, f.geometry.sectors
	be.PutUint32(b[60:], f.diskType)
	copy(b[68:], f.uuid[:])
	if f.savedState {
		b[84] = 1
	}
	be.PutUint32(b[64:], vhdChecksum(b, 64))
	return b
}

// vhdChecksum is the one's complement of the sum of all bytes of a structure
// but those of the checksum itself, which is at off.
func vhdChecksum(b []byte, off int) uint32 {
	sum := uint32(0)
	for i, c := range b {
		if i < off || i >= off+4 {
			sum += uint32(c)
		}
	}
	return ^sum
}

// parseVHDFooter reads the footer in b, which is found at off in the file.
func parseVHDFooter(b []byte, off int64) (*vhdFooter, error) {
	be := binary.BigEndian
	if string(b[:8]) != vhdCookie {
		return nil, corruptf("reading vhd footer at offset %#x: cookie %q, want %q", off, b[:8], vhdCookie)
	}
	if got, want := be.Uint32(b[64:]), vhdChecksum(b, 64); got != want {
		return nil, corruptf("reading vhd footer at offset %#x: checksum %#08x, want %#08x", off, got, want)
	}
	if v := be.Uint32(b[12:]); v>>16 != vhdVersion>>16 {
		return nil, unsupportedf("reading vhd footer at offset %#x: version %d.%d (have 1.0)", off, v>>16, v&0xffff)
	}
	f := &vhdFooter{
		dataOffset: be.Uint64(b[16:]), timestamp: be.Uint32(b[24:]),
		creator: [4]byte(b[28:]), creatorVersion: be.Uint32(b[32:]), creatorOS: [4]byte(b[36:]),
		currentSize: be.Uint64(b[48:]), geometry: vhdGeometry{be.Uint16(b[56:]), b[58], b[59]},
		diskType: be.Uint32(b[60:]), uuid: [16]byte(b[68:]), savedState: b[84] != 0,
	}
	if f.currentSize > 1<<62 || f.currentSize%vhdSector != 0 {
		return nil, corruptf("reading vhd footer at offset %#x: current size %#x, want a multiple of 512 up to 2^62", off, f.currentSize)
	}
	switch f.diskType {
	case vhdFixed, vhdDynamic:
		return f, nil
	case vhdDifferencing:
		return nil, unsupportedf("reading vhd footer at offset %#x: differencing image (disk type 4), which needs its parent", off)
	}
	return nil, unsupportedf("reading vhd footer at offset %#x: disk type %d (have fixed 2, dynamic 3)", off, f.diskType)
}

// diskSize is the guest-visible size in bytes. Virtual PC, and QEMU unless told
// otherwise, show the guest what the geometry gives, everyone else the current
// size. The largest geometry says nothing about the size. This is QEMU's rule
// since 10.0 (block/vpc.c, vpc_ignore_current_size); before, it took the
// geometry for creators it did not know, and so cut VirtualBox's disks.
func (f *vhdFooter) diskSize() int64 {
	c, chs := string(f.creator[:]), f.geometry.total()
	if chs != vhdMaxCHS && (c == "vpc " || c == "qemu") {
		return chs * vhdSector
	}
	return int64(f.currentSize)
}

// vhdTimestamp turns t into seconds since 2000; the zero time is 0.
func vhdTimestamp(t time.Time) (uint32, error) {
	if t.IsZero() {
		return 0, nil
	}
	s := t.Unix() - vhdEpoch.Unix()
	if s < 0 || s > math.MaxUint32 {
		return 0, fmt.Errorf("vhd time stamp %s: want one from 2000 to 2136", t.UTC().Format(time.RFC3339))
	}
	return uint32(s), nil
}

// vhdHeader is the dynamic disk header ("Dynamic Disk Header Format").
type vhdHeader struct {
	tableOffset uint64 // of the BAT
	entries     uint32
	blockSize   uint32
}

func (h *vhdHeader) encode() []byte {
	b := make([]byte, vhdHeaderSize)
	be := binary.BigEndian
	copy(b, vhdHeaderCookie)
	be.PutUint64(b[8:], vhdNowhere)
	be.PutUint64(b[16:], h.tableOffset)
	be.PutUint32(b[24:], vhdVersion)
	be.PutUint32(b[28:], h.entries)
	be.PutUint32(b[32:], h.blockSize)
	be.PutUint32(b[36:], vhdChecksum(b, 36))
	return b
}

// parseVHDHeader reads the dynamic disk header in b, found at off.
func parseVHDHeader(b []byte, off int64) (*vhdHeader, error) {
	be := binary.BigEndian
	if string(b[:8]) != vhdHeaderCookie {
		return nil, corruptf("reading dynamic disk header at offset %#x: cookie %q, want %q", off, b[:8], vhdHeaderCookie)
	}
	if got, want := be.Uint32(b[36:]), vhdChecksum(b, 36); got != want {
		return nil, corruptf("reading dynamic disk header at offset %#x: checksum %#08x, want %#08x", off, got, want)
	}
	if v := be.Uint32(b[24:]); v>>16 != vhdVersion>>16 {
		return nil, unsupportedf("reading dynamic disk header at offset %#x: version %d.%d (have 1.0)", off, v>>16, v&0xffff)
	}
	h := &vhdHeader{be.Uint64(b[16:]), be.Uint32(b[28:]), be.Uint32(b[32:])}
	if h.blockSize < vhdSector || h.blockSize&(h.blockSize-1) != 0 {
		return nil, corruptf("reading dynamic disk header at offset %#x: block size %d, want a power of two from 512", off, h.blockSize)
	}
	return h, nil
}

// vhdBitmapSize is the length of the sector bitmap before a block's data: one
// bit for each sector, filled up to a sector ("Block Allocation Table and Data
// Blocks").
func vhdBitmapSize(blockSize int64) int64 {
	return ceilDiv(blockSize/vhdSector/8, vhdSector) * vhdSector
}
