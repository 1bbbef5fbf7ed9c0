package diskimage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf16"
)

// vhdxHead is what a header says (2.2.2).
type vhdxHead struct {
	at         int64
	sequence   uint64
	log        guid
	logVersion uint16
	version    uint16
	logLength  int64
	logOffset  uint64
	raw        []byte
}

// readVHDXHeader reads one of the two headers.
func readVHDXHeader(r io.ReaderAt, at int64) (*vhdxHead, error) {
	b := make([]byte, vhdxHeaderSize)
	err := readFull(r, b, at)
	if err == nil {
		err = vhdxSealed(b, vhdxHeader)
	}
	if err != nil {
		return nil, fmt.Errorf("reading vhdx header at offset %#x: %w", at, err)
	}
	le := binary.LittleEndian
	return &vhdxHead{at: at, sequence: le.Uint64(b[8:]), log: guid(b[48:64]), logVersion: le.Uint16(b[64:]), version: le.Uint16(b[66:]),
		logLength: int64(le.Uint32(b[68:])), logOffset: le.Uint64(b[72:]), raw: b}, nil
}

// currentVHDXHeader returns the header in use: the only one that is sound or
// the one with the higher sequence number. Two that are the same are what
// Microsoft's Disk2VHD writes.
func currentVHDXHeader(r io.ReaderAt, size int64) (*vhdxHead, error) {
	first, err1 := readVHDXHeader(r, vhdxHeadersAt[0])
	second, err2 := readVHDXHeader(r, vhdxHeadersAt[1])
	h := first
	switch {
	case err1 != nil && err2 != nil:
		return nil, errors.Join(err1, err2)
	case err1 != nil:
		h = second
	case err2 != nil:
	case second.sequence > first.sequence:
		h = second
	case second.sequence == first.sequence && !bytes.Equal(first.raw, second.raw):
		return nil, corruptf("reading vhdx headers at offsets %#x and %#x: they differ, but both have sequence number %d", first.at, second.at, first.sequence)
	}
	return h, h.check(size)
}

// check checks the fields of the header in use.
func (h *vhdxHead) check(size int64) error {
	where := fmt.Sprintf("reading vhdx header at offset %#x", h.at)
	if h.version != 1 {
		return unsupportedf("%s: version %d, want 1", where, h.version)
	}
	if h.logLength == 0 && h.log == (guid{}) {
		return nil
	}
	switch end := uint64(max(0, size-h.logLength)); {
	case h.logOffset%vhdxUnit != 0 || h.logOffset == 0 || h.logLength%vhdxUnit != 0 || h.logLength == 0:
		return corruptf("%s: log of %d bytes at offset %#x, want whole MiB past the headers", where, h.logLength, h.logOffset)
	case h.logOffset > end:
		return corruptf("%s: log of %d bytes at offset %#x reaches past the end of the file at %#x", where, h.logLength, h.logOffset, size)
	}
	return nil
}

// vhdxCreator is who wrote the file, by its own account (2.2.1).
func vhdxCreator(r io.ReaderAt) (string, error) {
	b := make([]byte, len(vhdxSignature)+512)
	if err := readFull(r, b, 0); err != nil {
		return "", fmt.Errorf("reading vhdx file type identifier at offset 0: %w", err)
	}
	if got := string(b[:len(vhdxSignature)]); got != vhdxSignature {
		return "", corruptf("reading vhdx file type identifier at offset 0: signature %q, want %q", got, vhdxSignature)
	}
	var units []uint16
	for at := len(vhdxSignature); at < len(b); at += 2 {
		u := binary.LittleEndian.Uint16(b[at:])
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units)), nil
}

// readVHDXRegions returns the regions of the first table that is sound.
func readVHDXRegions(r io.ReaderAt, size int64) (map[guid]vhdxSpan, error) {
	first, err := readVHDXRegionTable(r, vhdxTablesAt[0])
	if err != nil {
		var err2 error
		if first, err2 = readVHDXRegionTable(r, vhdxTablesAt[1]); err2 != nil {
			return nil, errors.Join(err, err2)
		}
	}
	return first.regions(size)
}

