package fat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// checkName gives the UTF-16 units of a name (MS "Long File Names").
func checkName(name string) ([]uint16, error) {
	if !utf8.ValidString(name) {
		return nil, errors.New("name is not UTF-8")
	}
	if name == "" || name == "." || name == ".." {
		return nil, fmt.Errorf("name %q cannot be stored", name)
	}
	if i := strings.IndexFunc(name, func(r rune) bool { return r < 0x20 || r == 0x7F || strings.ContainsRune(`"*/:<>?\|`, r) }); i >= 0 {
		return nil, fmt.Errorf("character %q in name %q (FAT allows neither control characters nor \"*/:<>?\\|)", []rune(name[i:])[0], name)
	}
	if strings.HasSuffix(name, ".") || strings.HasSuffix(name, " ") {
		return nil, fmt.Errorf("name %q ends in a dot or a space, which drivers drop", name)
	}
	units := utf16.Encode([]rune(name))
	if len(units) > maxUnits {
		return nil, fmt.Errorf("name %q has %d UTF-16 units (want at most %d)", name, len(units), maxUnits)
	}
	return units, nil
}

func isShortChar(c rune) bool {
	return c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c < 0x80 && strings.ContainsRune("$%'-_@~`!(){}^#&", c)
}

// shortParts splits a name into base and extension of a short name (MS "The
// Basis-Name Generation Algorithm"). lossy means that they do not say the whole
// name even but for case, so that a numeric tail must make them unique.
func shortParts(name string) (base, ext string, lossy bool) {
	trimmed := strings.TrimLeft(strings.ReplaceAll(name, " ", ""), ".")
	lossy = trimmed != name
	base = trimmed
	if dot := strings.LastIndexByte(trimmed, '.'); dot >= 0 {
		base, ext = trimmed[:dot], trimmed[dot+1:]
	}
	if dotless := strings.ReplaceAll(base, ".", ""); dotless != base {
		base, lossy = dotless, true
	}
	clean := func(part string, limit int) string {
		out := strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' {
				r -= 'a' - 'A'
			}
			if !isShortChar(r) {
				lossy, r = true, '_'
			}
			return r
		}, part)
		if len(out) > limit {
			out, lossy = out[:limit], true
		}
		return out
	}
	base, ext = clean(base, 8), clean(ext, 3)
	if base == "" {
		base, lossy = "_", true
	}
	return base, ext, lossy
}

func padShort(base, ext string) (s [11]byte) {
	copy(s[:], "           ")
	copy(s[:8], base)
	copy(s[8:], ext)
	return s
}

// isExact reports a name that its short name stores as it is.
func isExact(name string) bool {
	base, ext, lossy := shortParts(name)
	return !lossy && (name == base && ext == "" || ext != "" && name == base+"."+ext)
}

// longEntries is how many directory entries the long name takes.
func longEntries(name string, units []uint16) int {
	if isExact(name) {
		return 0
	}
	return (len(units) + unitsPerEntry - 1) / unitsPerEntry
}

// shortNames gives each child a short name, unique in the directory: first to
// those that keep their own, then numeric tails in the order of the children.
func shortNames(children []*node) {
	taken := make(map[[11]byte]bool, len(children))
	next := map[string]int{}
	var rest []*node
	for _, c := range children {
		if base, ext, lossy := shortParts(c.name); !lossy {
			c.short = padShort(base, ext)
			taken[c.short] = true
		} else {
			rest = append(rest, c)
		}
	}
	for _, c := range rest {
		base, ext, _ := shortParts(c.name)
		basis := base + "." + ext
		for n := next[basis] + 1; ; n++ {
			tail := "~" + strconv.Itoa(n)
			short := padShort(base[:min(len(base), 8-len(tail))]+tail, ext)
			if !taken[short] {
				c.short, taken[short], next[basis] = short, true, n
				break
			}
		}
	}
}

// appendEntry appends the directory entries of a child: its long name, last
// part first, and its short entry (MS "FAT Long Directory Entries").
func appendEntry(b []byte, n *node) []byte {
	sum := checksum(n.short)
	for i := n.longs; i > 0; i-- {
		var e [entrySize]byte
		e[0], e[11], e[13] = byte(i), attrLong, sum
		if i == n.longs {
			e[0] |= lastLong
		}
		for j := range unitsPerEntry {
			binary.LittleEndian.PutUint16(e[longPlace(j):], padded(n.units, (i-1)*unitsPerEntry+j))
		}
		b = append(b, e[:]...)
	}
	attr := byte(attrArchive)
	if n.dir {
		attr = attrDir
	}
	return appendShort(b, n.short, attr, n)
}

// padded is unit i of a name that ends in a zero and is filled with 0xFFFF.
func padded(units []uint16, i int) uint16 {
	switch {
	case i < len(units):
		return units[i]
	case i == len(units):
		return 0
	}
	return 0xFFFF
}

// longPlace is where unit j of a long entry lies: 5 at 1, 6 at 14 and 2 at 28.
func longPlace(j int) int {
	switch {
	case j < 5:
		return 1 + 2*j
	case j < 11:
		return 14 + 2*(j-5)
	}
	return 28 + 2*(j-11)
}

// appendShort appends one short entry (MS "FAT Directory Structure") with the
// times, place and size of n.
func appendShort(b []byte, short [11]byte, attr byte, n *node) []byte {
	le := binary.LittleEndian
	var e [entrySize]byte
	copy(e[:], short[:])
	date, clock, hundredths := stamp(n.mod)
	e[11], e[13] = attr, hundredths
	le.PutUint16(e[14:], clock)
	le.PutUint16(e[16:], date)
	le.PutUint16(e[18:], date)
	le.PutUint16(e[20:], uint16(n.start>>16))
	le.PutUint16(e[22:], clock)
	le.PutUint16(e[24:], date)
	le.PutUint16(e[26:], uint16(n.start))
	le.PutUint32(e[28:], n.size)
	return append(b, e[:]...)
}
