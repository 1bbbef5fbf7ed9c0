package diskimage

import (
	"bytes"
	"hash/adler32"
	"math/rand/v2"
	"testing"
)

func TestAdler(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for _, p := range [][]byte{bytes.Repeat([]byte{0xff}, maxClusterSize), random(r, 64<<10, false), random(r, 64<<10, true)} {
		for _, n := range []int{0, 1, 7, 8, 183, 184, 185, 367, 368, 5552, len(p) - 1, len(p)} {
			if got, want := adler(p[:n]), adler32.Checksum(p[:n]); got != want {
				t.Errorf("%d bytes of %#x: %#08x, want %#08x", n, p[0], got, want)
			}
		}
	}
}

func BenchmarkAdler(b *testing.B) {
	p := random(rand.New(rand.NewPCG(2, 2)), 64<<10, false)
	b.Run("ours", func(b *testing.B) {
		b.SetBytes(int64(len(p)))
		for b.Loop() {
			adler(p)
		}
	})
	b.Run("standard", func(b *testing.B) {
		b.SetBytes(int64(len(p)))
		for b.Loop() {
			adler32.Checksum(p)
		}
	})
}
