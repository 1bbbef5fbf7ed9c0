package diskimage

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// qemuSame is whether qemu-img finds two raw disks the same.
func qemuSame(t *testing.T, a, b string, args ...string) bool {
	t.Helper()
	args = append([]string{"compare", "-f", "raw", "-F", "raw"}, args...)
	out, err := exec.Command("qemu-img", append(args, a, b)...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		t.Fatalf("qemu-img compare: %v\n%s", err, out)
	}
	return err == nil
}

func TestCompareAgreesWithQEMU(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 22))
	text := random(r, 3<<20, true)
	zero := make([]byte, 1<<20)
	one := []byte{1}
	for _, c := range []struct {
		name   string
		a, b   testDisk
		offset int64 // -1 for none
	}{
		{"empty", testDisk{}, testDisk{}, -1},
		{"same", testDisk{"", 4 << 20, []put{{0, text}}}, testDisk{"", 4 << 20, []put{{0, text}}}, -1},
		{"hole and zeros", testDisk{"", 4 << 20, []put{{0, text}, {3 << 20, zero}}}, testDisk{"", 4 << 20, []put{{0, text}}}, -1},
		{"hole and one byte", testDisk{"", 4 << 20, nil}, testDisk{"", 4 << 20, []put{{2<<20 + 4097, one}}}, 2<<20 + 4097},
		{"first of two", testDisk{"", 8 << 20, []put{{7 << 20, one}, {1<<20 - 1, one}}}, testDisk{"", 8 << 20, nil}, 1<<20 - 1},
		{"last byte", testDisk{"", 3 << 20, []put{{0, text}}}, testDisk{"", 3 << 20, []put{{0, text}, {3<<20 - 1, []byte{^text[3<<20-1]}}}}, 3<<20 - 1},
		{"first byte", testDisk{"", 512, []put{{0, one}}}, testDisk{"", 512, nil}, 0},
		{"odd size", testDisk{"", 1<<20 + 777, []put{{0, text[:1<<20+777]}}}, testDisk{"", 1<<20 + 777, []put{{0, text[:1<<20+777]}}}, -1},
		{"longer with zeros", testDisk{"", 1 << 20, []put{{0, text[:1<<20]}}}, testDisk{"", 3<<20 + 512, []put{{0, text[:1<<20]}, {2 << 20, zero}}}, -1},
		{"longer with data", testDisk{"", 1 << 20, nil}, testDisk{"", 9 << 20, []put{{9<<20 - 1, one}}}, 9<<20 - 1},
		{"3 TiB", testDisk{"", 3 << 40, []put{{1 << 40, text}}}, testDisk{"", 3 << 40, []put{{1 << 40, text}}}, -1},
		{"3 TiB, last byte", testDisk{"", 3 << 40, []put{{1 << 40, text}}}, testDisk{"", 3 << 40, []put{{1 << 40, text}, {3<<40 - 1, one}}}, 3<<40 - 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a, b := rawFile(t, c.a.size, c.a.puts...), rawFile(t, c.b.size, c.b.puts...)
			for _, jobs := range []int{0, 1, 5} {
				da, db := open(t, a, OpenOptions{Format: Raw}), open(t, b, OpenOptions{Format: Raw})
				want := CompareResult{c.offset < 0, c.offset, c.a.size, c.b.size}
				checkCompare(t, da, db, CompareOptions{Jobs: jobs}, want)
				checkCompare(t, db, da, CompareOptions{Jobs: jobs}, CompareResult{want.Identical, want.Offset, c.b.size, c.a.size})
				if c.a.size != c.b.size {
					want.Identical, want.Offset = false, -1
				}
				checkCompare(t, da, db, CompareOptions{Strict: true, Jobs: jobs}, want)
			}
			if same := qemuSame(t, a, b); same != (c.offset < 0) {
				t.Errorf("qemu-img finds them the same: %t", same)
			}
		})
	}
}

