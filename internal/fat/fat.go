// Package fat writes and reads FAT12, FAT16 and FAT32 file systems with long
// file names: EFI system partitions and cloud-init seed volumes.
//
// Formats: Microsoft "FAT: General Overview of On-Disk Format" 1.03
// (fatgen103), cited below as MS with its section names; UEFI 2.10 §13.3 takes
// FAT from there.
//
// The writer needs a target that reads as zeros and never writes zeros itself,
// so that a sparse file stays sparse. It lays every file out in one run.
//
// Not supported: exFAT; changing a file system that exists; attributes other
// than directory, archive and (read) read-only; bad-cluster marks; names looked
// up by their short alias; code pages other than 437 in short names.
package fat

import (
	"errors"
	"strings"
	"time"
	"unicode"
)

// Type is the width of the entries of the allocation table.
type Type int

// Auto chooses by size, at the borders MS "FAT Volume Initialization" gives:
// FAT12 below 4 MiB, FAT16 below 512 MiB, FAT32 from there.
const (
	Auto  Type = 0
	FAT12 Type = 12
	FAT16 Type = 16
	FAT32 Type = 32
)

func (t Type) String() string {
	switch t {
	case FAT12:
		return "FAT12"
	case FAT16:
		return "FAT16"
	case FAT32:
		return "FAT32"
	}
	return "automatic"
}

// ErrNoSpace is wrapped by the errors of a volume or directory that is full.
var ErrNoSpace = errors.New("no space")

const (
	entrySize  = 32      // MS "FAT Directory Structure"
	maxEntries = 1 << 16 // and: a directory has at most 65,536 of them
	maxFile    = 1<<32 - 1
	maxDepth   = 128 // folders in a path; bounds what a hostile volume can nest
	media      = 0xF8

	attrReadOnly = 0x01
	attrVolume   = 0x08
	attrDir      = 0x10
	attrArchive  = 0x20
	attrLong     = 0x0F // MS "Long Directory Entries"
	attrLongMask = 0x3F

	lowerBase = 0x08 // DIR_NTRes: Windows NT and Linux note an all-lower short name here
	lowerExt  = 0x10

	lastLong      = 0x40 // LDIR_Ord of the entry that holds the end of the name
	unitsPerEntry = 13
	maxUnits      = 255
)

// limits by type. MS "FAT Type Determination" sets the cluster counts; the
// writer keeps 16 away from the borders, as it advises there, because many
// drivers are off by a few.
func (t Type) limits() (minClusters, maxClusters int64) {
	switch t {
	case FAT12:
		return 1, 4084 - 16
	case FAT16:
		return 4085 + 16, 65524 - 16
	}
	return 65525 + 16, 0x0FFFFFF5 - 16
}

// end is the table entry that closes a chain.
func (t Type) end() uint32 { return uint32(1)<<min(t, 28) - 1 }

// fold gives the form in which names are compared.
func fold(s string) string { return strings.Map(unicode.ToUpper, s) }

// checksum of a short name, stored in its long entries (MS "Long Directory
// Entries", ChkSum).
func checksum(short [11]byte) (sum byte) {
	for _, b := range short {
		sum = sum>>1 | sum<<7
		sum += b
	}
	return sum
}

// stamp gives date, time and tenth-of-second fields (MS "Date and Time
// Formats"), with times outside 1980 to 2107 moved to the nearer end.
func stamp(t time.Time) (date, clock uint16, hundredths byte) {
	t = t.UTC()
	if t.Year() < 1980 {
		t = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	if t.Year() > 2107 {
		t = time.Date(2107, 12, 31, 23, 59, 59, 0, time.UTC)
	}
	date = uint16(t.Year()-1980)<<9 | uint16(t.Month())<<5 | uint16(t.Day())
	clock = uint16(t.Hour())<<11 | uint16(t.Minute())<<5 | uint16(t.Second()/2)
	return date, clock, byte(t.Second()%2*100 + t.Nanosecond()/1e7)
}

// unstamp is the reverse of stamp for the modification time, which has no
// hundredths; a zero date is a zero time.
func unstamp(date, clock uint16) time.Time {
	if date == 0 {
		return time.Time{}
	}
	return time.Date(1980+int(date>>9), time.Month(date>>5&15), int(date&31),
		int(clock>>11), int(clock>>5&63), int(clock&31)*2, 0, time.UTC)
}
