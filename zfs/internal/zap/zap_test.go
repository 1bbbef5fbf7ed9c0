package zap

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"errors"
	"io"
	mathbits "math/bits"
	"os"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// memory is the blocks of an object one after another.
type memory struct {
	b    []byte
	size int
}

func (m memory) ReadBlock(n uint64) ([]byte, error) {
	if n >= uint64(len(m.b)/m.size) {
		return nil, io.ErrUnexpectedEOF
	}
	return m.b[int(n)*m.size:][:m.size], nil
}

func open(t testing.TB, b []byte, blockSize int) *ZAP {
	t.Helper()
	z, err := Open(memory{b, blockSize}, blockSize, int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func build(t testing.TB, entries []Entry, salt uint64) ([]byte, int) {
	t.Helper()
	b, size, err := Build(entries, Options{Salt: salt})
	if err != nil {
		t.Fatal(err)
	}
	return b, size
}

func walk(t testing.TB, z *ZAP) []Entry {
	t.Helper()
	var out []Entry
	if err := z.Walk(func(e Entry) error { out = append(out, e); return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

func byName(entries []Entry) []Entry {
	return slices.SortedFunc(slices.Values(entries), func(a, b Entry) int { return cmp.Compare(a.Name, b.Name) })
}

func kernelFile(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open("testdata/" + name + ".gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// same compares what Open finds with the entries built, by walk and by name.
func same(t *testing.T, z *ZAP, want []Entry) {
	t.Helper()
	if z.Len() != uint64(len(want)) {
		t.Errorf("%d entries, wanted %d", z.Len(), len(want))
	}
	if diff := gocmp.Diff(byName(want), byName(walk(t, z)), gocmp.AllowUnexported(Entry{})); diff != "" {
		t.Errorf("walk (-want +got):\n%.2000s", diff)
	}
	for _, w := range want {
		e, ok, err := z.Lookup(w.Name)
		if err != nil || !ok || e != w {
			t.Fatalf("lookup of %q: %v, %v, %v", w.Name, e, ok, err)
		}
	}
	for _, name := range []string{"", "nobody", strings.Repeat("n", 300)} {
		if _, ok, err := z.Lookup(name); ok || err != nil {
			t.Errorf("lookup of %q: %v, %v", name, ok, err)
		}
	}
}

func TestMicroGrowsToFat(t *testing.T) {
	short, long := strings.Repeat("s", 49), strings.Repeat("l", 50)
	for _, c := range []struct {
		name      string
		entries   []Entry
		blockSize int
		blocks    int
	}{
		{"empty", nil, 512, 1},
		{"one block", numbered(7), 512, 1},
		{"two sectors", numbered(8), 1024, 1},
		{"fullest micro", numbered(2047), 128 << 10, 1},
		{"fat", numbered(2048), fatBlock, 17},
		{"longest micro name", []Entry{Uint64(short, 1)}, 512, 1},
		{"longer name", []Entry{Uint64(long, 1)}, fatBlock, 2},
		{"text", []Entry{String("mountpoint", "/"), Uint64("canmount", 2)}, fatBlock, 2},
		{"words", []Entry{Uint64s("refcounts", []uint64{1, 2})}, fatBlock, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, size := build(t, c.entries, 42)
			if size != c.blockSize || len(b) != size*c.blocks {
				t.Errorf("%d bytes in blocks of %d, wanted %d of %d", len(b), size, c.blocks, c.blockSize)
			}
			z := open(t, b, size)
			if z.Micro() != (c.blocks == 1) || z.Binary() {
				t.Errorf("micro %v, binary %v", z.Micro(), z.Binary())
			}
			same(t, z, c.entries)
		})
	}
}

func TestValuesComeBack(t *testing.T) {
	words := make([]uint64, maxValue/8)
	for i := range words {
		words[i] = uint64(i) << 40
	}
	entries := []Entry{
		Uint64("u64", 1<<63), Uint64s("u64s", words), Uint32s("u32s", []uint32{1, 1 << 31}),
		Uint16s("layout", []uint16{5, 6, 65535}), Bytes("raw", []byte{0, 1, 0}),
		String("empty", ""), String("text", strings.Repeat("x", 100)),
		Uint64(strings.Repeat("\xff\n", 127)+"n", 3),
	}
	b, size := build(t, entries, 1)
	z := open(t, b, size)
	same(t, z, entries)
	got := map[string]Entry{}
	for _, e := range walk(t, z) {
		got[e.Name] = e
	}
	if s, ok := got["text"].Text(); !ok || s != strings.Repeat("x", 100) {
		t.Errorf("text %q, %v", s, ok)
	}
	if v := got["layout"].Integers(); !slices.Equal(v, []uint64{5, 6, 65535}) || got["layout"].IntSize() != 2 || got["layout"].Len() != 3 {
		t.Errorf("layout %v", got["layout"])
	}
	if !slices.Equal(got["u64s"].Integers(), words) {
		t.Error("words differ")
	}
	if v, ok := got["u64"].Uint64(); v != 1<<63 || !ok || !slices.Equal(got["u64"].Integers(), []uint64{v}) || !bytes.Equal(got["u64"].Bytes(), []byte{0x80, 0, 0, 0, 0, 0, 0, 0}) {
		t.Errorf("u64 %v", got["u64"])
	}
	if _, ok := got["layout"].Uint64(); ok {
		t.Error("layout is no uint64")
	}
	if !bytes.Equal(got["raw"].Bytes(), []byte{0, 1, 0}) {
		t.Errorf("raw %v", got["raw"])
	}
}

// 300,000 names need an external pointer table: 2^11 pointers or more.
func TestExternalPointerTable(t *testing.T) {
	entries := numbered(300_000)
	b, size := build(t, entries, 0xfeed)
	z := open(t, b, size)
	if z.tableBlock != 1 || z.tableShift < 11 {
		t.Fatalf("table at block %d with 2^%d pointers", z.tableBlock, z.tableShift)
	}
	var used int
	for i := range entries {
		used += entries[i].chunks() * chunkSize
	}
	if len(b) > 2*used {
		t.Errorf("%d bytes for %d bytes of chunks", len(b), used)
	}
	count := 0
	if err := z.Walk(func(e Entry) error { count++; return nil }); err != nil || count != len(entries) {
		t.Errorf("%d entries, %v", count, err)
	}
	for i := 0; i < len(entries); i += 97 {
		if e, ok, err := z.Lookup(entries[i].Name); e != entries[i] || !ok || err != nil {
			t.Fatalf("lookup of %q: %v %v", entries[i].Name, ok, err)
		}
	}
}

func TestBuildIsTheSameTwice(t *testing.T) {
	for _, n := range []int{100, 5000} {
		a, _ := build(t, numbered(n), 9)
		b, _ := build(t, numbered(n), 9)
		if !bytes.Equal(a, b) {
			t.Errorf("%d entries: the bytes differ", n)
		}
		if c, _ := build(t, numbered(n), 11); bytes.Equal(a, c) {
			t.Errorf("%d entries: the salt changes nothing", n)
		}
	}
}

// colliding returns n names alike in the first bits of their hashes, whatever the
// salt. A CRC is linear: changing one letter changes it in the same bits each time,
// so that sets of letters are found by elimination whose changes cancel out.
func colliding(n int, bits uint) []Entry {
	base := []byte(strings.Repeat("a", 49))
	first := crc(0, string(base)) >> (64 - bits)
	pivots := map[uint64][2]uint64{} // by highest bit: change, letters
	var sets []uint64
	for i := range base {
		base[i] ^= 1
		change, letters := crc(0, string(base))>>(64-bits)^first, uint64(1)<<i
		base[i] ^= 1
		for change != 0 {
			p, ok := pivots[uint64(mathbits.Len64(change))]
			if !ok {
				pivots[uint64(mathbits.Len64(change))] = [2]uint64{change, letters}
				break
			}
			change, letters = change^p[0], letters^p[1]
		}
		if change == 0 {
			sets = append(sets, letters)
		}
	}
	out := make([]Entry, n)
	for k := range out {
		name := slices.Clone(base)
		for j, letters := range sets {
			for i := range name {
				name[i] ^= byte(k>>j&1) & byte(letters>>i&1)
			}
		}
		out[k] = Uint64(string(name), uint64(k))
	}
	return out
}

func TestCollisionsAreNumbered(t *testing.T) {
	twins := colliding(3, hashBits)
	b, size := build(t, twins, 1)
	same(t, open(t, b, size), twins)
	for i := range twins {
		if cd := le.Uint32(b[microHead+microEntry*i+8:]); cd != uint32(i) {
			t.Errorf("micro: entry %d has differentiator %d", i, cd)
		}
	}
	fat := append(twins, Uint64(strings.Repeat("l", 50), 0))
	b, size = build(t, fat, 1)
	z := open(t, b, size)
	same(t, z, fat)
	for _, e := range kernelOrder(z.src.(memory), 1) {
		if i := slices.Index(twins, e.Entry); i >= 0 && e.cd != uint32(i) {
			t.Errorf("fat: entry %d has differentiator %d", i, e.cd)
		}
	}
}

type numberedEntry struct {
	Entry
	cd uint32
}

// kernelOrder returns a leaf's entries by chunk, which is the order they were added
// in if none was ever removed.
func kernelOrder(m memory, block uint64) []numberedEntry {
	b, _ := m.ReadBlock(block)
	l := leafReader{b: b, geo: newGeometry(fatShift), prefix: le.Uint64(b[16:]), prefixLen: uint(b[32])}
	var out []numberedEntry
	for i := range l.geo.chunks {
		if e, err := l.entry(uint16(i)); err == nil {
			name, _ := l.name(e)
			entry, _ := l.value(name, e)
			c, _ := l.chunk(uint16(i), chunkEntry)
			out = append(out, numberedEntry{entry, le.Uint32(c[12:])})
		}
	}
	return out
}

func TestUnevenHashes(t *testing.T) {
	entries := append(colliding(600, 15), numbered(3000)...)
	b, size := build(t, entries, 1)
	z := open(t, b, size)
	if z.tableShift < 11 {
		t.Errorf("table of 2^%d pointers: the test wants an external one", z.tableShift)
	}
	same(t, z, entries)
}

// The objects were written by OpenZFS 2.1.11: a table of a few entries comes out
// byte for byte when built anew from them in their order.
func TestKernelsBytesComeOutAlike(t *testing.T) {
	micro := kernelFile(t, "micro")
	z := open(t, micro, len(micro))
	if got, size := build(t, walk(t, z), z.salt); size != len(micro) || !bytes.Equal(got, micro) {
		t.Errorf("micro: %d bytes of %d, or they differ", size, len(micro))
	}
	for _, name := range []string{"layouts", "object-directory"} {
		want := kernelFile(t, name)
		z := open(t, want, fatBlock)
		var entries []Entry
		for _, e := range kernelOrder(z.src.(memory), 1) {
			entries = append(entries, e.Entry)
		}
		same(t, z, entries)
		got, _ := build(t, entries, z.salt)
		if !bytes.Equal(got[:fatBlock], want[:fatBlock]) {
			t.Errorf("%s: headers differ", name)
		}
		if !bytes.Equal(got[fatBlock:], want[fatBlock:]) {
			t.Errorf("%s: leaves differ", name)
		}
	}
}

func TestKernelsDirectory(t *testing.T) {
	b := kernelFile(t, "directory")
	z := open(t, b, fatBlock)
	entries := walk(t, z)
	if len(entries) != 3000 || z.Micro() {
		t.Fatalf("%d entries, micro %v", len(entries), z.Micro())
	}
	const name = "a_rather_long_file_name_that_is_more_than_fifty_characters_2840"
	// A regular file (8) with object number 2987, as zdb prints it.
	if e, ok, err := z.Lookup(name); err != nil || !ok || e != Uint64(name, 8<<60|2987) {
		t.Errorf("lookup of %q: %v, %v, %v", name, e, ok, err)
	}
	same(t, z, entries)
	again, size := build(t, entries, z.salt)
	same(t, open(t, again, size), entries)
}

func TestWalkEndsWithTheCallersError(t *testing.T) {
	enough := errors.New("enough")
	for _, n := range []int{5, 5000} {
		b, size := build(t, numbered(n), 3)
		count := 0
		err := open(t, b, size).Walk(func(Entry) error {
			count++
			return enough
		})
		if err != enough || count != 1 {
			t.Errorf("%d entries: %v after %d", n, err, count)
		}
	}
}

// Keys of words are hashed from each word's lowest byte on; no writer of ours makes
// them, so a table of names of eight letters is turned into one.
func TestBinaryKeys(t *testing.T) {
	const word = 0x4847464544434241 // "ABCDEFGH", lowest byte first
	b, size := build(t, []Entry{Uint64s("ABCDEFGH", []uint64{1, 2})}, 5)
	le.PutUint64(b[offFlags:], flagUint64Key)
	chunks := b[size+leafHead+2*newGeometry(fatShift).buckets:]
	le.PutUint16(chunks[6:], 1)
	be.PutUint64(chunks[chunkSize+1:], word)
	z := open(t, b, size)
	e, ok, err := z.Lookup(Key(word))
	if err != nil || !ok || !z.Binary() || !slices.Equal(e.Key(), []uint64{word}) {
		t.Errorf("%v, %v, %v", e, ok, err)
	}
	if got := walk(t, z); len(got) != 1 || got[0] != e {
		t.Errorf("walk: %v", got)
	}
	le.PutUint64(b[offFlags:], flagUint64Key|flagPreHashed)
	if z := open(t, b, size); z.hash(Key(1<<63|7, 9)) != 1<<63 || z.hash("") != 0 {
		t.Errorf("pre-hashed key: %#x", z.hash(Key(1<<63|7, 9)))
	}
}

// Where names are normalised the hash is of another name than the one stored.
func TestNormalisedNamesAreFound(t *testing.T) {
	entries := numbered(3000)
	b, size := build(t, entries, 5)
	le.PutUint64(b[offNormFlags:], 1)
	le.PutUint64(b[offSalt:], 7)
	z := open(t, b, size)
	for _, want := range entries[:3] {
		if e, ok, err := z.Lookup(want.Name); e != want || !ok || err != nil {
			t.Errorf("%v, %v, %v", e, ok, err)
		}
	}
	if _, ok, err := z.Lookup("nobody"); ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
}
