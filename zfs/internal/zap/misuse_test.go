package zap

import (
	"fmt"
	"strings"
	"testing"
)

func TestBuildRefuses(t *testing.T) {
	many := Uint64("x", 0)
	for _, c := range []struct {
		name    string
		entries []Entry
		want    string
	}{
		{"no value", []Entry{{Name: "a"}}, `ZAP entry "a" has no value`},
		{"empty value", []Entry{Uint64s("a", nil)}, "value of 0 bytes, wanted 1 to 8192"},
		{"large value", []Entry{Bytes("a", make([]byte, 8193))}, "value of 8193 bytes"},
		{"no name", []Entry{Uint64("", 1)}, "name of 0 bytes, wanted 1 to 255"},
		{"long name", []Entry{Uint64(strings.Repeat("n", 256), 1)}, "name of 256 bytes"},
		{"NUL", []Entry{Uint64("a\x00", 1)}, "NUL in the name"},
		{"twice", []Entry{Uint64("b", 1), many, Uint64("b", 2)}, `"b" is there twice`},
		{"one hash", colliding(200, hashBits), "hashes alike in 28 bits"},
		{"nearly one hash", append(colliding(130, hashBits-1), String("s", "")), "hashes alike in 26 bits"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, _, err := Build(c.entries, Options{Salt: 1}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// damage is a change to a block and what Open, Walk or Lookup of "f0" then says.
type damage struct {
	name   string
	change func(b []byte)
	want   string
}

// everything opens b, walks it and looks "f0" up; it returns the first error.
func everything(b []byte, blockSize int) error {
	z, err := Open(memory{b, blockSize}, blockSize, int64(len(b)))
	if err != nil {
		return err
	}
	_, _, err = z.Lookup("f0")
	if werr := z.Walk(func(Entry) error { return nil }); werr != nil {
		return werr
	}
	return err
}

func TestReadRefuses(t *testing.T) {
	geo := newGeometry(fatShift)
	leaf := fatBlock
	chunk := func(i int) int { return leaf + leafHead + 2*geo.buckets + chunkSize*i }
	set16 := func(at int, v uint16) func([]byte) { return func(b []byte) { le.PutUint16(b[at:], v) } }
	set64 := func(at int, v uint64) func([]byte) { return func(b []byte) { le.PutUint64(b[at:], v) } }
	for _, c := range []damage{
		{"no ZAP", set64(0, 7), "block 0 has type 0x7, wanted 0x8000000000000003 (micro)"},
		{"big-endian", set64(0, 0x0100000000000080), "the pool is big-endian"},
		{"magic", set64(8, 1), "block 0 has magic 0x1, wanted 0x2f52ab2ab"},
		{"flags", set64(offFlags, 8), "flags 0x8"},
		{"embedded shift", set64(offPtrtbl+16, 11), "embedded pointer table at block 0 with 2^11"},
		{"external shift", set64(offPtrtbl+8, 3), "pointer table of 3 blocks with 2^10 pointers"},
		{"external far", func(b []byte) {
			le.PutUint64(b[offPtrtbl:], 2)
			le.PutUint64(b[offPtrtbl+8:], 1)
			le.PutUint64(b[offPtrtbl+16:], 11)
		}, "pointer table of 1 blocks at block 2, wanted 1 to 1"},
		{"pointer past the end", set64(fatBlock/2, 9), "leaf of pointer 0: block 9: the object has 2"},
		{"pointer to the header", set64(fatBlock/2, 0), "block 0 of pointer 0 has type"},
		{"pointers at odds", set64(fatBlock/2+80, 0), "pointer 10 leads to block 0, wanted 1"},
		{"leaf type", set64(leaf, 0), "wanted a leaf's"},
		{"prefix", set64(leaf+16, 1), "leaf with prefix 0x1 of 0 bits"},
		{"prefix length", set16(leaf+32, 99), "of 99 bits"},
		{"leaf count", set64(offLeaves, 2), "1 leaves with 3 entries, the header counts 2 and 3"},
		{"count", set64(offEntries, 2), "the header counts 1 and 2"},
		{"entries of the leaf", set16(leaf+30, 7), "3 entries or more in its buckets, its header counts 7"},
		{"fewer entries", set16(leaf+30, 2), "3 entries or more in its buckets, its header counts 2"},
		{"chunk far", set16(chunk(0)+4, 638), "name: byte 0 of 3: block 1: chunk 638 of 638"},
		{"entry as name", set16(chunk(0)+4, 0), "chunk 0 has type 252, wanted 251"},
		{"next is a name", set16(chunk(0)+2, 1), "chunk 1 has type 251, wanted 252"},
		{"loop", func(b []byte) { copy(b[chunk(0)+2:], []byte{0, 0}) }, "chains more than the leaf's 3 entries"},
		{"bucket", func(b []byte) { copy(b[leaf+leafHead:], []byte{0, 0}) }, "entry 0 is in bucket 0, wanted "},
		{"hash", func(b []byte) { b[chunk(0)+20] ^= 0x10 }, `"f0" has hash`},
		{"integers", func(b []byte) { b[chunk(0)+1] = 3 }, "integers of 3 bytes, wanted 1, 2, 4 or 8"},
		{"name without NUL", set16(chunk(0)+6, 2), `name "f0" at chunk 1 ends without NUL`},
		{"no name", set16(chunk(0)+6, 0), "name of 0 bytes"},
		{"long name", set16(chunk(0)+6, 2000), "name of 2000 bytes"},
		{"long value", set16(chunk(0)+10, 60000), "480000 bytes from chunk 2 on"},
		{"short value chain", set16(chunk(0)+10, 4), `value of "f0": byte 21 of 32: block 1: chunk 65535`},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, size := build(t, []Entry{Uint64("f0", 0), Uint64("f1", 1), String("f2", "s")}, 1)
			c.change(b)
			if err := everything(b, size); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestOpenRefusesSizes(t *testing.T) {
	b, _ := build(t, nil, 1)
	for _, c := range []struct {
		blockSize int
		size      int64
	}{{0, 512}, {511, 512}, {32 << 20, 32 << 20}, {512, 511}, {512, -1}, {1024, 1024}} {
		if _, err := Open(memory{b, 512}, c.blockSize, c.size); err == nil {
			t.Errorf("blocks of %d, size %d: no error", c.blockSize, c.size)
		}
	}
	fat := make([]byte, 1536)
	le.PutUint64(fat, TypeHeader)
	if _, err := Open(memory{fat, 1536}, 1536, 1536); err == nil || !strings.Contains(err.Error(), "power of two") {
		t.Errorf("fat in blocks of 1536: %v", err)
	}
}

// A fuzzed object is cut into blocks of 512 bytes to 16 KiB.
func FuzzRead(f *testing.F) {
	micro, _ := build(f, numbered(5), 3)
	f.Add(micro, uint8(0))
	fat, _ := build(f, []Entry{Uint64("f0", 0), Uint16s("layout", []uint16{1, 2}), String("f2", "s")}, 1)
	f.Add(fat, uint8(5))
	f.Add(kernelFile(f, "layouts"), uint8(5))
	f.Add(smallFat(), uint8(0))
	f.Fuzz(func(t *testing.T, b []byte, shift uint8) {
		size := 512 << (shift % 6)
		b = b[:len(b)/size*size]
		z, err := Open(memory{b, size}, size, int64(len(b)))
		if err != nil {
			return
		}
		names := map[string]int{}
		err = z.Walk(func(e Entry) error {
			names[e.Name]++
			_ = fmt.Sprint(e.Integers(), e.Len(), e.Key())
			return nil
		})
		for name, times := range names {
			_, ok, lerr := z.Lookup(name)
			if sound := err == nil && z.flags == 0; sound && (!ok || lerr != nil) {
				t.Fatalf("%q was listed %d times and not found: %v", name, times, lerr)
			}
		}
	})
}

// smallFat is a fat ZAP in blocks of 512 bytes with an external pointer table,
// small enough for a fuzzer: header, table, two leaves without entries.
func smallFat() []byte {
	b := make([]byte, 4*512)
	le.PutUint64(b, TypeHeader)
	le.PutUint64(b[8:], headerMagic)
	for i, v := range []uint64{1, 1, 6, 0, 0, 4, 2, 0, 1} {
		le.PutUint64(b[offPtrtbl+8*i:], v)
	}
	for i := range 64 {
		le.PutUint64(b[512+8*i:], uint64(2+i/32))
	}
	for i := range uint64(2) {
		l := b[1024+512*i:][:512]
		le.PutUint64(l, TypeLeaf)
		le.PutUint64(l[16:], i)
		le.PutUint32(l[24:], leafMagic)
		le.PutUint16(l[32:], 1)
		for j := leafHead; j < leafHead+32; j++ {
			l[j] = 0xff
		}
	}
	return b
}

func TestSmallBlocksWithExternalTable(t *testing.T) {
	z := open(t, smallFat(), 512)
	if got := walk(t, z); len(got) != 0 || z.tableShift != 6 {
		t.Errorf("%v in a table of 2^%d", got, z.tableShift)
	}
	if _, ok, err := z.Lookup("nobody"); ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
}
