package diskimage

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// qemuCheck is what qemu-img check counts: errors, and leaked clusters.
func qemuCheck(t *testing.T, path string) (corruptions, leaks int64) {
	t.Helper()
	// It exits with 2 for corruptions and 3 for leaks.
	out, err := exec.Command("qemu-img", "check", "-f", "qcow2", "--output", "json", path).Output()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() < 2) {
		t.Fatalf("qemu-img check %s: %v\n%s", path, err, out)
	}
	var r struct{ Corruptions, Leaks int64 }
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("qemu-img check %s: %v\n%s", path, err, out)
	}
	return r.Corruptions, r.Leaks
}

// checkLikeQEMU checks the image and wants the counts of qemu-img.
func checkLikeQEMU(t *testing.T, path string) CheckResult {
	t.Helper()
	d := open(t, path, OpenOptions{Format: QCOW2, Backing: true})
	last, all := int64(0), int64(0)
	r, err := d.Check(context.Background(), func(done, total int64) {
		if done <= last || done > total {
			t.Errorf("progress %d of %d after %d", done, total, last)
		}
		last, all = done, total
	})
	if err != nil {
		t.Fatal(err)
	}
	if last != all {
		t.Errorf("progress ended at %d of %d", last, all)
	}
	corruptions, leaks := qemuCheck(t, path)
	if cs := d.Info().BlockSize; r.Errors != corruptions || r.Leaked != leaks*cs {
		t.Errorf("%d errors, %d bytes leaked; qemu-img has %d, %d: %v", r.Errors, r.Leaked, corruptions, leaks*cs, r.Problems)
	}
	return r
}

