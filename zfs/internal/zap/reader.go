package zap

import (
	"bytes"
	"fmt"
	"math/bits"
	"strings"
)

// Source gives the blocks of an object.
type Source interface {
	// ReadBlock returns block n, counted from 0, whole; a hole is zeros. The bytes
	// stay unchanged while a ZAP uses them. It is called from as many goroutines as
	// the ZAP is, and not retried.
	ReadBlock(n uint64) ([]byte, error)
}

// ZAP is an open ZAP object. It keeps its first block and is as safe for concurrent
// use as its source.
type ZAP struct {
	src    Source
	first  []byte
	blocks uint64
	micro  bool
	salt   uint64
	len    uint64

	// Fat ZAPs only.
	geo        geometry
	flags      uint64
	norm       bool // names were normalised before they were hashed
	leaves     uint64
	tableBlock uint64 // first block of the external pointer table, 0: embedded
	tableShift uint
}

// Open reads the first block of the object with that block size and size, both in
// bytes. It fails for what is no ZAP, a big-endian one, and one whose header points
// past its size.
func Open(src Source, blockSize int, size int64) (*ZAP, error) {
	if blockSize < 512 || blockSize > 16<<20 || size < int64(blockSize) {
		return nil, fmt.Errorf("opening ZAP: %d bytes in blocks of %d, wanted at least one block of 512 bytes to 16 MiB", size, blockSize)
	}
	z := &ZAP{src: src, blocks: uint64(size) / uint64(blockSize)}
	b, err := z.read(0, blockSize)
	if err != nil {
		return nil, fmt.Errorf("opening ZAP: %w", err)
	}
	z.first = b
	switch t := le.Uint64(b); t {
	case TypeMicro:
		z.openMicro()
	case TypeHeader:
		err = z.openFat()
	case bits.ReverseBytes64(TypeMicro), bits.ReverseBytes64(TypeHeader):
		err = fmt.Errorf("block 0 has type %#x: the pool is big-endian, wanted little-endian", t)
	default:
		err = fmt.Errorf("block 0 has type %#x, wanted %#x (micro) or %#x (fat)", t, uint64(TypeMicro), uint64(TypeHeader))
	}
	if err != nil {
		return nil, fmt.Errorf("opening ZAP: %w", err)
	}
	return z, nil
}

// read returns block n and checks its length.
func (z *ZAP) read(n uint64, size int) ([]byte, error) {
	if n >= z.blocks {
		return nil, fmt.Errorf("block %d: the object has %d", n, z.blocks)
	}
	b, err := z.src.ReadBlock(n)
	if err != nil {
		return nil, fmt.Errorf("block %d: %w", n, err)
	}
	if len(b) != size {
		return nil, fmt.Errorf("block %d has %d bytes, wanted %d", n, len(b), size)
	}
	return b, nil
}

// Len is the number of entries; of a fat ZAP, as its header says.
func (z *ZAP) Len() uint64 { return z.len }

// Micro says whether the ZAP is a micro ZAP.
func (z *ZAP) Micro() bool { return z.micro }

// Binary says whether names are keys of 64-bit words: see [Entry.Key].
func (z *ZAP) Binary() bool { return z.flags&flagUint64Key != 0 }

// Lookup returns the entry with that name, compared byte by byte. Where names are
// normalised it takes as long as a Walk.
func (z *ZAP) Lookup(name string) (Entry, bool, error) {
	var e Entry
	var ok bool
	var err error
	if z.micro {
		e, ok = z.lookupMicro(name)
	} else {
		e, ok, err = z.lookupFat(name)
	}
	if err != nil {
		return Entry{}, false, fmt.Errorf("looking up %q in ZAP: %w", name, err)
	}
	return e, ok, nil
}

// Walk calls f for each entry: a micro ZAP's in the order of its block, a fat one's
// by hash. It ends with f's first error, which it returns as it is, and fails if a
// fat ZAP does not hold what its header and leaves count.
func (z *ZAP) Walk(f func(Entry) error) error {
	if z.micro {
		return z.walkMicro(f)
	}
	return z.walkFat(f)
}

func (z *ZAP) openMicro() {
	z.micro = true
	z.salt = le.Uint64(z.first[8:])
	for at := microHead; at+microEntry <= len(z.first); at += microEntry {
		if z.first[at+14] != 0 {
			z.len++
		}
	}
}

// microAt returns the entry at a place of the block, with an empty name if it is
// free.
func (z *ZAP) microAt(at int) (name []byte, value uint64) {
	p := z.first[at : at+microEntry]
	name, _, _ = bytes.Cut(p[14:], []byte{0})
	return name, le.Uint64(p)
}

