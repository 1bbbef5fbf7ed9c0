package deflate

import (
	"bytes"
	"compress/flate"
	"io"
	"math/rand/v2"
	"testing"
)

// deflated packs b with the standard library at a level.
func deflated(t testing.TB, b []byte, level int) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, level)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(b)
	w.Close()
	return out.Bytes()
}

func TestInflate(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	inputs := [][]byte{
		{1}, []byte("a"), bytes.Repeat([]byte{7}, 65536), bytes.Repeat([]byte("abc"), 30000),
		random(r, 65536, true), random(r, 65536, false), random(r, 1<<20, true),
		append(random(r, 40000, true), random(r, 70000, false)...),
	}
	skewed := make([]byte, 65536) // long codes: each byte is half as frequent
	for i := range skewed {
		for skewed[i] = 1; r.IntN(2) == 0 && skewed[i] < 250; skewed[i]++ {
		}
	}
	inputs = append(inputs, skewed)
	z := new(Decoder)
	for i, in := range inputs {
		for level := flate.HuffmanOnly; level <= flate.BestCompression; level += 2 {
			packed := deflated(t, in, level)
			out := make([]byte, len(in))
			if n, err := z.Decode(out, packed); err != nil || !bytes.Equal(out, in) {
				t.Fatalf("input %d, level %d: %v after %d bytes", i, level, err, n)
			}
			if at, err := z.Rest(); err != nil || at != len(packed) {
				t.Errorf("input %d, level %d: rest at %d (%v), want %d", i, level, at, err, len(packed))
			}
			if _, err := z.Decode(out[:len(out)/2], packed); err != nil {
				t.Errorf("input %d, level %d, half of it: %v", i, level, err)
			}
			if _, err := z.Rest(); err == nil && len(in) > 0 {
				t.Errorf("input %d, level %d: half of it is all", i, level)
			}
			more := make([]byte, len(in)+1)
			if n, err := z.Decode(more, packed); err != ErrShort || n != len(in) {
				t.Errorf("input %d, level %d: a byte more than there is: %d, %v", i, level, n, err)
			}
			if at, err := z.Rest(); err != nil || at != len(packed) {
				t.Errorf("input %d, level %d, short: rest at %d (%v), want %d", i, level, at, err, len(packed))
			}
			if _, err := z.Decode(out, packed[:len(packed)/2]); err == nil && len(in) > 100 {
				t.Errorf("input %d, level %d: cut stream is taken", i, level)
			}
		}
	}
}

// FuzzInflate holds the inflater against the standard library's: what that one
// unpacks, ours does too, and to the same bytes; what it refuses, ours does.
func FuzzInflate(f *testing.F) {
	r := rand.New(rand.NewPCG(13, 14))
	for level := flate.HuffmanOnly; level <= flate.BestCompression; level += 2 {
		f.Add(deflated(f, random(r, 3000, true), level))
	}
	z := new(Decoder)
	f.Fuzz(func(t *testing.T, in []byte) {
		want, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(in)), 1<<16))
		got := make([]byte, len(want))
		if _, ours := z.Decode(got, in); ours != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes unpack for compress/flate, ours says %v", len(want), ours)
		}
		more := 1
		if err != nil {
			more = 1 << 15 // at an error it drops up to a window of output
		}
		at, rest := z.Rest()
		if whole := err == nil && len(want) < 1<<16; whole && (rest != nil || at > len(in)) {
			t.Fatalf("compress/flate takes it all, ours says %v at %d", rest, at)
		}
		if err != nil || len(want) < 1<<16 {
			if _, ours := z.Decode(make([]byte, len(want)+more), in); ours == nil {
				t.Fatalf("compress/flate stops after %d bytes (%v), ours goes on", len(want), err)
			}
		}
	})
}
