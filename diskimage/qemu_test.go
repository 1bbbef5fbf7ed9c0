package diskimage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// qemu runs a QEMU tool; without it a test cannot say anything.
func qemu(t testing.TB, tool string, args ...string) string {
	t.Helper()
	out, err := exec.Command(tool, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", tool, args, err, out)
	}
	return string(out)
}

// put is data for a test disk.
type put struct {
	off  int64
	data []byte
}

// rawFile makes a sparse raw file of size with the given data in it.
func rawFile(t testing.TB, size int64, puts ...put) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.raw")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for _, p := range puts {
		if _, err := f.WriteAt(p.data, p.off); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

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

type testDisk struct {
	name string
	size int64
	puts []put
}

// testDisks are the shapes a disk can have that have broken writers before.
func testDisks() []testDisk {
	r := rand.New(rand.NewPCG(1, 2))
	mixed := func(n int) []byte { return append(random(r, n/2, true), random(r, n-n/2, false)...) }
	fragmented := testDisk{name: "fragmented", size: 48 << 20}
	for off := int64(0); off < fragmented.size-16384; off += int64(r.IntN(400 << 10)) {
		fragmented.puts = append(fragmented.puts, put{off, random(r, 1+r.IntN(16384), r.IntN(2) == 0)})
	}
	return []testDisk{
		{"empty", 5 << 20, nil},
		{"nothing", 0, nil},
		{"one-sector", 512, []put{{0, mixed(512)}}},
		{"one-byte", 1, []put{{0, []byte{7}}}},
		{"odd", 3<<20 + 777, []put{{100, mixed(1 << 20)}, {3 << 20, mixed(777)}}},
		{"sector-odd", 1<<20 + 512, []put{{0, mixed(70000)}, {1 << 20, mixed(512)}}},
		{"last-sector", 20 << 20, []put{{20<<20 - 512, mixed(512)}}},
		{"full", 6 << 20, []put{{0, mixed(6 << 20)}}},
		{"text", 9 << 20, []put{{0, random(r, 9<<20, true)}}},
		{"several-l2", 1300 << 20, []put{{0, mixed(200000)}, {512<<20 - 100000, mixed(200000)}, {1299 << 20, mixed(1 << 20)}}},
		fragmented,
		{"3TiB", 3 << 40, []put{{0, mixed(4096)}, {1 << 40, mixed(1 << 20)}, {3<<40 - 512, mixed(512)}}},
	}
}

type variant struct {
	name string
	opts QCOW2Options
}

func variants() []variant {
	var vs []variant
	for _, c := range []struct {
		name string
		c    Compression
	}{{"plain", CompressNone}, {"deflate", CompressDeflate}, {"zstd", CompressZstd}} {
		for _, size := range []int{512, 4096, 64 << 10, 2 << 20} {
			vs = append(vs, variant{fmt.Sprintf("%s-%d", c.name, size), QCOW2Options{Compression: c.c, ClusterSize: size}})
		}
	}
	return vs
}

