package fat

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"
	"unicode/utf16"

	"golang.org/x/text/encoding/charmap"
)

// entry is a file or directory read.
type entry struct {
	name     string
	dir      bool
	readOnly bool
	mod      time.Time
	start    uint32
	size     uint32
	at       int64    // of the short entry on the volume
	children []*entry // by name
	index    map[string]*entry
}

// dirParser takes a directory apart (MS "FAT Directory Structure").
type dirParser struct {
	place    func(int) int64
	root     bool
	entries  []*entry
	label    string
	hasLabel bool
	long     longName
}

func (p *dirParser) parse(b []byte) error {
	for i := 0; i+entrySize <= len(b); i += entrySize {
		e := b[i:][:entrySize]
		attr := e[11] & attrLongMask
		switch {
		case e[0] == 0:
			return nil
		case e[0] == 0xE5:
			p.long = longName{}
		case attr == attrLong:
			p.long.add(e)
		case attr&attrVolume != 0:
			if p.root && !p.hasLabel {
				p.label, p.hasLabel = strings.TrimRight(oem(e[:11]), " "), true
			}
			p.long = longName{}
		case e[0] == '.' && attr&attrDir != 0 && strings.Trim(string(e[:11]), ". ") == "":
			p.long = longName{}
		default:
			if err := p.add(e, p.place(i)); err != nil {
				return err
			}
			p.long = longName{}
		}
	}
	return nil
}

func (p *dirParser) add(e []byte, at int64) error {
	le := binary.LittleEndian
	n := &entry{
		dir: e[11]&attrDir != 0, readOnly: e[11]&attrReadOnly != 0, at: at,
		mod:   unstamp(le.Uint16(e[24:]), le.Uint16(e[22:])),
		start: uint32(le.Uint16(e[20:]))<<16 | uint32(le.Uint16(e[26:])),
		size:  le.Uint32(e[28:]),
	}
	var ok bool
	if n.name, ok = p.long.name([11]byte(e[:11])); !ok {
		n.name = shortName(e)
	}
	if n.name == "" || n.name == "." || n.name == ".." || strings.ContainsAny(n.name, "/\x00") {
		return fmt.Errorf("entry at offset %d has the name %q, which no path can hold", at, n.name)
	}
	p.entries = append(p.entries, n)
	return nil
}

// shortName decodes an 8.3 name with its case flags.
func shortName(e []byte) string {
	raw := [11]byte(e[:11])
	if raw[0] == 0x05 { // MS: stands for 0xE5, which means deleted
		raw[0] = 0xE5
	}
	base, ext := strings.TrimRight(oem(raw[:8]), " "), strings.TrimRight(oem(raw[8:]), " ")
	if e[12]&lowerBase != 0 {
		base = strings.ToLower(base)
	}
	if e[12]&lowerExt != 0 {
		ext = strings.ToLower(ext)
	}
	if ext == "" {
		return base
	}
	return base + "." + ext
}

// oem decodes code page 437, the one of UEFI 2.10 §13.3.1.1 and Linux.
func oem(b []byte) string {
	var s strings.Builder
	for _, c := range b {
		s.WriteRune(charmap.CodePage437.DecodeByte(c))
	}
	return s.String()
}

// longName collects the entries before a short one. It is unusable as soon as
// one is out of place, as drivers that know only short names leave them.
type longName struct {
	units []uint16
	left  int // entries still to come
	sum   byte
}

func (l *longName) add(e []byte) {
	n := int(e[0] &^ lastLong)
	switch {
	case e[0]&lastLong != 0 && n >= 1 && n <= (maxUnits+unitsPerEntry-1)/unitsPerEntry:
		*l = longName{units: make([]uint16, n*unitsPerEntry), left: n, sum: e[13]}
	case e[0]&lastLong != 0 || n == 0 || n != l.left || e[13] != l.sum:
		*l = longName{}
		return
	}
	l.left--
	for j := range unitsPerEntry {
		l.units[l.left*unitsPerEntry+j] = binary.LittleEndian.Uint16(e[longPlace(j):])
	}
}

// name gives the long name when it is whole and belongs to the short one.
func (l *longName) name(short [11]byte) (string, bool) {
	if l.units == nil || l.left != 0 || l.sum != checksum(short) {
		return "", false
	}
	units := l.units
	for i, u := range units {
		if u == 0 {
			units = units[:i]
			break
		}
	}
	return string(utf16.Decode(units)), len(units) > 0 && len(units) <= maxUnits
}
