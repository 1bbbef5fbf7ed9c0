package diskimage

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"slices"
)

// The constants are those of [MS-VHDX], the sections are its, too.
const (
	vhdxSignature = "vhdxfile" // 2.2.1, file type identifier
	vhdxHeader    = "head"     // 2.2.2
	vhdxRegions   = "regi"     // 2.2.3.1
	vhdxMetadata  = "metadata" // 2.6.1.1

	vhdxHeaderSize = 4 << 10  // 2.2.2, what its checksum covers
	vhdxTableSize  = 64 << 10 // 2.2.3 and 2.6.1, region and metadata tables
	vhdxEntrySize  = 32       // of both
	vhdxMaxEntries = 2047     // of both
	vhdxUnit       = 1 << 20  // 2.1: regions, log and blocks are aligned to it

	vhdxMinBlock = 1 << 20   // 2.6.2.1
	vhdxMaxBlock = 256 << 20 // 2.6.2.1
	vhdxMaxSize  = 64 << 40  // 2.6.2.2

	// vhdxChunkSectors is the number of sectors that one sector bitmap block,
	// of 1 MiB, speaks of (2.5).
	vhdxChunkSectors = 1 << 23

	vhdxLeaveAllocated = 1 // 2.6.2.1, in the file parameters
	vhdxHasParent      = 2

	vhdxItemVirtualDisk = 2 // 2.6.1.2, in a metadata table entry
	vhdxItemRequired    = 4
)

// Where what has a fixed place lies (2.2): two of each, so that a write that
// is cut short leaves the other.
var (
	vhdxHeadersAt = [2]int64{64 << 10, 128 << 10}
	vhdxTablesAt  = [2]int64{192 << 10, 256 << 10}
)

// States of a payload block (2.5.1.1). 4 and 5 are reserved, 7 is for
// differencing disks alone.
const (
	vhdxNotPresent = 0
	vhdxUndefined  = 1
	vhdxZero       = 2
	vhdxUnmapped   = 3
	vhdxPresent    = 6
	vhdxPartial    = 7

	vhdxStateMask    = 7
	vhdxReservedMask = 1<<20 - 1 - vhdxStateMask // then the offset in MiB
)

// guid is a GUID as it is stored: its first three fields are little-endian
// ([MS-DTYP] 2.3.4.2).
type guid [16]byte

// newGUID stores a UUID given in the order of RFC 9562.
func newGUID(uuid [16]byte) guid {
	slices.Reverse(uuid[0:4])
	slices.Reverse(uuid[4:6])
	slices.Reverse(uuid[6:8])
	return uuid
}

// String writes the GUID as its owners do.
func (g guid) String() string {
	u := newGUID(g) // the swap is its own inverse
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:])
}

func mustGUID(s string) guid {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 16 {
		panic("not a GUID: " + s)
	}
	return newGUID([16]byte(b))
}

var (
	vhdxBATRegion      = mustGUID("2dc27766f62342009d64115e9bfd4a08") // 2.2.3.2
	vhdxMetadataRegion = mustGUID("8b7ca20647904b9ab8fe575f050f886e")

	vhdxFileParameters = mustGUID("caa16737fa364d43b3b633f0aa44e76b") // 2.6.2
	vhdxDiskSize       = mustGUID("2fa54224cd1b4876b2115dbed83bf4b8")
	vhdxDiskID         = mustGUID("beca12abb2e6452393efc309e000c746")
	vhdxLogicalSector  = mustGUID("8141bf1da96f4709ba47f233a8faab5f")
	vhdxPhysicalSector = mustGUID("cda348c7445d44719cc9e9885251c556")
	vhdxParentLocator  = mustGUID("a8d35f2db30b454dabf7d3d84834ab0c")
)

// vhdxGeometry is what the places in the BAT are worked out from.
type vhdxGeometry struct {
	size      int64 // of the disk, in bytes
	blockSize int64
	sector    int64 // logical sector size
}

// blocks is the number of payload blocks.
func (g vhdxGeometry) blocks() int64 { return ceilDiv(g.size, g.blockSize) }

// chunkRatio is the number of payload blocks between two sector bitmap blocks.
func (g vhdxGeometry) chunkRatio() int64 { return vhdxChunkSectors * g.sector / g.blockSize }

// batIndex is the place of a payload block in the BAT. After each chunk comes
// the entry of its sector bitmap (2.5), which is there without a parent, too.
func (g vhdxGeometry) batIndex(block int64) int64 { return block + block/g.chunkRatio() }

// batEntries is the least length of the BAT; without a parent the last entry
// is that of a payload block (2.5).
func (g vhdxGeometry) batEntries() int64 {
	if g.size == 0 {
		return 0
	}
	return g.batIndex(g.blocks()-1) + 1
}

// vhdxChecksum is the CRC-32C of b with its bytes 4 to 8, where it is stored,
// taken as zero.
func vhdxChecksum(b []byte) uint32 {
	sum := crc32.Update(0, castagnoli, b[:4])
	sum = crc32.Update(sum, castagnoli, zeros[:4])
	return crc32.Update(sum, castagnoli, b[8:])
}

// vhdxSealed tells whether b begins with the signature and its checksum is right.
func vhdxSealed(b []byte, signature string) error {
	if got := string(b[:4]); got != signature {
		return corruptf("signature %q, want %q", got, signature)
	}
	if got, want := binary.LittleEndian.Uint32(b[4:]), vhdxChecksum(b); got != want {
		return corruptf("checksum %#08x, want %#08x", got, want)
	}
	return nil
}

// vhdxSpan is a part of the file that belongs to something.
type vhdxSpan struct {
	name       string
	start, end int64
}

// vhdxOverlap returns the first of the spans, sorted and apart, that shares
// bytes with [start, end).
func vhdxOverlap(spans []vhdxSpan, start, end int64) (vhdxSpan, bool) {
	i, _ := slices.BinarySearchFunc(spans, start, func(s vhdxSpan, at int64) int {
		if s.end <= at {
			return -1
		}
		return 1
	})
	if i < len(spans) && spans[i].start < end {
		return spans[i], true
	}
	return vhdxSpan{}, false
}
