package diskimage

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// benchDisk is the raw disk named in KLDLOAD_BENCH_DISK, which should hold a
// real system, or 128 MiB of made-up text and noise when that is not set.
func benchDisk(b *testing.B) string {
	if path := os.Getenv("KLDLOAD_BENCH_DISK"); path != "" {
		return path
	}
	r := rand.New(rand.NewPCG(5, 6))
	return rawFile(b, 1<<30, put{1 << 20, random(r, 96<<20, true)}, put{512 << 20, random(r, 32<<20, false)})
}

// BenchmarkWrite writes one disk in each way and has qemu-img do the same, in
// turns, with the flags that are its fastest. The medians to compare are ours-s
// and qemu-s, in seconds. TMPDIR chooses the file system.
func BenchmarkWrite(b *testing.B) {
	path := benchDisk(b)
	dir := b.TempDir()
	for _, c := range []struct {
		name string
		sink func(f *os.File) Sink
		qemu []string
	}{
		{"raw", func(f *os.File) Sink { return NewRawWriter(f, RawOptions{NoDigest: true}) },
			[]string{"-W", "-O", "raw"}},
		{"qcow2", func(f *os.File) Sink {
			return NewQCOW2Writer(f, QCOW2Options{Compression: CompressNone, NoDigest: true})
		}, []string{"-W", "-O", "qcow2"}},
		{"qcow2-sha256", func(f *os.File) Sink { return NewQCOW2Writer(f, QCOW2Options{Compression: CompressNone}) },
			[]string{"-W", "-O", "qcow2"}},
		{"qcow2-deflate", func(f *os.File) Sink { return NewQCOW2Writer(f, QCOW2Options{}) },
			[]string{"-c", "-m", "8", "-W", "-O", "qcow2"}},
		{"qcow2-zstd", func(f *os.File) Sink { return NewQCOW2Writer(f, QCOW2Options{Compression: CompressZstd}) },
			[]string{"-c", "-m", "8", "-W", "-O", "qcow2", "-o", "compression_type=zstd"}},
		{"vhd-fixed", func(f *os.File) Sink { return NewVHDWriter(f, VHDOptions{NoDigest: true}) },
			[]string{"-W", "-O", "vpc", "-o", "subformat=fixed,force_size=on"}},
		{"vhd-dynamic", func(f *os.File) Sink { return NewVHDWriter(f, VHDOptions{Subformat: VHDDynamic, NoDigest: true}) },
			[]string{"-W", "-O", "vpc", "-o", "subformat=dynamic,force_size=on"}},
		{"vmdk-stream", func(f *os.File) Sink { return NewVMDKWriter(f, VMDKOptions{}) },
			[]string{"-m", "8", "-W", "-O", "vmdk", "-o", "subformat=streamOptimized"}},
		{"vmdk-sparse", func(f *os.File) Sink {
			return NewVMDKWriter(f, VMDKOptions{Subformat: VMDKMonolithicSparse, NoDigest: true})
		}, []string{"-W", "-O", "vmdk"}},
		{"vhdx", func(f *os.File) Sink { return NewVHDXWriter(f, VHDXOptions{NoDigest: true}) },
			[]string{"-W", "-O", "vhdx"}},
		{"vhdx-fixed", func(f *os.File) Sink {
			return NewVHDXWriter(f, VHDXOptions{Subformat: VHDXFixed, NoDigest: true})
		}, []string{"-W", "-O", "vhdx", "-o", "subformat=fixed"}},
	} {
		b.Run(c.name, func(b *testing.B) {
			ours, theirs := filepath.Join(dir, "ours"), filepath.Join(dir, "theirs")
			args := append(append([]string{"convert", "-f", "raw"}, c.qemu...), path, theirs)
			pair(b, func() { benchOurs(b, path, ours, c.sink) }, func() { qemu(b, "qemu-img", args...) })
			b.ReportMetric(fileSize(b, ours), "bytes")
			b.ReportMetric(fileSize(b, theirs), "qemu-bytes")
			os.Remove(ours)
			os.Remove(theirs)
		})
	}
}

// pair runs the two in turns and reports the median of each.
func pair(b *testing.B, ours, theirs func()) {
	timed := func(f func()) float64 {
		start := time.Now()
		f()
		return time.Since(start).Seconds()
	}
	var o, q []float64
	for b.Loop() {
		o, q = append(o, timed(ours)), append(q, timed(theirs))
	}
	slices.Sort(o)
	slices.Sort(q)
	b.ReportMetric(o[len(o)/2], "ours-s")
	b.ReportMetric(q[len(q)/2], "qemu-s")
	b.ReportMetric(0, "ns/op") // the two together: says nothing
}

func benchOurs(b *testing.B, from, to string, sink func(*os.File) Sink) {
	d, err := Open(from, OpenOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	f, err := os.Create(to)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if _, err := Write(context.Background(), d, WriteOptions{}, sink(f)); err != nil {
		b.Fatal(err)
	}
}

func fileSize(b *testing.B, path string) float64 {
	st, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	return float64(st.Size())
}

// BenchmarkRead reads a compressed image that qemu-img made back to raw, in
// turns with qemu-img.
func BenchmarkRead(b *testing.B) {
	path := benchDisk(b)
	for kind, args := range map[string][]string{
		"zlib": {"-c", "-O", "qcow2", "-o", "compression_type=zlib"},
		"zstd": {"-c", "-O", "qcow2", "-o", "compression_type=zstd"},
		"vmdk": {"-O", "vmdk", "-o", "subformat=streamOptimized"},
	} {
		b.Run(kind, func(b *testing.B) {
			dir := b.TempDir()
			from, ours, theirs := filepath.Join(dir, "in"), filepath.Join(dir, "ours"), filepath.Join(dir, "theirs")
			qemu(b, "qemu-img", append(append([]string{"convert", "-f", "raw", "-m", "8", "-W"}, args...), path, from)...)
			pair(b, func() {
				benchOurs(b, from, ours, func(f *os.File) Sink { return NewRawWriter(f, RawOptions{NoDigest: true}) })
			}, func() { qemu(b, "qemu-img", "convert", "-m", "8", "-W", "-O", "raw", from, theirs) })
		})
	}
}
