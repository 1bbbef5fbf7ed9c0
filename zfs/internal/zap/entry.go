package zap

import (
	"fmt"
	"strings"
)

// Entry is a name and its value: one or more integers of 1, 2, 4 or 8 bytes.
type Entry struct {
	// Name is the name without NUL. In a ZAP with binary keys it is the key's
	// words, big-endian.
	Name string

	intSize uint8
	single  bool   // the value is word alone, of eight bytes
	word    uint64 // only if single
	raw     string // else the value's integers, big-endian
}

// Uint64 makes an entry of one 64-bit integer, the only kind a micro ZAP holds.
func Uint64(name string, v uint64) Entry { return Entry{Name: name, intSize: 8, single: true, word: v} }

// String makes an entry of s with a NUL, in integers of one byte.
func String(name, s string) Entry { return Entry{Name: name, intSize: 1, raw: s + "\x00"} }

// Bytes makes an entry of integers of one byte.
func Bytes(name string, v []byte) Entry { return Entry{Name: name, intSize: 1, raw: string(v)} }

// Uint16s makes an entry of integers of two bytes.
func Uint16s(name string, v []uint16) Entry {
	b := make([]byte, 0, 2*len(v))
	for _, x := range v {
		b = be.AppendUint16(b, x)
	}
	return Entry{Name: name, intSize: 2, raw: string(b)}
}

// Uint32s makes an entry of integers of four bytes.
func Uint32s(name string, v []uint32) Entry {
	b := make([]byte, 0, 4*len(v))
	for _, x := range v {
		b = be.AppendUint32(b, x)
	}
	return Entry{Name: name, intSize: 4, raw: string(b)}
}

// Uint64s makes an entry of integers of eight bytes.
func Uint64s(name string, v []uint64) Entry {
	if len(v) == 1 {
		return Uint64(name, v[0])
	}
	b := make([]byte, 0, 8*len(v))
	for _, x := range v {
		b = be.AppendUint64(b, x)
	}
	return Entry{Name: name, intSize: 8, raw: string(b)}
}

// newEntry is an entry as a leaf has it: raw is big-endian.
func newEntry(name string, intSize uint8, raw []byte) Entry {
	if intSize == 8 && len(raw) == 8 {
		return Uint64(name, be.Uint64(raw))
	}
	return Entry{Name: name, intSize: intSize, raw: string(raw)}
}

// IntSize is the size of the value's integers in bytes: 1, 2, 4 or 8.
func (e Entry) IntSize() int { return int(e.intSize) }

// Len is the number of the value's integers.
func (e Entry) Len() int { return e.size() / int(e.intSize) }

// size is the size of the value in bytes.
func (e Entry) size() int {
	if e.single {
		return 8
	}
	return len(e.raw)
}

// Uint64 returns the value if it is one integer of eight bytes.
func (e Entry) Uint64() (uint64, bool) { return e.word, e.single }

// Text returns the value, without the NUL at its end, if it is of one-byte integers.
func (e Entry) Text() (string, bool) {
	return strings.TrimSuffix(e.raw, "\x00"), e.intSize == 1
}

// Integers returns the value's integers, whatever their size.
func (e Entry) Integers() []uint64 {
	if e.single {
		return []uint64{e.word}
	}
	n := int(e.intSize)
	v := make([]uint64, len(e.raw)/n)
	for i := range e.raw {
		v[i/n] = v[i/n]<<8 | uint64(e.raw[i])
	}
	return v
}

// Bytes returns the value's integers big-endian, as a fat ZAP stores them.
func (e Entry) Bytes() []byte {
	if e.single {
		return be.AppendUint64(nil, e.word)
	}
	return []byte(e.raw)
}

// Key returns the words of a binary key.
func (e Entry) Key() []uint64 {
	v := make([]uint64, len(e.Name)/8)
	for i := range v {
		v[i] = be.Uint64([]byte(e.Name[8*i : 8*i+8]))
	}
	return v
}

// check says why e cannot be written.
func (e *Entry) check() error {
	switch {
	case e.intSize == 0:
		return fmt.Errorf("ZAP entry %q has no value", e.Name)
	case e.Name == "" || len(e.Name) > maxNameWritten:
		return fmt.Errorf("ZAP entry %q: name of %d bytes, wanted 1 to %d", e.Name, len(e.Name), maxNameWritten)
	case strings.IndexByte(e.Name, 0) >= 0:
		return fmt.Errorf("ZAP entry %q: NUL in the name", e.Name)
	case e.size() == 0 || e.size() > maxValue:
		return fmt.Errorf("ZAP entry %q: value of %d bytes, wanted 1 to %d", e.Name, e.size(), maxValue)
	}
	return nil
}

// chunks is the number of leaf chunks e takes: itself, its name with NUL, its value.
func (e *Entry) chunks() int {
	return 1 + chunksFor(len(e.Name)+1) + chunksFor(e.size())
}

func chunksFor(bytes int) int { return (bytes + arrayBytes - 1) / arrayBytes }