func create(t testing.TB, name string) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func open(t testing.TB, path string, opts OpenOptions) *File {
	t.Helper()
	d, err := Open(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// TestQCOW2JudgedByQEMU writes each disk in each variant and lets qemu-img
// check it and compare it with the source, then reads it back ourselves.
func TestQCOW2JudgedByQEMU(t *testing.T) {
	for _, disk := range testDisks() {
		path := rawFile(t, disk.size, disk.puts...)
		for _, v := range variants() {
			t.Run(disk.name+"/"+v.name, func(t *testing.T) {
				t.Parallel()
				src := open(t, path, OpenOptions{Format: Raw})
				f := create(t, "out.qcow2")
				v.opts.NoDigest = true
				_, err := Write(context.Background(), src, WriteOptions{}, NewQCOW2Writer(f, v.opts))
				if tooSmall := v.opts.ClusterSize == 512 && disk.size > 128<<30; tooSmall {
					if err == nil {
						t.Fatal("want a refusal: the L1 table is too large for QEMU")
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				qemu(t, "qemu-img", "check", "-f", "qcow2", f.Name())
				qemu(t, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", path, f.Name())
				sameDisk(t, src, open(t, f.Name(), OpenOptions{}))
			})
		}
	}
}

// sameDisk compares two disks where either has data; the second may be longer
// by what rounding up to a sector adds.
func sameDisk(t *testing.T, a, b Disk) {
	t.Helper()
	if b.Size() < a.Size() || b.Size()-a.Size() >= 512 {
		t.Fatalf("size %d, want %d", b.Size(), a.Size())
	}
	for _, walk := range [2]Disk{a, b} {
		for off := int64(0); ; {
			start, end, err := walk.NextData(off)
			if err != nil {
				t.Fatal(err)
			}
			if start >= end {
				break
			}
			end = min(end, start+1<<20)
			x, y := make([]byte, end-start), make([]byte, end-start)
			if _, err := a.ReadAt(x, start); err != nil && err != io.EOF {
				t.Fatal(err)
			}
			if _, err := b.ReadAt(y, start); err != nil && err != io.EOF {
				t.Fatal(err)
			}
			if !bytes.Equal(x, y) {
				t.Fatalf("disks differ between %#x and %#x", start, end)
			}
			off = end
		}
	}
}

// TestReadQEMUs reads what qemu-img writes, by extents and as a whole.
func TestReadQEMUs(t *testing.T) {
	how := map[string][]string{
		"plain":       nil,
		"deflate":     {"-c"},
		"v2":          {"-o", "compat=0.10"},
		"v2-deflate":  {"-c", "-o", "compat=0.10"},
		"zstd":        {"-c", "-o", "compression_type=zstd"},
		"zstd-2M":     {"-c", "-o", "compression_type=zstd,cluster_size=2M"},
		"deflate-4k":  {"-c", "-o", "cluster_size=4k"},
		"deflate-2M":  {"-c", "-o", "cluster_size=2M"},
		"plain-512":   {"-o", "cluster_size=512"},
		"plain-2M":    {"-o", "cluster_size=2M"},
		"prealloc":    {"-o", "preallocation=metadata"},
		"prealloc-4k": {"-o", "preallocation=metadata,cluster_size=4k"}, // an L2 table for each 2 MiB
		"refcount64":  {"-o", "refcount_bits=64"},
		"refcount1":   {"-c", "-o", "refcount_bits=16,lazy_refcounts=on"},
		"deflate-512": {"-c", "-o", "cluster_size=512"},
	}
	for _, disk := range testDisks() {
		if disk.size == 0 || disk.size > 1<<40 {
			continue // qemu-img takes minutes over preallocation; see below
		}
		path := rawFile(t, disk.size, disk.puts...)
		for name, args := range how {
			if strings.HasPrefix(name, "prealloc") && disk.size > 1<<30 {
				continue // qemu-img writes all of it
			}
			t.Run(disk.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				out := filepath.Join(t.TempDir(), "theirs.qcow2")
				args := append([]string{"convert", "-f", "raw", "-O", "qcow2"}, args...)
				qemu(t, "qemu-img", append(args, path, out)...)
				theirs := open(t, out, OpenOptions{RefuseRaw: true})
				sameDisk(t, open(t, path, OpenOptions{Format: Raw}), theirs)
				backToRaw(t, path, theirs)
			})
		}
	}
}

// backToRaw writes d as raw and has qemu-img compare it with want.
func backToRaw(t *testing.T, want string, d Disk) {
	t.Helper()
	f := create(t, "back.raw")
	if _, err := Write(context.Background(), d, WriteOptions{}, NewRawWriter(f, RawOptions{NoDigest: true})); err != nil {
		t.Fatal(err)
	}
	qemu(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", want, f.Name())
}

func TestReadQEMUs3TiB(t *testing.T) {
	disk := testDisks()[len(testDisks())-1]
	path := rawFile(t, disk.size, disk.puts...)
	out := filepath.Join(t.TempDir(), "theirs.qcow2")
	qemu(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", path, out)
	theirs := open(t, out, OpenOptions{})
	sameDisk(t, open(t, path, OpenOptions{Format: Raw}), theirs)
	backToRaw(t, path, theirs)
}

// TestBackingChain builds a chain of three with qemu-io: a short raw base, an
// overlay, and one that zeroes, discards and overwrites what is below.
func TestBackingChain(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	base := rawFile(t, 3<<20+512, put{0, random(r, 3<<20+512, true)})
	dir := filepath.Dir(base)
	mid, top := filepath.Join(dir, "mid.qcow2"), filepath.Join(dir, "top.qcow2")
	qemu(t, "qemu-img", "create", "-q", "-f", "qcow2", "-b", "disk.raw", "-F", "raw", mid, "8M")
	qemu(t, "qemu-io", "-c", "write -P 5 100k 300k", "-c", "write -P 6 6M 10k", "-c", "write -z 2M 128k", mid)
	qemu(t, "qemu-img", "create", "-q", "-f", "qcow2", "-b", mid, "-F", "qcow2", "-o", "cluster_size=4k", top, "9M")
	qemu(t, "qemu-io", "-c", "write -P 9 150k 3k", "-c", "write -z 6M 4k", "-c", "write -P 1 8M 1M", top)
	flat := filepath.Join(dir, "flat.raw")
	qemu(t, "qemu-img", "convert", "-O", "raw", top, flat)

	d := open(t, top, OpenOptions{Backing: true})
	backToRaw(t, flat, d)
	if _, err := Open(top, OpenOptions{}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("opening a chain without leave: %v, want ErrUnsupported", err)
	}
	// A chain that bites its tail.
	qemu(t, "qemu-img", "rebase", "-u", "-b", "top.qcow2", "-F", "qcow2", mid)
	if _, err := Open(top, OpenOptions{Backing: true}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("opening a loop: %v, want ErrCorrupt", err)
	}
}

// imageOf returns the bytes of the image that a sink makes of the raw disk at
// path.
func imageOf(t testing.TB, path string, sink func(f *os.File) Sink) []byte {
	t.Helper()
	f := create(t, "image")
	src, err := Open(path, OpenOptions{Format: Raw})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	if _, err := Write(context.Background(), src, WriteOptions{}, sink(f)); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return b
}