func checkCompare(t *testing.T, a, b Disk, o CompareOptions, want CompareResult) {
	t.Helper()
	last := int64(0)
	o.Progress = func(done, total int64) {
		if done < last || done > total {
			t.Errorf("progress %d of %d after %d", done, total, last)
		}
		last = done
	}
	got, err := Compare(context.Background(), a, b, o)
	if err != nil || got != want {
		t.Errorf("Compare with %+v: %+v, %v, want %+v", o, got, err, want)
	}
	if got.Identical && last != max(a.Size(), b.Size()) {
		t.Errorf("progress ended at %d", last)
	}
}

// TestCompareFormats compares a disk with itself in other formats, then with
// one byte changed.
func TestCompareFormats(t *testing.T) {
	r := rand.New(rand.NewPCG(23, 24))
	path := rawFile(t, 24<<20, put{0, random(r, 5<<20, true)}, put{11 << 20, random(r, 3<<20, false)})
	changed := rawFile(t, 24<<20)
	qemu(t, "cp", path, changed)
	qemu(t, "qemu-io", "-f", "raw", "-c", "write -P 0x5a 12345678 1", changed)
	for _, args := range [][]string{{"-c"}, {"-c", "-o", "cluster_size=2M"}, {"-c", "-o", "compression_type=zstd"}, nil} {
		out := filepath.Join(t.TempDir(), "x.qcow2")
		qemu(t, "qemu-img", append(append([]string{"convert", "-f", "raw", "-O", "qcow2"}, args...), path, out)...)
		q := open(t, out, OpenOptions{})
		checkCompare(t, q, open(t, path, OpenOptions{Format: Raw}), CompareOptions{Strict: true}, CompareResult{true, -1, 24 << 20, 24 << 20})
		checkCompare(t, open(t, changed, OpenOptions{Format: Raw}), q, CompareOptions{Strict: true}, CompareResult{false, 12345678, 24 << 20, 24 << 20})
	}
}

func TestCompareErrors(t *testing.T) {
	bad, ok := &noiseError{noise{size: 8 << 20}}, &noise{size: 8 << 20}
	if _, err := Compare(context.Background(), ok, bad, CompareOptions{}); !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "second disk: reading at offset") {
		t.Errorf("unreadable disk: %v", err)
	}
	if _, err := Compare(context.Background(), brokenExtents{ok}, ok, CompareOptions{}); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("disk without extents: %v", err)
	}
	// A difference before the place that cannot be read is a result.
	for range 20 {
		r, err := Compare(context.Background(), open(t, rawFile(t, 8<<20), OpenOptions{Format: Raw}), bad, CompareOptions{Jobs: 3})
		if err != nil || r.Offset != 0 {
			t.Errorf("difference before an error: %+v, %v", r, err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	huge := &noise{size: 1 << 50}
	if _, err := Compare(ctx, huge, huge, CompareOptions{}); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 3*time.Second {
		t.Errorf("cancelled: %v after %s", err, time.Since(start))
	}
}

// BenchmarkCompare compares a compressed image with its source, in turns with
// qemu-img.
func BenchmarkCompare(b *testing.B) {
	path := benchDisk(b)
	for name, args := range map[string][]string{"raw": {"-O", "raw"}, "deflate": {"-c", "-m", "8", "-W", "-O", "qcow2"}} {
		b.Run(name, func(b *testing.B) {
			other := filepath.Join(b.TempDir(), "other")
			qemu(b, "qemu-img", append(append([]string{"convert", "-f", "raw"}, args...), path, other)...)
			pair(b, func() { benchCompare(b, path, other) }, func() { qemu(b, "qemu-img", "compare", "-f", "raw", path, other) })
		})
	}
}

func benchCompare(b *testing.B, x, y string) {
	dx, dy := open(b, x, OpenOptions{Format: Raw}), open(b, y, OpenOptions{})
	if r, err := Compare(context.Background(), dx, dy, CompareOptions{}); err != nil || !r.Identical {
		b.Fatalf("%+v, %v", r, err)
	}
}
