// Package gpt writes and reads GUID partition tables: protective MBR,
// primary and backup header, and 128 partition entries.
//
// Format: UEFI Specification 2.10, chapter 5
// (https://uefi.org/specs/UEFI/2.10/05_GUID_Partition_Table_Format.html).
//
// Not supported: hybrid MBRs, boot code in the MBR (Write clears sector 0),
// writing more than 128 entries, sector sizes other than 512 and 4096 bytes.
//
// github.com/diskfs/go-diskfs/partition/gpt was weighed and left out: its
// module brings a dozen others, it takes its own file type instead of
// io.ReaderAt, believes the entry count before any checksum when allocating,
// and checks neither overlap nor bounds, which is what we need it for.
package gpt

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	headerSize   = 92  // §5.3.2, table 5-5: HeaderSize
	entrySize    = 128 // §5.3.3, table 5-6: 128 × 2^n bytes
	entryCount   = 128 // §5.3.1: at least 16,384 bytes for the entry array
	nameUnits    = 36  // §5.3.3: PartitionName is 72 bytes of UTF-16LE
	revision     = 0x00010000
	signature    = "EFI PART"
	defaultAlign = 1 << 20
)

// Attribute bits of an entry, UEFI 2.10 §5.3.3, table 5-8, and the
// Discoverable Partitions Specification for the bits of Linux types.
const (
	AttrRequired   uint64 = 1 << 0
	AttrNoBlockIO  uint64 = 1 << 1
	AttrLegacyBoot uint64 = 1 << 2
	AttrGrowFS     uint64 = 1 << 59
	AttrReadOnly   uint64 = 1 << 60
	AttrNoAuto     uint64 = 1 << 63
)

// Partition is one used entry.
type Partition struct {
	// Number is the entry's place, from 1: the 3 of /dev/sda3. Zero lets
	// Write take the place in Table.Partitions; Read always sets it.
	Number int
	Type   GUID
	GUID   GUID   // unique to the partition
	Name   string // at most 36 UTF-16 units

	Start, Size int64 // bytes from the start of the disk; whole sectors
	Attributes  uint64
}

// End is the first byte behind the partition.
func (p Partition) End() int64 { return p.Start + p.Size }

// Table is a partition table with the disk it describes.
type Table struct {
	DiskGUID   GUID
	SectorSize int   // logical sector in bytes: 512 (also when zero) or 4096
	Size       int64 // the disk in bytes, whole sectors
	// Align is what every Start must be a multiple of when writing; zero
	// means 1 MiB. Set it to the sector size to allow any place, as a BIOS
	// boot partition below 1 MiB wants. Read leaves it zero.
	Align      int64
	Partitions []Partition

	// FromBackup is set by Read when the primary copy was unusable.
	FromBackup bool
	// Problem is set by Read when one of the two copies was damaged or out
	// of place: which, where and why. Write ignores it.
	Problem string
}

// Usable gives the bytes [start, end) open to partitions, before alignment.
func (t Table) Usable() (start, end int64) {
	ss := int64(t.sector())
	start = 2*ss + entryCount*entrySize
	return start, t.Size/ss*ss - ss - entryCount*entrySize
}

func (t Table) sector() int {
	if t.SectorSize == 0 {
		return 512
	}
	return t.SectorSize
}

// numbered gives the partitions with Number filled in.
func (t Table) numbered() []Partition {
	parts := slices.Clone(t.Partitions)
	for i := range parts {
		if parts[i].Number == 0 {
			parts[i].Number = i + 1
		}
	}
	return parts
}

// check reports everything that would make the table unsafe to write.
func (t Table) check() error {
	ss := t.sector()
	if ss != 512 && ss != 4096 {
		return fmt.Errorf("sector size %d (want 512 or 4096)", ss)
	}
	if t.Size%int64(ss) != 0 {
		return fmt.Errorf("disk size %d is not a whole number of %d-byte sectors", t.Size, ss)
	}
	start, end := t.Usable()
	if end <= start {
		return fmt.Errorf("disk size %d has no room for a partition (want at least %d)", t.Size, start+t.Size-end+int64(ss))
	}
	if t.DiskGUID.IsZero() {
		return errors.New("disk GUID is zero (want a unique one)")
	}
	align := t.Align
	if align == 0 {
		align = defaultAlign
	}
	if align < 0 || align%int64(ss) != 0 {
		return fmt.Errorf("alignment %d (want a multiple of the %d-byte sector)", align, ss)
	}
	parts := t.numbered()
	var errs []error
	for _, p := range parts {
		if err := p.check(align); err != nil {
			errs = append(errs, fmt.Errorf("partition %d %q: %w", p.Number, p.Name, err))
		}
	}
	return errors.Join(errors.Join(errs...), checkPlaces(parts, int64(ss), start, end), checkUnique(parts))
}

func (p Partition) check(align int64) error {
	switch {
	case p.Number < 1 || p.Number > entryCount:
		return fmt.Errorf("number %d (want 1 to %d)", p.Number, entryCount)
	case p.Type.IsZero():
		return errors.New("type GUID is zero, which marks an unused entry")
	case p.GUID.IsZero():
		return errors.New("GUID is zero (want a unique one)")
	case !utf8.ValidString(p.Name):
		return errors.New("name is not UTF-8")
	case len(utf16.Encode([]rune(p.Name))) > nameUnits:
		return fmt.Errorf("name has %d UTF-16 units (want at most %d)", len(utf16.Encode([]rune(p.Name))), nameUnits)
	case slices.Contains([]byte(p.Name), 0):
		return errors.New("name holds a NUL, which ends a name on disk")
	case p.Start%align != 0:
		return fmt.Errorf("start %d is not a multiple of %d", p.Start, align)
	}
	return nil
}

// checkPlaces holds the partitions to [start, end), whole sectors and no overlap.
func checkPlaces(parts []Partition, sector, start, end int64) error {
	var errs []error
	sorted := slices.SortedFunc(slices.Values(parts), func(a, b Partition) int { return cmp.Compare(a.Start, b.Start) })
	for i, p := range sorted {
		switch {
		case p.Size <= 0 || p.Size%sector != 0 || p.Start%sector != 0:
			errs = append(errs, fmt.Errorf("partition %d %q: start %d, size %d (want whole %d-byte sectors, at least one)", p.Number, p.Name, p.Start, p.Size, sector))
		case p.Start < start || p.Size > end-p.Start:
			errs = append(errs, fmt.Errorf("partition %d %q: start %d, size %d lies outside the usable bytes %d to %d", p.Number, p.Name, p.Start, p.Size, start, end))
		case i > 0 && sorted[i-1].Start+sorted[i-1].Size > p.Start:
			errs = append(errs, fmt.Errorf("partition %d %q starts at %d, inside partition %d %q which ends at %d", p.Number, p.Name, p.Start, sorted[i-1].Number, sorted[i-1].Name, sorted[i-1].End()))
		}
	}
	return errors.Join(errs...)
}

func checkUnique(parts []Partition) error {
	numbers, guids := map[int]bool{}, map[GUID]int{}
	for _, p := range parts {
		if numbers[p.Number] {
			return fmt.Errorf("two partitions have number %d", p.Number)
		}
		numbers[p.Number] = true
		if other, ok := guids[p.GUID]; ok {
			return fmt.Errorf("partitions %d and %d share the GUID %v", other, p.Number, p.GUID)
		}
		guids[p.GUID] = p.Number
	}
	return nil
}
