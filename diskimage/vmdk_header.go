package diskimage

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Fields and limits of VMware's "Virtual Disk Format 5.0", sections "Hosted
// Sparse Extents" and "Stream-Optimized Compressed Sparse Extents".
const (
	vmdkMagic  = 0x564d444b // "KDMV" in the file, which is little-endian
	vmdkSector = 512

	vmdkFlagNewline    = 1 << 0 // the four newline bytes are there to be checked
	vmdkFlagRedundant  = 1 << 1 // rgdOffset is valid
	vmdkFlagZeroGrain  = 1 << 2 // the grain table entry 1 stands for zeros
	vmdkFlagCompressed = 1 << 16
	vmdkFlagMarkers    = 1 << 17

	// vmdkNewlines is what a transfer as text would have changed.
	vmdkNewlines = "\n \r\n"

	vmdkDeflate = 1
	vmdkGDAtEnd = 1<<64 - 1 // gdOffset of a header whose footer has the real one

	vmdkGrainSize    = 64 << 10
	vmdkTableEntries = 512
	vmdkTableBytes   = vmdkTableEntries * 4
	// vmdkTableSpan is the number of guest bytes one grain table maps.
	vmdkTableSpan = vmdkTableEntries * vmdkGrainSize

	vmdkDescriptorSectors = 20 // QEMU reads that many, whatever the header says
	vmdkMaxSectors        = 1 << 32
	// maxGDBytes bounds the grain directories of a disk: 256 TiB in grains of
	// 64 KiB.
	maxGDBytes      = 32 << 20
	vmdkMarkerBytes = 12             // of a grain: uint64 LBA, uint32 size
	vmdkFooterBytes = 3 * vmdkSector // marker, footer and end-of-stream marker

	// maxGrainSectors is a limit of ours (2 MiB); VMware's grains are 64 KiB.
	maxGrainSectors = maxClusterSize / vmdkSector
)

// Types of a marker whose size is 0.
const (
	markerEndOfStream = iota
	markerGrainTable
	markerGrainDirectory
	markerFooter
)

// vmdkHeader is a SparseExtentHeader; offsets and sizes are in sectors.
type vmdkHeader struct {
	version          uint32
	flags            uint32
	capacity         uint64
	grainSize        uint64
	descriptorOffset uint64
	descriptorSize   uint64
	tableEntries     uint32
	rgdOffset        uint64
	gdOffset         uint64
	overhead         uint64
	compression      uint16

	footer bool // it is one: the directory is at the end, markers in between
}

// encode returns the header's sector.
func (h *vmdkHeader) encode() []byte {
	b := make([]byte, vmdkSector)
	le := binary.LittleEndian
	le.PutUint32(b[0:], vmdkMagic)
	le.PutUint32(b[4:], h.version)
	le.PutUint32(b[8:], h.flags)
	le.PutUint64(b[12:], h.capacity)
	le.PutUint64(b[20:], h.grainSize)
	le.PutUint64(b[28:], h.descriptorOffset)
	le.PutUint64(b[36:], h.descriptorSize)
	le.PutUint32(b[44:], h.tableEntries)
	le.PutUint64(b[48:], h.rgdOffset)
	le.PutUint64(b[56:], h.gdOffset)
	le.PutUint64(b[64:], h.overhead)
	copy(b[73:], vmdkNewlines)
	le.PutUint16(b[77:], h.compression)
	return b
}

func (h *vmdkHeader) grainBytes() int64   { return int64(h.grainSize) * vmdkSector }
func (h *vmdkHeader) tableSpan() int64    { return int64(h.tableEntries) * h.grainBytes() }
func (h *vmdkHeader) tableSectors() int64 { return ceilDiv(int64(h.tableEntries)*4, vmdkSector) }
func (h *vmdkHeader) tables() int64       { return ceilDiv(int64(h.capacity)*vmdkSector, h.tableSpan()) }
func (h *vmdkHeader) compressed() bool    { return h.flags&vmdkFlagCompressed != 0 }

// parseVMDKHeader reads the header of a sparse extent of fileSize bytes, or the
// footer that takes its place.
func parseVMDKHeader(r io.ReaderAt, fileSize int64) (*vmdkHeader, error) {
	if fileSize < vmdkSector {
		return nil, corruptf("reading vmdk header: file has %d bytes, want at least %d", fileSize, vmdkSector)
	}
	b := make([]byte, vmdkSector)
	if err := readFull(r, b, 0); err != nil {
		return nil, fmt.Errorf("reading vmdk header: %w", err)
	}
	h, err := decodeVMDKHeader("header", b)
	if err != nil {
		return nil, err
	}
	if h.gdOffset == vmdkGDAtEnd {
		if h, err = readVMDKFooter(r, fileSize); err != nil {
			return nil, err
		}
		h.footer = true
	}
	return h, h.checkPlaces(fileSize)
}