func (z *ZAP) lookupMicro(name string) (Entry, bool) {
	for at := microHead; at+microEntry <= len(z.first); at += microEntry {
		if n, v := z.microAt(at); len(n) > 0 && string(n) == name {
			return Uint64(name, v), true
		}
	}
	return Entry{}, false
}

func (z *ZAP) walkMicro(f func(Entry) error) error {
	for at := microHead; at+microEntry <= len(z.first); at += microEntry {
		if n, v := z.microAt(at); len(n) > 0 {
			if err := f(Uint64(string(n), v)); err != nil {
				return err
			}
		}
	}
	return nil
}

// openFat reads zap_phys_t. A table that was being grown (zt_nextblk) is complete
// in its old place.
func (z *ZAP) openFat() error {
	b := z.first
	shift := uint(bits.TrailingZeros(uint(len(b))))
	if len(b) != 1<<shift || shift > 20 { // chunks are numbered in 16 bits
		return fmt.Errorf("fat, in blocks of %d bytes, wanted a power of two of 512 to 1048576", len(b))
	}
	if m := le.Uint64(b[8:]); m != headerMagic {
		return fmt.Errorf("block 0 has magic %#x, wanted %#x", m, uint64(headerMagic))
	}
	z.geo = newGeometry(shift)
	z.leaves = le.Uint64(b[offLeaves:])
	z.len = le.Uint64(b[offEntries:])
	z.salt = le.Uint64(b[offSalt:])
	z.flags = le.Uint64(b[offFlags:])
	z.norm = le.Uint64(b[offNormFlags:]) != 0
	if z.flags&^knownFlags != 0 {
		return fmt.Errorf("block 0 has flags %#x, wanted none but %#x", z.flags, uint64(knownFlags))
	}
	return z.openTable()
}

// openTable checks zt_blk, zt_numblks and zt_shift: an embedded table has no
// blocks and fills half of the header, an external one fills its blocks.
func (z *ZAP) openTable() error {
	start, count := le.Uint64(z.first[offPtrtbl:]), le.Uint64(z.first[offPtrtbl+8:])
	shift := le.Uint64(z.first[offPtrtbl+16:])
	z.tableShift = uint(shift)
	if count == 0 {
		if start != 0 || shift != uint64(z.geo.embeddedShift()) {
			return fmt.Errorf("block 0: embedded pointer table at block %d with 2^%d pointers, wanted block 0 and 2^%d", start, shift, z.geo.embeddedShift())
		}
		return nil
	}
	if shift > hashBits64-2 || shift < uint64(z.geo.shift-3) || count != 1<<(shift-uint64(z.geo.shift-3)) {
		return fmt.Errorf("block 0: pointer table of %d blocks with 2^%d pointers, wanted 2^%d in each block", count, shift, z.geo.shift-3)
	}
	if start == 0 || start >= z.blocks || count > z.blocks-start {
		return fmt.Errorf("block 0: pointer table of %d blocks at block %d, wanted 1 to %d", count, start, z.blocks-1)
	}
	z.tableBlock = start
	return nil
}

// pointers returns the part of the pointer table that holds index i, and the index
// of its first pointer.
func (z *ZAP) pointers(i uint64) (table []byte, first uint64, err error) {
	if z.tableBlock == 0 {
		return z.first[len(z.first)/2:], 0, nil
	}
	n := i >> (z.geo.shift - 3)
	b, err := z.read(z.tableBlock+n, len(z.first))
	if err != nil {
		return nil, 0, fmt.Errorf("pointer table: %w", err)
	}
	return b, n << (z.geo.shift - 3), nil
}

// hash returns the hash of a name: see zap_hash of module/zfs/zap_micro.c.
func (z *ZAP) hash(name string) uint64 {
	if z.flags&flagPreHashed != 0 {
		name += strings.Repeat("\x00", max(0, 8-len(name)))
		return cutHash(be.Uint64([]byte(name[:8])), z.hashBits())
	}
	if z.Binary() { // each word's lowest byte first
		b := []byte(name)
		for i := 0; i+8 <= len(b); i += 8 {
			le.PutUint64(b[i:], be.Uint64(b[i:]))
		}
		name = string(b)
	}
	return cutHash(crc(z.salt, name), z.hashBits())
}

func (z *ZAP) hashBits() uint {
	if z.flags&flagHash64 != 0 {
		return hashBits64
	}
	return hashBits
}

// Key is the name under which a ZAP with binary keys has the key of those words.
func Key(words ...uint64) string {
	b := make([]byte, 0, 8*len(words))
	for _, w := range words {
		b = be.AppendUint64(b, w)
	}
	return string(b)
}
