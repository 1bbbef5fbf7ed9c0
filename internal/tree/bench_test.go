package tree

import (
	"os"
	"testing"
)

// BenchmarkUnpack unpacks a real tree: KLDLOAD_BENCH_TREE names a tar of the
// cache (kldload cache show).
func BenchmarkUnpack(b *testing.B) {
	name := os.Getenv("KLDLOAD_BENCH_TREE")
	if name == "" {
		b.Skip("KLDLOAD_BENCH_TREE is not set")
	}
	for b.Loop() {
		f, err := os.Open(name)
		if err != nil {
			b.Fatal(err)
		}
		dir, err := os.MkdirTemp(".", "bench-*")
		if err != nil {
			b.Fatal(err)
		}
		stats, err := Unpack(f, dir)
		b.SetBytes(stats.Bytes)
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		f.Close()
		os.RemoveAll(dir)
		b.StartTimer()
	}
}
