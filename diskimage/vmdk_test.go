package diskimage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var vmdkSubformats = [...]VMDKSubformat{VMDKStreamOptimized, VMDKMonolithicSparse}

// TestVMDKJudgedByQEMU writes each disk in each subformat, lets qemu-img compare
// check it and compare it with the source. The strict reader of vmdk_strict_test.go reads streamOptimized from front to
// back.
func TestVMDKJudgedByQEMU(t *testing.T) {
	for _, disk := range testDisks() {
		path := rawFile(t, disk.size, disk.puts...)
		for _, sub := range vmdkSubformats {
			t.Run(disk.name+"/"+string(sub), func(t *testing.T) {
				t.Parallel()
				src := open(t, path, OpenOptions{Format: Raw})
				f := create(t, "out.vmdk")
				_, err := Write(context.Background(), src, WriteOptions{}, NewVMDKWriter(f, VMDKOptions{Subformat: sub, NoDigest: true}))
				if err != nil {
					t.Fatal(err)
				}
				if disk.size < 1<<40 {
					qemu(t, "qemu-img", "check", "-f", "vmdk", f.Name())
					qemu(t, "qemu-img", "compare", "-f", "raw", "-F", "vmdk", path, f.Name())
				} else {
					compareData(t, disk, f.Name())
				}
				if sub == VMDKStreamOptimized {
					readStrictly(t, f, src)
				}
				ours := open(t, f.Name(), OpenOptions{RefuseRaw: true})
				if disk.size > 0 { // an empty disk gets a sector
					sameDisk(t, src, ours)
				}
				checkClean(t, ours)
			})
		}
	}
}

// readStrictly reads the stream in f and compares its disk with want.
func readStrictly(t *testing.T, f *os.File, want Disk) {
	t.Helper()
	if _, err := f.Seek(0, 0); err != nil {
		t.Fatal(err)
	}
	if err := strictStream(f, want); err != nil {
		t.Fatal(err)
	}
}

// compareData has qemu-img read only where a disk has data: checking and comparing
// 3 TiB takes it half a minute, since its VMDK driver looks at one grain at a time.
func compareData(t *testing.T, disk testDisk, path string) {
	t.Helper()
	for _, p := range disk.puts {
		first, last := p.off/512, ceilDiv(p.off+int64(len(p.data)), 512)
		out := filepath.Join(t.TempDir(), "slice.raw")
		qemu(t, "qemu-img", "dd", "-f", "vmdk", "-O", "raw", "bs=512", fmt.Sprintf("skip=%d", first), fmt.Sprintf("count=%d", last),
			"if="+path, "of="+out)
		got, err := os.ReadFile(out)
		if err != nil || !bytes.Equal(got[p.off%512:][:len(p.data)], p.data) {
			t.Fatalf("qemu-img reads other data at %#x (%v)", p.off, err)
		}
	}
}

// TestReadQEMUsVMDK reads what qemu-img writes, by extents and as a whole.
func TestReadQEMUsVMDK(t *testing.T) {
	for _, disk := range testDisks() {
		if disk.size == 0 || disk.size > 1<<40 {
			continue // qemu-img cannot read the first; for the other see below
		}
		path := rawFile(t, disk.size, disk.puts...)
		for _, sub := range []string{"monolithicSparse", "monolithicFlat", "streamOptimized", "monolithicSparse,zeroed_grain=on"} {
			t.Run(disk.name+"/"+sub, func(t *testing.T) {
				t.Parallel()
				out := filepath.Join(t.TempDir(), "theirs.vmdk")
				qemu(t, "qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat="+sub, path, out)
				theirs := open(t, out, OpenOptions{RefuseRaw: true, Backing: true})
				if want, _, _ := strings.Cut(sub, ","); theirs.Info().Subformat != want {
					t.Errorf("subformat %q, want %q", theirs.Info().Subformat, want)
				}
				sameDisk(t, open(t, path, OpenOptions{Format: Raw}), theirs)
				backToRaw(t, path, theirs)
				checkClean(t, theirs)
			})
		}
	}
}

// checkClean fails when Check finds anything, or Progress is not told the end.
func checkClean(t *testing.T, f *File) {
	t.Helper()
	var last, all int64
	r, err := f.Check(context.Background(), func(done, total int64) { last, all = done, total })
	if err != nil || !r.OK() || last != f.Size() || all != f.Size() {
		t.Fatalf("check: %v, %+v, progress %d of %d", err, r, last, all)
	}
}

// TestReadQEMUsVMDKInParts reads split disks of several files.
func TestReadQEMUsVMDKInParts(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 1))
	disk := testDisk{name: "5GiB", size: 5 << 30, puts: []put{{100, random(r, 70000, true)}, {2<<30 - 100000, random(r, 200000, true)},
		{5<<30 - 5000, random(r, 5000, false)}}}
	path := rawFile(t, disk.size, disk.puts...)
	for _, sub := range []string{"twoGbMaxExtentSparse", "twoGbMaxExtentFlat"} {
		t.Run(sub, func(t *testing.T) {
			t.Parallel()
			out := filepath.Join(t.TempDir(), "theirs.vmdk")
			qemu(t, "qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat="+sub, path, out)
			theirs := open(t, out, OpenOptions{Backing: true})
			sameDisk(t, open(t, path, OpenOptions{Format: Raw}), theirs)
			checkClean(t, theirs)
			if n := len(theirs.Image.(*VMDKDisk).extents); n != 3 {
				t.Errorf("%d extents, want 3", n)
			}
			if _, err := Open(out, OpenOptions{}); !errors.Is(err, ErrUnsupported) {
				t.Errorf("opening extents without leave: %v, want ErrUnsupported", err)
			}
		})
	}
}

