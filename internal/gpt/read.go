package gpt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"unicode/utf16"
)

// maxArray bounds the entry array Read takes: 64 times the usual 16 KiB.
const maxArray = 1 << 20

// header is one checked copy of UEFI 2.10 §5.3.2, in sectors.
type header struct {
	sector              int64
	my, alternate       int64
	firstUsable, usable int64 // usable: the first sector behind
	disk                GUID
	entriesLBA          int64
	count, size         int64
	entriesCRC          uint32
}

// Read reads the table of a disk of size bytes, with 512- or 4096-byte sectors,
// whichever carries the signature. Each copy must pass both checksums and hold
// partitions inside the disk that do not overlap. When the primary copy does
// not, the backup in the last sector is taken and Table.Problem says why; a
// good primary with a bad or displaced backup sets Problem too. It uses at most
// about 2 MiB of memory whatever the disk says.
func Read(r io.ReaderAt, size int64) (Table, error) {
	var errs []error
	for _, ss := range []int64{512, 4096} {
		t, err := readPrimary(r, size, ss)
		if err == nil {
			return t, nil
		}
		errs = append(errs, err)
	}
	primary := errs[0]
	if errors.Is(primary, errNoSignature) && !errors.Is(errs[1], errNoSignature) {
		primary = errs[1]
	}
	for _, ss := range []int64{512, 4096} {
		t, _, err := readCopy(r, size, ss, size/ss-1)
		if err == nil {
			t.FromBackup, t.Problem = true, "primary table: "+primary.Error()
			return t, nil
		}
		if !errors.Is(err, errNoSignature) || ss == 512 {
			primary = fmt.Errorf("%w; backup: %w", primary, err)
		}
	}
	return Table{}, fmt.Errorf("reading partition table: %w", primary)
}

var errNoSignature = errors.New(`no signature (want "EFI PART")`)

// readPrimary reads the copy in sector 1 and notes what is wrong with its twin.
func readPrimary(r io.ReaderAt, size, ss int64) (Table, error) {
	t, h, err := readCopy(r, size, ss, 1)
	if err != nil {
		return t, err
	}
	switch _, twin, err := readCopy(r, size, ss, h.alternate); {
	case err != nil:
		t.Problem = "backup table: " + err.Error()
	case h.alternate != size/ss-1:
		t.Problem = fmt.Sprintf("backup table: in sector %d, not in the last sector %d", h.alternate, size/ss-1)
	case twin.entriesCRC != h.entriesCRC || twin.disk != h.disk:
		t.Problem = fmt.Sprintf("backup table: header in sector %d describes other partitions", h.alternate)
	}
	return t, nil
}

// readCopy reads the header in sector lba and the entries it points at.
func readCopy(r io.ReaderAt, size, ss, lba int64) (Table, header, error) {
	h, err := readHeader(r, size, ss, lba)
	if err != nil {
		return Table{}, h, fmt.Errorf("header in sector %d of %d bytes: %w", lba, ss, err)
	}
	at := h.entriesLBA * ss
	array := make([]byte, h.count*h.size)
	if err := readFull(r, array, at); err != nil {
		return Table{}, h, fmt.Errorf("partition entries at offset %d: %w", at, err)
	}
	if got := crc32.ChecksumIEEE(array); got != h.entriesCRC {
		return Table{}, h, fmt.Errorf("partition entries at offset %d: checksum %08x (want %08x)", at, got, h.entriesCRC)
	}
	t := Table{DiskGUID: h.disk, SectorSize: int(ss), Size: size}
	for i := range h.count {
		p, err := decodeEntry(array[i*h.size:], h)
		if err != nil {
			return Table{}, h, fmt.Errorf("partition entry %d at offset %d: %w", i+1, at+i*h.size, err)
		}
		if !p.Type.IsZero() {
			p.Number = int(i) + 1
			t.Partitions = append(t.Partitions, p)
		}
	}
	return t, h, checkPlaces(t.Partitions, ss, h.firstUsable*ss, h.usable*ss)
}