// vhdxRegionTable is a region table whose checksum is right.
type vhdxRegionTable struct {
	at  int64
	raw []byte
}

func readVHDXRegionTable(r io.ReaderAt, at int64) (*vhdxRegionTable, error) {
	b := make([]byte, vhdxTableSize)
	err := readFull(r, b, at)
	if err == nil {
		err = vhdxSealed(b, vhdxRegions)
	}
	if err != nil {
		return nil, fmt.Errorf("reading vhdx region table at offset %#x: %w", at, err)
	}
	return &vhdxRegionTable{at, b}, nil
}

// regions checks the entries of the table (2.2.3.2).
func (t *vhdxRegionTable) regions(size int64) (map[guid]vhdxSpan, error) {
	n := int(binary.LittleEndian.Uint32(t.raw[8:]))
	if n > vhdxMaxEntries {
		return nil, corruptf("reading vhdx region table at offset %#x: %d entries, want at most %d", t.at, n, vhdxMaxEntries)
	}
	found := map[guid]vhdxSpan{}
	for i := range n {
		id, span, err := parseVHDXRegion(t.raw[16+i*vhdxEntrySize:], size)
		if err == nil && found[id].name != "" {
			err = corruptf("there are two regions %s", id)
		}
		if err != nil {
			return nil, fmt.Errorf("reading vhdx region table at offset %#x: entry %d: %w", t.at, i, err)
		}
		found[id] = span
	}
	for _, id := range []guid{vhdxBATRegion, vhdxMetadataRegion} {
		if found[id].name == "" {
			return nil, corruptf("reading vhdx region table at offset %#x: no region %s", t.at, id)
		}
	}
	return found, nil
}

// parseVHDXRegion checks an entry of the region table.
func parseVHDXRegion(e []byte, size int64) (guid, vhdxSpan, error) {
	le := binary.LittleEndian
	id, at, length, flags := guid(e[:16]), le.Uint64(e[16:]), int64(le.Uint32(e[24:])), le.Uint32(e[28:])
	where := fmt.Sprintf("region %s of %d bytes at offset %#x", id, length, at)
	name := "region " + id.String()
	switch {
	case id == vhdxBATRegion:
		name = "BAT"
	case id == vhdxMetadataRegion:
		name = "metadata region"
	case flags&1 != 0:
		return id, vhdxSpan{}, unsupportedf("%s: it is required and not known here", where)
	}
	switch {
	case at%vhdxUnit != 0 || at == 0 || length%vhdxUnit != 0 || length == 0:
		return id, vhdxSpan{}, corruptf("%s: want whole MiB past the headers", where)
	case at > uint64(max(0, size-length)):
		return id, vhdxSpan{}, corruptf("%s: past the end of the file at %#x", where, size)
	}
	return id, vhdxSpan{name, int64(at), int64(at) + length}, nil
}

// vhdxFixedSpans sorts the regions, the log and the headers, none of which may
// share bytes with another.
func vhdxFixedSpans(h *vhdxHead, regions map[guid]vhdxSpan) ([]vhdxSpan, error) {
	spans := []vhdxSpan{{"headers", 0, vhdxUnit}}
	if h.logLength > 0 {
		spans = append(spans, vhdxSpan{"log", int64(h.logOffset), int64(h.logOffset) + h.logLength})
	}
	for _, r := range regions {
		spans = append(spans, r)
	}
	slices.SortFunc(spans, func(a, b vhdxSpan) int {
		if a.start < b.start || a.start == b.start && a.name < b.name {
			return -1
		}
		return 1
	})
	for i := 1; i < len(spans); i++ {
		if a, b := spans[i-1], spans[i]; a.end > b.start {
			return nil, corruptf("vhdx %s from offset %#x to %#x overlaps the %s at offset %#x", a.name, a.start, a.end, b.name, b.start)
		}
	}
	return spans, nil
}
