package deflate

import (
	"bytes"
	"compress/flate"
	"io"
	"math/rand/v2"
	"os"
	"testing"
)

// random gives n bytes that do not compress, or do when text is set.
func random(r *rand.Rand, n int, text bool) []byte {
	b := make([]byte, n)
	words := []string{"kernel ", "module ", "zpool ", "cluster ", "\x00\x00\x00\x00\x00\x00\x00\x00", "debian "}
	for i := 0; i < n; {
		if text {
			i += copy(b[i:], words[r.IntN(len(words))])
			continue
		}
		b[i] = byte(r.Uint32())
		i++
	}
	return b
}

// inputs are what has broken encoders: nothing, less than a match, runs,
// places that come round modulo 65536, skewed counts that make long codes.
func inputs() [][]byte {
	r := rand.New(rand.NewPCG(21, 22))
	in := [][]byte{{}, {1}, []byte("ab"), []byte("abc"), []byte("aaaa"), bytes.Repeat([]byte{0}, 65536),
		bytes.Repeat([]byte("abc"), 30000), random(r, 65536, true), random(r, 65536, false), random(r, 2<<20, true),
		random(r, 200001, false), append(random(r, 70000, false), random(r, 70000, true)...)}
	fibonacci := []byte{}
	for a, b, s := 1, 1, byte(0); len(fibonacci) < 100000; a, b, s = b, a+b, s+1 {
		fibonacci = append(fibonacci, bytes.Repeat([]byte{s * 7}, a)...)
	}
	r.Shuffle(len(fibonacci), func(i, j int) { fibonacci[i], fibonacci[j] = fibonacci[j], fibonacci[i] })
	in = append(in, fibonacci)
	if self, err := os.ReadFile(os.Args[0]); err == nil { // a real program
		in = append(in, self[:min(len(self), 3<<20)])
	}
	return in
}

func TestEncoder(t *testing.T) {
	var e Encoder
	var z Decoder
	for i, in := range inputs() {
		packed := e.Append([]byte("head"), in)
		if !bytes.HasPrefix(packed, []byte("head")) || !bytes.HasSuffix(packed, []byte{0, 0, 0xff, 0xff}) {
			t.Fatalf("input %d: %x … %x", i, packed[:4], packed[len(packed)-4:])
		}
		packed = packed[4:]
		got, err := io.ReadAll(flate.NewReader(bytes.NewReader(packed)))
		if err != nil || !bytes.Equal(got, in) {
			t.Fatalf("input %d: compress/flate: %v, %d of %d bytes", i, err, len(got), len(in))
		}
		out := make([]byte, len(in))
		if _, err := z.Decode(out, packed); err != nil || !bytes.Equal(out, in) {
			t.Fatalf("input %d: Decode: %v", i, err)
		}
		if most := len(in) + len(in)/4096 + 64; len(packed) > most {
			t.Errorf("input %d: %d bytes became %d, want at most %d", i, len(in), len(packed), most)
		}
		if fresh := new(Encoder).Append(nil, in); !bytes.Equal(fresh, packed) {
			t.Errorf("input %d: the encoder's past shows in its output", i)
		}
	}
}

// TestWindow: what is repeated farther away than the window is not found.
func TestWindow(t *testing.T) {
	r := rand.New(rand.NewPCG(23, 24))
	noise := random(r, Window+100, false)
	for at := 100; at < len(noise); at += 100 { // a match now and then keeps the encoder looking
		copy(noise[at:], "........")
	}
	for _, c := range []struct {
		apart int
		found bool
	}{{Window - 100, true}, {Window - 1, true}, {Window, false}, {Window + 100, false}} {
		in := append(bytes.Clone(noise[:c.apart]), noise[:90]...)
		with := len(new(Encoder).Append(nil, in))
		without := len(new(Encoder).Append(nil, noise[:c.apart]))
		if found := with < without+50; found != c.found {
			t.Errorf("90 bytes repeated at distance %d take %d more", c.apart, with-without)
		}
	}
}

// TestSmall: the package's reason to be, on a real program.
func TestSmall(t *testing.T) {
	self, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	var e Encoder
	var out bytes.Buffer
	std, err := flate.NewWriter(&out, 6) // with a window of 32 KiB
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := 0, 0
	for ; len(self) >= 64<<10; self = self[64<<10:] {
		ours += len(e.Append(nil, self[:64<<10]))
		out.Reset()
		std.Reset(&out)
		std.Write(self[:64<<10])
		std.Close()
		theirs += out.Len()
	}
	t.Logf("%d bytes, compress/flate level 6 makes %d: %.3f", ours, theirs, float64(ours)/float64(theirs))
	if float64(ours) > 1.08*float64(theirs) {
		t.Error("want at most 1.08 of it")
	}
}

// FuzzEncoder: whatever goes in comes out, for another decoder and for ours.
func FuzzEncoder(f *testing.F) {
	for _, in := range inputs() {
		f.Add(in[:min(len(in), 5000)], uint8(3))
	}
	var e Encoder
	var z Decoder
	f.Fuzz(func(t *testing.T, in []byte, times uint8) {
		in = bytes.Repeat(in, 1+int(times)%32)
		packed := e.Append(nil, in)
		got, err := io.ReadAll(flate.NewReader(bytes.NewReader(packed)))
		if err != nil || !bytes.Equal(got, in) {
			t.Fatalf("compress/flate: %v, %d of %d bytes", err, len(got), len(in))
		}
		out := make([]byte, len(in))
		if _, err := z.Decode(out, packed); err != nil || !bytes.Equal(out, in) {
			t.Fatalf("Decode: %v", err)
		}
	})
}

// BenchmarkEncode and BenchmarkDecode take the clusters of a real program.
func BenchmarkEncode(b *testing.B) {
	self, err := os.ReadFile(os.Args[0])
	if err != nil {
		b.Fatal(err)
	}
	self = self[:len(self)&^0xffff]
	var e Encoder
	var buf []byte
	b.SetBytes(int64(len(self)))
	for b.Loop() {
		for at := 0; at < len(self); at += 64 << 10 {
			buf = e.Append(buf[:0], self[at:at+64<<10])
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	self, err := os.ReadFile(os.Args[0])
	if err != nil {
		b.Fatal(err)
	}
	self = self[:len(self)&^0xffff]
	var e Encoder
	var packed [][]byte
	for at := 0; at < len(self); at += 64 << 10 {
		packed = append(packed, e.Append(nil, self[at:at+64<<10]))
	}
	var z Decoder
	out := make([]byte, 64<<10)
	b.SetBytes(int64(len(self)))
	for b.Loop() {
		for _, p := range packed {
			if _, err := z.Decode(out, p); err != nil {
				b.Fatal(err)
			}
		}
	}
}