func readHeader(r io.ReaderAt, size, ss, lba int64) (h header, err error) {
	if sectors := size / ss; lba < 1 || lba >= sectors {
		return h, fmt.Errorf("outside the disk of %d sectors", max(sectors, 0))
	}
	b := make([]byte, ss)
	if err := readFull(r, b, lba*ss); err != nil {
		return h, err
	}
	le := binary.LittleEndian
	if string(b[:8]) != signature {
		return h, errNoSignature
	}
	if rev := le.Uint32(b[8:]); rev>>16 != revision>>16 {
		return h, fmt.Errorf("revision %#08x (want %#08x)", rev, revision)
	}
	n := int64(le.Uint32(b[12:]))
	if n < headerSize || n > ss {
		return h, fmt.Errorf("header size %d (want %d to %d)", n, headerSize, ss)
	}
	want := le.Uint32(b[16:])
	clear(b[16:20]) // §5.3.2: the checksum is taken with its own field zero
	if got := crc32.ChecksumIEEE(b[:n]); got != want {
		return h, fmt.Errorf("checksum %08x (want %08x)", got, want)
	}
	return decodeHeader(b, size, ss, lba)
}

// decodeHeader takes the fields of a header whose checksum is right and holds
// every sector number to the disk, so that no later sum overflows.
func decodeHeader(b []byte, size, ss, lba int64) (header, error) {
	sectors := size / ss
	le := binary.LittleEndian
	lbaAt := func(off int) int64 {
		return int64(min(le.Uint64(b[off:]), uint64(math.MaxInt64/ss))) // beyond any disk stays beyond
	}
	h := header{
		sector: ss, my: lbaAt(24), alternate: lbaAt(32),
		firstUsable: lbaAt(40), usable: lbaAt(48) + 1,
		disk: GUID(b[56:72]), entriesLBA: lbaAt(72),
		count: int64(le.Uint32(b[80:])), size: int64(le.Uint32(b[84:])),
		entriesCRC: le.Uint32(b[88:]),
	}
	if h.my != lba {
		return h, fmt.Errorf("says it lies in sector %d", h.my)
	}
	if h.firstUsable < 2 || h.firstUsable > h.usable || h.usable > sectors {
		return h, fmt.Errorf("usable sectors %d to %d do not fit the disk of %d sectors", h.firstUsable, h.usable-1, sectors)
	}
	if h.size < entrySize || h.size&(h.size-1) != 0 || h.size > 4096 {
		return h, fmt.Errorf("entry size %d (want 128 × 2^n, at most 4096)", h.size)
	}
	if h.count < 1 || h.count*h.size > maxArray {
		return h, fmt.Errorf("%d entries of %d bytes (want 1 to %d bytes in all)", h.count, h.size, maxArray)
	}
	if h.entriesLBA < 2 || h.entriesLBA >= sectors || h.count*h.size > size-h.entriesLBA*ss {
		return h, fmt.Errorf("%d bytes of entries in sector %d do not fit the disk of %d sectors", h.count*h.size, h.entriesLBA, sectors)
	}
	return h, nil
}

// decodeEntry gives a zero Partition for an unused entry.
func decodeEntry(e []byte, h header) (Partition, error) {
	le := binary.LittleEndian
	p := Partition{Type: GUID(e[:16]), GUID: GUID(e[16:32]), Attributes: le.Uint64(e[48:])}
	if p.Type.IsZero() {
		return Partition{}, nil
	}
	first, last := le.Uint64(e[32:]), le.Uint64(e[40:])
	if first > last || last >= uint64(h.usable) || first < uint64(h.firstUsable) {
		return p, fmt.Errorf("sectors %d to %d lie outside the usable sectors %d to %d", first, last, h.firstUsable, h.usable-1)
	}
	p.Start, p.Size = int64(first)*h.sector, int64(last-first+1)*h.sector
	var units []uint16
	for i := range nameUnits {
		u := le.Uint16(e[56+2*i:])
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	p.Name = string(utf16.Decode(units))
	return p, nil
}

func readFull(r io.ReaderAt, b []byte, off int64) error {
	if n, err := r.ReadAt(b, off); n < len(b) {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	return nil
}
