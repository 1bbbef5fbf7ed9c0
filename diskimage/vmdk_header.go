package diskimage

import "encoding/binary"

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
	// maxGDBytes bounds a grain directory: 256 TiB of disk in grains of 64 KiB.
	maxGDBytes      = 32 << 20
	vmdkMarkerBytes = 12 // of a grain: uint64 LBA, uint32 size
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