// TestReadQEMUsVMDK3TiB reads a disk that qemu-io wrote to in three places.
func TestReadQEMUsVMDK3TiB(t *testing.T) {
	out := filepath.Join(t.TempDir(), "theirs.vmdk")
	qemu(t, "qemu-img", "create", "-q", "-f", "vmdk", out, "3T")
	qemu(t, "qemu-io", "-c", "write -P 5 1000 70k", "-c", "write -P 6 1T 300k", "-c", "write -P 7 3298534883000 328", out)
	theirs := open(t, out, OpenOptions{})
	checkClean(t, theirs)
	for _, want := range []struct {
		off int64
		b   byte
		n   int
	}{{1000, 5, 70 << 10}, {1 << 40, 6, 300 << 10}, {3<<40 - 328, 7, 328}} {
		start, _, err := theirs.NextData(want.off)
		got := make([]byte, want.n)
		if _, rerr := theirs.ReadAt(got, want.off); err != nil || rerr != nil || start != want.off {
			t.Fatalf("at %#x: data from %#x, %v, %v", want.off, start, err, rerr)
		}
		if !bytes.Equal(got, bytes.Repeat([]byte{want.b}, want.n)) {
			t.Errorf("at %#x: other data", want.off)
		}
	}
}

// TestVMDKSameBytes holds size and digest against the file for any number of
// workers, and shows that a stream is written without going back.
func TestVMDKSameBytes(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 9))
	path := rawFile(t, 80<<20+99, put{5000, random(r, 3<<20, true)}, put{33 << 20, random(r, 1<<20, false)}, put{80 << 20, []byte("end")})
	var want []Result
	for _, jobs := range []int{1, 3, 16} {
		files := []*os.File{create(t, "stream"), create(t, "sparse")}
		stream := &forwardTarget{Target: files[0], t: t}
		got, err := Write(context.Background(), open(t, path, OpenOptions{Format: Raw}), WriteOptions{Jobs: jobs},
			NewVMDKWriter(stream, VMDKOptions{}), NewVMDKWriter(files[1], VMDKOptions{Subformat: VMDKMonolithicSparse}))
		if err != nil {
			t.Fatal(err)
		}
		for i, f := range files {
			b, err := os.ReadFile(f.Name())
			if err != nil || got[i] != (Result{VMDK, int64(len(b)), hexSum(b)}) {
				t.Errorf("jobs %d, output %d: result %+v is not what the file holds (%v)", jobs, i, got[i], err)
			}
			if want != nil && got[i] != want[i] {
				t.Errorf("jobs %d, output %d: %+v, with one job %+v", jobs, i, got[i], want[i])
			}
		}
		want = got
	}
}

// forwardTarget is a Target that takes no write but at its end.
type forwardTarget struct {
	Target
	t   *testing.T
	end int64
}

func (f *forwardTarget) WriteAt(p []byte, off int64) (int, error) {
	if off != f.end {
		f.t.Errorf("%d bytes at %#x, the end is %#x", len(p), off, f.end)
	}
	f.end = off + int64(len(p))
	return f.Target.WriteAt(p, off)
}

func (f *forwardTarget) ReadAt([]byte, int64) (int, error) {
	f.t.Error("read back")
	return 0, io.EOF
}

func TestVMDKOptions(t *testing.T) {
	src := open(t, rawFile(t, 1<<20, put{0, []byte{1}}), OpenOptions{Format: Raw})
	for _, o := range []VMDKOptions{{Subformat: "vmfs"}, {AdapterType: "pvscsi"}, {HardwareVersion: -1}, {CID: 0xffffffff},
		{ExtentName: "a\"b"}, {ExtentName: "a\nb"}} {
		if _, err := Write(context.Background(), src, WriteOptions{}, NewVMDKWriter(create(t, "o"), o)); err == nil {
			t.Errorf("options %+v are accepted", o)
		}
	}
	huge := &stripes{size: 300 << 40}
	if _, err := Write(context.Background(), huge, WriteOptions{}, NewVMDKWriter(discard{}, VMDKOptions{})); err == nil {
		t.Error("a disk of 300 TiB is accepted")
	}
	for _, sub := range vmdkSubformats {
		w := NewVMDKWriter(discard{}, VMDKOptions{Subformat: sub})
		if err := w.Begin(3 << 40); err != nil {
			t.Fatal(err)
		}
		if err := w.setGrain(0, 2<<40-512); err != nil {
			t.Error(err)
		}
		if err := w.setGrain(0, 2<<40); err == nil {
			t.Errorf("%s: a grain at 2 TiB of the file is accepted", sub)
		}
	}
	f := create(t, "o.vmdk")
	if _, err := Write(context.Background(), src, WriteOptions{}, NewVMDKWriter(f, VMDKOptions{AdapterType: "ide", HardwareVersion: 17, CID: 0xabc, ExtentName: "x.vmdk"})); err != nil {
		t.Fatal(err)
	}
	want := []Detail{{"CID", "00000abc"}, {"ddb.adapterType", "ide"}, {"ddb.virtualHWVersion", "17"}, {"extents", "1"}}
	if i := open(t, f.Name(), OpenOptions{}).Info(); !slices.Equal(i.Details, want) || i.Compression != "deflate" || i.BlockSize != 64<<10 {
		t.Errorf("info %+v, want details %+v", i, want)
	}
}
