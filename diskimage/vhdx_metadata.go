package diskimage

import (
	"encoding/binary"
	"fmt"
	"io"
)

// vhdxMeta is what the metadata says of the disk.
type vhdxMeta struct {
	g        vhdxGeometry
	fixed    bool
	physical int64
	id       guid
}

// vhdxItemSizes are the items this package knows (2.6.2), with their lengths.
var vhdxItemSizes = map[guid]int64{
	vhdxFileParameters: 8, vhdxDiskSize: 8, vhdxDiskID: 16, vhdxLogicalSector: 4, vhdxPhysicalSector: 4,
	vhdxParentLocator: -1, // any
}

// readVHDXMetadata reads the metadata region.
func readVHDXMetadata(r io.ReaderAt, region vhdxSpan) (*vhdxMeta, error) {
	items, err := readVHDXItems(r, region)
	if err != nil {
		return nil, fmt.Errorf("reading vhdx metadata table at offset %#x: %w", region.start, err)
	}
	m, err := parseVHDXItems(items)
	if err != nil {
		return nil, fmt.Errorf("reading vhdx metadata at offset %#x: %w", region.start, err)
	}
	return m, nil
}

// readVHDXItems reads the metadata table (2.6.1) and the items whose length is
// known.
func readVHDXItems(r io.ReaderAt, region vhdxSpan) (map[guid][]byte, error) {
	b := make([]byte, vhdxTableSize)
	if err := readFull(r, b, region.start); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	if got := string(b[:8]); got != vhdxMetadata {
		return nil, corruptf("signature %q, want %q", got, vhdxMetadata)
	}
	n := int(le.Uint16(b[10:]))
	if n > vhdxMaxEntries {
		return nil, corruptf("%d entries, want at most %d", n, vhdxMaxEntries)
	}
	items := map[guid][]byte{}
	for i := 1; i <= n; i++ {
		e := b[i*vhdxEntrySize:]
		id, at, length, flags := guid(e[:16]), int64(le.Uint32(e[16:])), int64(le.Uint32(e[20:])), le.Uint32(e[24:])
		want, known := vhdxItemSizes[id]
		switch {
		case !known && flags&vhdxItemRequired != 0:
			return nil, unsupportedf("item %s is required and not known here", id)
		case !known:
			continue
		case items[id] != nil:
			return nil, corruptf("there are two items %s", id)
		case want < 0:
			items[id] = []byte{}
			continue
		case length != want:
			return nil, corruptf("item %s has %d bytes, want %d", id, length, want)
		case at < vhdxTableSize || at+length > region.end-region.start:
			return nil, corruptf("item %s of %d bytes at offset %#x lies outside the metadata region of %d bytes",
				id, length, at, region.end-region.start)
		}
		items[id] = make([]byte, length)
		if err := readFull(r, items[id], region.start+at); err != nil {
			return nil, fmt.Errorf("item %s: %w", id, err)
		}
	}
	return items, nil
}

// parseVHDXItems checks the values of the items.
func parseVHDXItems(items map[guid][]byte) (*vhdxMeta, error) {
	for _, id := range [...]guid{vhdxFileParameters, vhdxDiskSize, vhdxDiskID, vhdxLogicalSector, vhdxPhysicalSector} {
		if items[id] == nil {
			return nil, corruptf("no item %s", id)
		}
	}
	le := binary.LittleEndian
	block, flags := le.Uint32(items[vhdxFileParameters]), le.Uint32(items[vhdxFileParameters][4:])
	size := le.Uint64(items[vhdxDiskSize])
	logical, physical := le.Uint32(items[vhdxLogicalSector]), le.Uint32(items[vhdxPhysicalSector])
	switch {
	case flags&vhdxHasParent != 0:
		return nil, unsupportedf("differencing disk (file parameters %#x, HasParent): its parent is not read here, merge it first", flags)
	case flags&^vhdxLeaveAllocated != 0:
		return nil, unsupportedf("file parameters %#x: unknown bits", flags)
	case block < vhdxMinBlock || block > vhdxMaxBlock || block&(block-1) != 0:
		return nil, corruptf("block size %d, want a power of two from 1 MiB to 256 MiB", block)
	case logical != 512 && logical != 4096:
		return nil, corruptf("logical sector size %d, want 512 or 4096", logical)
	case physical != 512 && physical != 4096:
		return nil, corruptf("physical sector size %d, want 512 or 4096", physical)
	case size > vhdxMaxSize:
		return nil, corruptf("disk size %d, want at most %d", size, int64(vhdxMaxSize))
	case size%uint64(logical) != 0:
		return nil, corruptf("disk size %d is no multiple of the sector size %d", size, logical)
	}
	return &vhdxMeta{
		g:        vhdxGeometry{size: int64(size), blockSize: int64(block), sector: int64(logical)},
		fixed:    flags&vhdxLeaveAllocated != 0,
		physical: int64(physical),
		id:       guid(items[vhdxDiskID]),
	}, nil
}
