package zap

import (
	"fmt"
	"testing"
)

const fatBlock = 1 << fatShift

func numbered(n int) []Entry {
	entries := make([]Entry, n)
	for i := range entries {
		entries[i] = Uint64(fmt.Sprintf("package-file-%07d", i), uint64(i)|8<<60)
	}
	return entries
}

func BenchmarkBuild(b *testing.B) {
	for _, n := range []int{2000, 200_000, 2_000_000} {
		entries := numbered(n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				blocks, _, err := Build(entries, Options{Salt: 1})
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(len(blocks))/float64(n), "B/entry")
			}
		})
	}
}