// busyImage has data of every kind, two internal snapshots that share some of
// it, and a persistent bitmap.
func busyImage(t *testing.T, options string) string {
	t.Helper()
	r := rand.New(rand.NewPCG(6, 6))
	raw := rawFile(t, 8<<20, put{0, random(r, 2<<20, true)}, put{5 << 20, random(r, 1<<20, false)})
	path := filepath.Join(filepath.Dir(raw), "busy.qcow2")
	qemu(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", "-o", options, raw, path)
	qemu(t, "qemu-img", "snapshot", "-c", "one", path)
	qemu(t, "qemu-io", "-f", "qcow2", "-c", "write -P 3 100k 300k", "-c", "write -z 1M 128k", "-c", "discard 5M 64k", path)
	qemu(t, "qemu-img", "snapshot", "-c", "two", path)
	qemu(t, "qemu-io", "-f", "qcow2", "-c", "write -P 4 200k 1M", path)
	qemu(t, "qemu-img", "bitmap", "--add", path, "dirty")
	qemu(t, "qemu-io", "-f", "qcow2", "-c", "write -P 7 7M 100k", path)
	return path
}

func TestCheckAgreesWithQEMU(t *testing.T) {
	for _, options := range []string{"cluster_size=64k", "cluster_size=4k", "cluster_size=512", "cluster_size=2M",
		"refcount_bits=64", "refcount_bits=32", "refcount_bits=8", "cluster_size=4k,lazy_refcounts=on", "compression_type=zstd"} {
		t.Run(options, func(t *testing.T) {
			t.Parallel()
			path := busyImage(t, options)
			if r := checkLikeQEMU(t, path); !r.OK() || r.Leaked != 0 || r.Used == 0 {
				t.Errorf("result %+v", r)
			}
			qemu(t, "qemu-img", "snapshot", "-d", "one", path)
			checkLikeQEMU(t, path)
		})
	}
	for _, bits := range []string{"1", "2", "4"} { // too narrow for snapshots and small compressed clusters
		t.Run("refcount_bits="+bits, func(t *testing.T) {
			t.Parallel()
			path := rawFile(t, 1<<20, put{0, random(rand.New(rand.NewPCG(1, 1)), 300000, false)})
			out := path + ".qcow2"
			qemu(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=4k,refcount_bits="+bits, path, out)
			checkLikeQEMU(t, out)
		})
	}
}

// TestCheckAfterKill leaves refcounts stale, as a crash with lazy refcounts does.
func TestCheckAfterKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lazy.qcow2")
	qemu(t, "qemu-img", "create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on", path, "8M")
	exec.Command("qemu-io", "-f", "qcow2", "-c", "write -P 1 0 1M", "-c", "write -P 2 3M 1M", "-c", "abort", path).Run()
	if r := checkLikeQEMU(t, path); r.OK() {
		t.Error("stale refcounts are not noticed")
	}
}

// refcountAt is the place in b of the 16-bit refcount of a cluster of 4 KiB.
func refcountAt(b []byte, off int) int {
	table := int(binary.BigEndian.Uint64(b[48:]))
	return int(binary.BigEndian.Uint64(b[table:])) + off/4096*2
}

func refcountOf(where func(b []byte) int, v uint16) change {
	return func(b []byte) []byte { binary.BigEndian.PutUint16(b[refcountAt(b, where(b)):], v); return b }
}

func noiseCluster(b []byte) int {
	return int(binary.BigEndian.Uint64(b[l2At(b)+24:]) & entryOffset)
}

// TestCheckDamage damages an image in ways that leave it readable.
func TestCheckDamage(t *testing.T) {
	both := func(fs ...change) change {
		return func(b []byte) []byte {
			for _, f := range fs {
				b = f(b)
			}
			return b
		}
	}
	for _, c := range []struct {
		name   string
		change change
		ok     bool
		leaked int64
		differ bool // from qemu-img, which does not look or counts twice
	}{
		{"none", func(b []byte) []byte { return b }, true, 0, false},
		{"refcount too low", refcountOf(noiseCluster, 0), false, 0, false},
		{"refcount too high", refcountOf(noiseCluster, 2), false, 4096, false},
		{"refcount of L1 too low", refcountOf(l1At, 0), false, 0, false},
		{"refcount of header too high", refcountOf(func([]byte) int { return 0 }, 9), true, 4096, false},
		{"refcount of L2", refcountOf(l2At, 0), false, 0, false},
		{"leak", inL2(3, value(0)), true, 4096, false},
		{"leaked table", inL1(1, value(0)), true, 8192, false},
		{"copied bit missing", inL2(3, func(b []byte) uint64 { return uint64(noiseCluster(b)) }), false, 0, false},
		{"cluster used twice", inL2(100, func(b []byte) uint64 { return uint64(noiseCluster(b)) | entryCopied }), false, 0, false},
		{"zero cluster with a place", inL2(3, func(b []byte) uint64 { return uint64(noiseCluster(b)) | entryCopied | entryZero }), true, 0, false},
		{"past the end", inL2(100, value(1<<40|entryCopied)), false, 0, false},
		{"reserved bits", inL2(100, value(entryZero|1<<3)), false, 0, false},
		{"unaligned", inL2(100, func(b []byte) uint64 { return uint64(noiseCluster(b)) + 512 }), false, 0, true},
		{"compressed past the end", inL2(100, value(entryCompressed|1<<50)), false, 0, false},
		{"compressed copied", inL2(4, func(b []byte) uint64 { return binary.BigEndian.Uint64(b[l2At(b)+32:]) | entryCopied }), false, 0, false},
		{"data is a table", both(inL2(100, func(b []byte) uint64 { return uint64(l1At(b)) }), refcountOf(l1At, 2)), false, 0, true},
		{"no refcount table", put64(48, 1<<40), false, 0, true},
		{"refcount table unaligned", put64(48, 513), false, 0, true},
		{"refcount table huge", put32(56, 1<<31), false, 0, true},
		{"refcount block past the end", func(b []byte) []byte { return put64(int(binary.BigEndian.Uint64(b[48:])), 1<<40)(b) }, false, 0, true},
		{"refcount block twice", func(b []byte) []byte {
			at := int(binary.BigEndian.Uint64(b[48:]))
			return put64(at+8, binary.BigEndian.Uint64(b[at:]))(b)
		}, false, 0, true},
		{"snapshots past the end", both(put32(60, 3), put64(64, 1<<40)), false, 0, true},
		{"snapshots many", both(put32(60, 1<<31), put64(64, 4096)), false, 0, true},
		{"bitmaps missing", put64(88, 1), false, 0, true},
		{"stream damaged", func(b []byte) []byte {
			m := binary.BigEndian.Uint64(b[l2At(b):]) & (1<<50 - 1)
			copy(b[m:], []byte{0xff, 0xff, 0xff, 0xff})
			return b
		}, false, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "damaged.qcow2")
			if err := os.WriteFile(path, c.change(smallQCOW2(t, CompressDeflate)), 0o600); err != nil {
				t.Fatal(err)
			}
			var r CheckResult
			if c.differ {
				var err error
				if r, err = open(t, path, OpenOptions{}).Check(context.Background(), nil); err != nil {
					t.Fatal(err)
				}
			} else {
				r = checkLikeQEMU(t, path)
			}
			if r.OK() != c.ok || r.Leaked != c.leaked {
				t.Errorf("result %+v, want ok %t and %d bytes leaked", r, c.ok, c.leaked)
			}
			for _, p := range r.Problems {
				t.Log(p)
			}
		})
	}
}

