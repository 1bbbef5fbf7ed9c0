package gpt

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
)

// GUID in the byte order of the disk: the first three groups of the text form
// are little-endian (UEFI 2.10, appendix A).
type GUID [16]byte

// Partition types. From UEFI 2.10 table 5-7, the Discoverable Partitions
// Specification, and for the ZFS type OpenZFS's libefi (Solaris /usr, which
// OpenZFS writes on whole-disk vdevs).
var (
	TypeESP            = mustGUID("C12A7328-F81F-11D2-BA4B-00A0C93EC93B")
	TypeBIOSBoot       = mustGUID("21686148-6449-6E6F-744E-656564454649")
	TypeLinux          = mustGUID("0FC63DAF-8483-4772-8E79-3D69D8477DE4")
	TypeLinuxRootX8664 = mustGUID("4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709")
	TypeLinuxRootARM64 = mustGUID("B921B045-1DF0-41C3-AF44-4C6F280D3FAE")
	TypeLinuxXBOOTLDR  = mustGUID("BC13C2FF-59E6-4262-A352-B275FD6F7172")
	TypeLinuxSwap      = mustGUID("0657FD6D-A4AB-43C4-84E5-0933C84B4F4F")
	TypeZFS            = mustGUID("6A898CC3-1DD2-11B2-99A6-080020736631")
)

// ParseGUID reads the 36-character text form, in either case.
func ParseGUID(s string) (GUID, error) {
	var g GUID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return g, fmt.Errorf("parsing GUID %q: want the form 01234567-89ab-cdef-0123-456789abcdef", s)
	}
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != len(g) {
		return g, fmt.Errorf("parsing GUID %q: want 32 hexadecimal digits and 4 hyphens", s)
	}
	binary.LittleEndian.PutUint32(g[0:], binary.BigEndian.Uint32(b[0:]))
	binary.LittleEndian.PutUint16(g[4:], binary.BigEndian.Uint16(b[4:]))
	binary.LittleEndian.PutUint16(g[6:], binary.BigEndian.Uint16(b[6:]))
	copy(g[8:], b[8:])
	return g, nil
}

func mustGUID(s string) GUID {
	g, err := ParseGUID(s)
	if err != nil {
		panic(err)
	}
	return g
}

// String gives the text form in upper case, as sgdisk and sfdisk do.
func (g GUID) String() string {
	le := binary.LittleEndian
	return fmt.Sprintf("%08X-%04X-%04X-%X-%X", le.Uint32(g[0:]), le.Uint16(g[4:]), le.Uint16(g[6:]), g[8:10], g[10:])
}

// IsZero reports the all-zero GUID, which marks an unused entry as a type.
func (g GUID) IsZero() bool { return g == GUID{} }

// MarshalText gives String.
func (g GUID) MarshalText() ([]byte, error) { return []byte(g.String()), nil }

// UnmarshalText is ParseGUID.
func (g *GUID) UnmarshalText(text []byte) (err error) {
	*g, err = ParseGUID(string(text))
	return err
}
