package volume

import (
	"encoding/binary"
	"io"

	"github.com/kldload/kldload/internal/gpt"
)

// magic is a signature at a place: libblkid's superblocks/*.c name the same.
type magic struct {
	kind Kind
	off  int64
	text string
}

var magics = []magic{
	{XFS, 0, "XFSB"},
	{Btrfs, 0x10040, "_BHRfS_M"},
	{LUKS, 0, "LUKS\xba\xbe"},
	{LVM, 512 + 24, "LVM2 001"},
	{LVM, 24, "LVM2 001"},
	{MD, 4096, "\xfc\x4e\x2b\xa9"},
	{Swap, 4096 - 10, "SWAPSPACE2"},
}

// probe tells what a volume holds.
func probe(r *io.SectionReader) Kind {
	at := func(off int64, n int) []byte {
		b := make([]byte, n)
		if _, err := r.ReadAt(b, off); err != nil && err != io.EOF {
			return make([]byte, n)
		}
		return b
	}
	for _, m := range magics {
		if string(at(m.off, len(m.text))) == m.text {
			return m.kind
		}
	}
	if super := at(1024, 264); binary.LittleEndian.Uint16(super[0x38:]) == 0xef53 {
		const extents = 0x40 // INCOMPAT_EXTENTS (ext4.h)
		if binary.LittleEndian.Uint32(super[0x60:])&extents == 0 {
			return Ext23
		}
		return Ext4
	}
	if hasUberblock(r) {
		return ZFS
	}
	if isFAT(at(0, 512)) {
		return FAT
	}
	return None
}

// hasUberblock looks for a vdev label's uberblocks: of four labels, two at each
// end, each with a ring in its second half (vdev_impl.h).
func hasUberblock(r *io.SectionReader) bool {
	const label, ring = 256 << 10, 128 << 10
	end := r.Size() / label * label
	for _, start := range []int64{0, label, end - 2*label, end - label} {
		if start < 0 {
			continue
		}
		b := make([]byte, label-ring)
		if _, err := r.ReadAt(b, start+ring); err != nil && err != io.EOF {
			continue
		}
		for i := 0; i < len(b); i += 1 << 10 {
			if v := binary.LittleEndian.Uint64(b[i:]); v == 0x00bab10c || v == 0x0cb1ba0000000000 {
				return true
			}
		}
	}
	return false
}

// isFAT knows a boot sector by its jump, its sector size and the name of its
// type (Microsoft's FAT specification, section 3).
func isFAT(b []byte) bool {
	sector := binary.LittleEndian.Uint16(b[11:])
	return b[510] == 0x55 && b[511] == 0xaa && (b[0] == 0xeb || b[0] == 0xe9) &&
		sector >= 512 && sector <= 4096 && sector&(sector-1) == 0 &&
		(string(b[54:57]) == "FAT" || string(b[82:87]) == "FAT32")
}

// readMBR gives the primary partitions. protective says that the table only
// guards a GPT.
func readMBR(r io.ReaderAt, size int64) (parts []gpt.Partition, protective bool) {
	b := make([]byte, 512)
	if _, err := r.ReadAt(b, 0); err != nil || b[510] != 0x55 || b[511] != 0xaa {
		return nil, false
	}
	for i := range 4 {
		e := b[446+16*i:][:16]
		p := gpt.Partition{Number: i + 1, Start: int64(binary.LittleEndian.Uint32(e[8:])) * 512, Size: int64(binary.LittleEndian.Uint32(e[12:])) * 512}
		switch kind := e[4]; {
		case kind == 0xee:
			protective = true
		case kind == 0 || kind == 5 || kind == 0x0f || p.Size == 0 || p.Start == 0 || p.End() > size:
			continue
		default:
			parts = append(parts, p)
		}
	}
	return parts, protective
}