// readVMDKFooter reads the last three sectors, of which the second is the
// footer.
func readVMDKFooter(r io.ReaderAt, fileSize int64) (*vmdkHeader, error) {
	at := fileSize/vmdkSector*vmdkSector - vmdkFooterBytes
	if at < vmdkSector {
		return nil, corruptf("reading vmdk footer: file of %d bytes is cut, its grain directory should be at the end", fileSize)
	}
	b := make([]byte, vmdkFooterBytes)
	if err := readFull(r, b, at); err != nil {
		return nil, fmt.Errorf("reading vmdk footer at offset %#x: %w", at, err)
	}
	le := binary.LittleEndian
	if le.Uint32(b[8:]) != 0 || le.Uint32(b[12:]) != markerFooter {
		return nil, corruptf("reading vmdk footer: no footer marker at offset %#x (size %d, type %d), the file may be cut",
			at, le.Uint32(b[8:]), le.Uint32(b[12:]))
	}
	if eos := b[2*vmdkSector:]; !isZero(eos[:16]) {
		return nil, corruptf("reading vmdk footer: no end-of-stream marker at offset %#x", at+2*vmdkSector)
	}
	h, err := decodeVMDKHeader("footer", b[vmdkSector:2*vmdkSector])
	if err == nil && h.gdOffset == vmdkGDAtEnd {
		return nil, corruptf("reading vmdk footer at offset %#x: grain directory offset %#x", at+vmdkSector, h.gdOffset)
	}
	return h, err
}

// decodeVMDKHeader decodes and checks a SparseExtentHeader.
func decodeVMDKHeader(what string, b []byte) (*vmdkHeader, error) {
	le := binary.LittleEndian
	if m := le.Uint32(b); m != vmdkMagic {
		return nil, corruptf("reading vmdk %s: magic %#08x, want %#08x", what, m, uint32(vmdkMagic))
	}
	h := &vmdkHeader{
		version: le.Uint32(b[4:]), flags: le.Uint32(b[8:]), capacity: le.Uint64(b[12:]), grainSize: le.Uint64(b[20:]),
		descriptorOffset: le.Uint64(b[28:]), descriptorSize: le.Uint64(b[36:]), tableEntries: le.Uint32(b[44:]),
		rgdOffset: le.Uint64(b[48:]), gdOffset: le.Uint64(b[56:]), overhead: le.Uint64(b[64:]), compression: le.Uint16(b[77:]),
	}
	switch {
	case h.version < 1 || h.version > 3:
		return nil, unsupportedf("reading vmdk %s: version %d (have 1, 2, 3)", what, h.version)
	case h.flags>>16&^3 != 0:
		return nil, unsupportedf("reading vmdk %s: unknown incompatible flags %#x", what, h.flags)
	case h.flags&vmdkFlagNewline != 0 && string(b[73:77]) != vmdkNewlines:
		return nil, corruptf("reading vmdk %s: newline test is %q, want %q: the file was changed in a transfer as text", what, b[73:77], vmdkNewlines)
	case h.compression > vmdkDeflate:
		return nil, unsupportedf("reading vmdk %s: compression %d (have none 0, deflate 1)", what, h.compression)
	case h.compressed() != (h.compression == vmdkDeflate):
		return nil, corruptf("reading vmdk %s: compression %d contradicts flags %#x", what, h.compression, h.flags)
	case h.compressed() != (h.flags&vmdkFlagMarkers != 0):
		return nil, unsupportedf("reading vmdk %s: flags %#x, want compressed grains with markers or neither", what, h.flags)
	case h.grainSize == 0 || h.grainSize&(h.grainSize-1) != 0 || h.grainSize > maxGrainSectors:
		return nil, corruptf("reading vmdk %s: grain size of %d sectors, want a power of two up to %d", what, h.grainSize, maxGrainSectors)
	case h.tableEntries == 0 || h.tableEntries > vmdkTableEntries:
		return nil, corruptf("reading vmdk %s: grain tables of %d entries, want 1 to %d", what, h.tableEntries, vmdkTableEntries)
	case h.capacity == 0:
		return nil, unsupportedf("reading vmdk %s: capacity 0, the file holds no disk", what)
	case h.capacity > 1<<53 || h.tables()*4 > maxGDBytes:
		return nil, corruptf("reading vmdk %s: capacity of %d sectors needs a grain directory of more than %d bytes", what, h.capacity, maxGDBytes)
	}
	return h, nil
}

// checkPlaces checks that the grain directory lies in the file, behind the
// header.
func (h *vmdkHeader) checkPlaces(fileSize int64) error {
	n := h.tables() * 4
	if h.gdOffset == 0 || h.gdOffset > uint64(fileSize)/vmdkSector || n > fileSize-int64(h.gdOffset)*vmdkSector {
		return corruptf("reading vmdk header: grain directory of %d bytes at sector %#x reaches past the end of the file at %#x", n, h.gdOffset, fileSize)
	}
	return nil
}

// vmdkMarker returns the sector before sectors of metadata of a kind.
func vmdkMarker(kind uint32, sectors int64) []byte {
	b := make([]byte, vmdkSector)
	binary.LittleEndian.PutUint64(b, uint64(sectors))
	binary.LittleEndian.PutUint32(b[12:], kind)
	return b
}

// littleEndian32 returns a table of entries, filled up to a sector.
func littleEndian32(entries []uint32) []byte {
	b := make([]byte, ceilDiv(int64(len(entries))*4, vmdkSector)*vmdkSector)
	for i, e := range entries {
		binary.LittleEndian.PutUint32(b[i*4:], e)
	}
	return b
}