// TestCheckSparse has a header with all a hostile one can claim in a file of
// 8 TiB that takes no place.
func TestCheckSparse(t *testing.T) {
	for name, change := range map[string]change{
		"refcount table": put32(56, 2048), "snapshots": func(b []byte) []byte { return put32(60, 65536)(put64(64, 1<<40)(b)) },
		"L1": func(b []byte) []byte { return put32(36, 4<<20)(put64(40, 1<<30)(b)) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "sparse.qcow2")
			if err := os.WriteFile(path, change(smallQCOW2(t, CompressNone)), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(path, 8<<40); err != nil {
				t.Fatal(err)
			}
			r, err := open(t, path, OpenOptions{}).Check(context.Background(), nil)
			if err != nil && !errors.Is(err, ErrUnsupported) {
				t.Error(err)
			}
			t.Log(r.Errors, r.Leaked, err)
		})
	}
}

// scattered is a file whose L2 tables reference clusters far apart.
type scattered struct {
	head []byte
	cs   int64
}

func (s *scattered) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if off < int64(len(s.head)) {
		copy(p, s.head[off:])
		return len(p), nil
	}
	for i := 0; i+8 <= len(p); i += 8 { // every cluster is full of entries
		binary.BigEndian.PutUint64(p[i:], uint64(off+int64(i))*0x9e3779b9%(1<<44)&^uint64(s.cs-1)|entryCopied)
	}
	return len(p), nil
}

func TestCheckBoundsMemory(t *testing.T) {
	const cs = 64 << 10
	head := make([]byte, 2*cs)
	copy(head, smallQCOW2(t, CompressNone)[:104])
	put32(20, 16)(head)
	put64(24, 1<<40)(head)
	put32(36, 2048)(head)
	put64(40, cs)(head)
	put64(48, 1<<30)(head)
	for i := range 2048 {
		put64(cs+8*i, uint64(1<<32+i*cs))(head)
	}
	d, err := OpenQCOW2(&scattered{head, cs}, 1<<45, QCOW2ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := d.Check(context.Background(), nil)
	if !errors.Is(err, ErrUnsupported) || len(r.Problems) > maxProblems {
		t.Errorf("got %v with %d problems, want a refusal", err, len(r.Problems))
	}
	t.Log(err)
}

func TestCheckCancel(t *testing.T) {
	b := smallQCOW2(t, CompressDeflate)
	d, err := OpenQCOW2(bytes.NewReader(b), int64(len(b)), QCOW2ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := d.Check(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func FuzzCheckQCOW2(f *testing.F) {
	for _, c := range []Compression{CompressDeflate, CompressZstd, CompressNone} {
		f.Add(smallQCOW2(f, c))
	}
	f.Add(put32(60, 2)(put64(64, 4096)(smallQCOW2(f, CompressNone))))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<20 {
			return
		}
		d, err := OpenQCOW2(bytes.NewReader(b), int64(len(b)), QCOW2ReadOptions{})
		if err == nil {
			d.Check(context.Background(), nil)
		}
	})
}

// TestCheckOverlappingSnapshots bounds the work by the file: each of many
// snapshots claims most of it for its L1 table.
func TestCheckOverlappingSnapshots(t *testing.T) {
	path := busyImage(t, "cluster_size=512")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	be := binary.BigEndian
	b = append(b, make([]byte, -len(b)&511)...)
	size, snapshots := len(b), 1000
	be.PutUint32(b[60:], uint32(snapshots))
	be.PutUint64(b[64:], uint64(size))
	for i := range snapshots {
		entry := make([]byte, snapshotFixed)
		be.PutUint64(entry, uint64(i+1)*512)
		be.PutUint32(entry[8:], uint32(size/16))
		b = append(b, entry...)
	}
	d, err := OpenQCOW2(bytes.NewReader(b), int64(len(b)), QCOW2ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c := &qcow2Check{d: d, cs: 512, raw: b[:qcow2HeaderV3], tables: map[int64]uint32{},
		refs: clusterCounts{pages: map[int64]*[countPage]uint16{}}}
	if err := c.snapshots(context.Background()); err != nil {
		t.Fatal(err)
	}
	if c.walked == 0 || c.walked > int64(len(b)) || c.result.Errors < int64(snapshots)-2 {
		t.Errorf("walked %d bytes of a file of %d, %d problems", c.walked, len(b), c.result.Errors)
	}
}
