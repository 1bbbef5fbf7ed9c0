package gpt

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"unicode/utf16"
)

// Write puts the table on a disk of t.Size bytes: nothing is written unless the
// whole table is sound. The backup goes first and the protective MBR last, and
// each header follows its entries, so that a crash leaves one whole copy, old
// or new. The same table gives the same bytes. Sector 0 is written whole.
func Write(w io.WriterAt, t Table) error {
	if err := t.check(); err != nil {
		return fmt.Errorf("writing partition table: %w", err)
	}
	ss := int64(t.sector())
	last := t.Size/ss - 1
	entries := encodeEntries(t.numbered(), ss)
	array := int64(len(entries)) / ss // sectors
	steps := []struct {
		what string
		lba  int64
		data []byte
	}{
		{"backup entries", last - array, entries},
		{"backup header", last, t.encodeHeader(last, 1, last-array, entries)},
		{"primary entries", 2, entries},
		{"primary header", 1, t.encodeHeader(1, last, 2, entries)},
		{"protective MBR", 0, protectiveMBR(last, ss)},
	}
	for _, s := range steps {
		if _, err := w.WriteAt(s.data, s.lba*ss); err != nil {
			return fmt.Errorf("writing %s of the partition table at offset %d: %w", s.what, s.lba*ss, err)
		}
	}
	return nil
}

// encodeEntries lays the entries out as UEFI 2.10 §5.3.3, table 5-6.
func encodeEntries(parts []Partition, sector int64) []byte {
	le := binary.LittleEndian
	b := make([]byte, entryCount*entrySize)
	for _, p := range parts {
		e := b[(p.Number-1)*entrySize:][:entrySize]
		copy(e[0:], p.Type[:])
		copy(e[16:], p.GUID[:])
		le.PutUint64(e[32:], uint64(p.Start/sector))
		le.PutUint64(e[40:], uint64(p.End()/sector-1))
		le.PutUint64(e[48:], p.Attributes)
		for i, u := range utf16.Encode([]rune(p.Name)) {
			le.PutUint16(e[56+2*i:], u)
		}
	}
	return b
}

// encodeHeader lays one header out as UEFI 2.10 §5.3.2, table 5-5.
func (t Table) encodeHeader(my, alternate, entriesLBA int64, entries []byte) []byte {
	le := binary.LittleEndian
	ss := int64(t.sector())
	start, end := t.Usable()
	h := make([]byte, ss)
	copy(h, signature)
	le.PutUint32(h[8:], revision)
	le.PutUint32(h[12:], headerSize)
	le.PutUint64(h[24:], uint64(my))
	le.PutUint64(h[32:], uint64(alternate))
	le.PutUint64(h[40:], uint64(start/ss))
	le.PutUint64(h[48:], uint64(end/ss-1))
	copy(h[56:], t.DiskGUID[:])
	le.PutUint64(h[72:], uint64(entriesLBA))
	le.PutUint32(h[80:], entryCount)
	le.PutUint32(h[84:], entrySize)
	le.PutUint32(h[88:], crc32.ChecksumIEEE(entries))
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:headerSize]))
	return h
}

// protectiveMBR is UEFI 2.10 §5.2.3, table 5-4: one partition of type 0xEE over
// the whole disk, or over 0xFFFFFFFF sectors of a larger one.
func protectiveMBR(last, sector int64) []byte {
	b := make([]byte, sector)
	p := b[446:]
	copy(p, []byte{0x00, 0x00, 0x02, 0x00, 0xEE, 0xFF, 0xFF, 0xFF})
	binary.LittleEndian.PutUint32(p[8:], 1)
	binary.LittleEndian.PutUint32(p[12:], uint32(min(last, 0xFFFFFFFF)))
	b[510], b[511] = 0x55, 0xAA
	return b
}
