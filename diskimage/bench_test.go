package diskimage

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
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
// turns, with the flags that are its fastest. Compare ns/op with qemu-ns/op and
// bytes with qemu-bytes.
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
	} {
		b.Run(c.name, func(b *testing.B) {
			ours, theirs := filepath.Join(dir, "ours"), filepath.Join(dir, "theirs")
			var qemuTime time.Duration
			for b.Loop() {
				benchOurs(b, path, ours, c.sink)
				b.StopTimer()
				start := time.Now()
				args := append([]string{"convert", "-f", "raw"}, c.qemu...)
				if out, err := exec.Command("qemu-img", append(args, path, theirs)...).CombinedOutput(); err != nil {
					b.Fatalf("qemu-img: %v\n%s", err, out)
				}
				qemuTime += time.Since(start)
				b.StartTimer()
			}
			b.ReportMetric(float64(qemuTime)/float64(b.N), "qemu-ns/op")
			b.ReportMetric(fileSize(b, ours), "bytes")
			b.ReportMetric(fileSize(b, theirs), "qemu-bytes")
			os.Remove(ours)
			os.Remove(theirs)
		})
	}
}

func benchOurs(b *testing.B, from, to string, sink func(*os.File) Sink) {
	d, _, err := Open(from, OpenOptions{})
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
	for _, kind := range []string{"zlib", "zstd"} {
		b.Run(kind, func(b *testing.B) {
			dir := b.TempDir()
			from, ours, theirs := filepath.Join(dir, "in.qcow2"), filepath.Join(dir, "ours"), filepath.Join(dir, "theirs")
			qemu(b, "qemu-img", "convert", "-f", "raw", "-c", "-m", "8", "-W", "-O", "qcow2", "-o", "compression_type="+kind, path, from)
			var qemuTime time.Duration
			for b.Loop() {
				benchOurs(b, from, ours, func(f *os.File) Sink { return NewRawWriter(f, RawOptions{NoDigest: true}) })
				b.StopTimer()
				start := time.Now()
				qemu(b, "qemu-img", "convert", "-m", "8", "-W", "-O", "raw", from, theirs)
				qemuTime += time.Since(start)
				b.StartTimer()
			}
			b.ReportMetric(float64(qemuTime)/float64(b.N), "qemu-ns/op")
		})
	}
}
