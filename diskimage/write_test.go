package diskimage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestSameBytesForAnyJobs writes a disk to several sinks in one pass with
// different numbers of workers, and holds the digests against the files.
func TestSameBytesForAnyJobs(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	path := rawFile(t, 40<<20+99, put{5000, random(r, 7<<20, true)}, put{20 << 20, random(r, 3<<20, false)},
		put{30 << 20, random(r, 10<<20+99, true)})
	var want []Result
	for _, jobs := range []int{1, 4, 3, 16} {
		src := open(t, path, OpenOptions{Format: Raw})
		files := []*os.File{create(t, "a"), create(t, "b"), create(t, "c"), create(t, "d"), create(t, "e"), create(t, "f"), create(t, "g")}
		last := int64(-1)
		got, err := Write(context.Background(), src, WriteOptions{Jobs: jobs, Progress: func(done, total int64) {
			if done < last || total != src.Size() {
				t.Errorf("progress %d of %d after %d", done, total, last)
			}
			last = done
		}},
			NewRawWriter(files[0], RawOptions{}),
			NewQCOW2Writer(files[1], QCOW2Options{}),
			NewQCOW2Writer(files[2], QCOW2Options{Compression: CompressZstd}),
			NewQCOW2Writer(files[3], QCOW2Options{Compression: CompressNone, ClusterSize: 4096}),
			NewQCOW2Writer(files[4], QCOW2Options{ClusterSize: 1 << 20}),
			NewVHDXWriter(files[5], VHDXOptions{}),
			NewVHDXWriter(files[6], VHDXOptions{Subformat: VHDXFixed, BlockSize: 8 << 20}))
		if err != nil {
			t.Fatal(err)
		}
		if last != src.Size() {
			t.Errorf("progress ended at %d", last)
		}
		for i, f := range files {
			b, err := os.ReadFile(f.Name())
			if err != nil {
				t.Fatal(err)
			}
			if sum := sha256.Sum256(b); got[i].SHA256 != hex.EncodeToString(sum[:]) || got[i].Size != int64(len(b)) {
				t.Errorf("jobs %d, output %d: result %+v is not what the file holds", jobs, i, got[i])
			}
			if want != nil && got[i] != want[i] {
				t.Errorf("jobs %d, output %d: %+v, with one job %+v", jobs, i, got[i], want[i])
			}
		}
		if want == nil {
			want = got
		}
	}
	if b, err := os.ReadFile(path); err != nil || hexSum(b) != want[0].SHA256 {
		t.Errorf("raw output differs from its source (%v)", err)
	}
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// noise is a Disk without holes that counts how far it was read.
type noise struct {
	size int64
	read atomic.Int64
}

func (d *noise) Size() int64                              { return d.size }
func (d *noise) NextData(off int64) (int64, int64, error) { return off, d.size, nil }
func (d *noise) ReadAt(p []byte, off int64) (int, error) {
	x := uint64(off) | 1
	for i := range p {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		p[i] = byte(x)
	}
	d.read.Add(int64(len(p)))
	return len(p), nil
}

func TestCancelStopsPromptly(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	d := &noise{size: 1 << 40}
	time.AfterFunc(100*time.Millisecond, cancel)
	start := time.Now()
	_, err := Write(ctx, d, WriteOptions{}, NewQCOW2Writer(create(t, "out"), QCOW2Options{}), NewRawWriter(create(t, "raw"), RawOptions{}))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("stopped %s after it began", took)
	}
}

// TestCancelWhileHashingAHole covers the one long stretch without data.
func TestCancelWhileHashingAHole(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	src := open(t, rawFile(t, 3<<40, put{3<<40 - 1, []byte{1}}), OpenOptions{Format: Raw})
	start := time.Now()
	_, err := Write(ctx, src, WriteOptions{}, NewRawWriter(create(t, "raw"), RawOptions{}))
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 3*time.Second {
		t.Errorf("got %v after %s", err, time.Since(start))
	}
}

// brokenTarget fails once it has taken some bytes, like a full disk.
type brokenTarget struct {
	*os.File
	left int
}

var errFull = errors.New("no space left")

func (b *brokenTarget) WriteAt(p []byte, off int64) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, errFull
	}
	return b.File.WriteAt(p, off)
}

func TestErrorsReachTheCaller(t *testing.T) {
	src := open(t, rawFile(t, 8<<20, put{0, random(rand.New(rand.NewPCG(1, 1)), 8<<20, false)}), OpenOptions{Format: Raw})
	_, err := Write(context.Background(), src, WriteOptions{},
		NewQCOW2Writer(&brokenTarget{create(t, "x"), 3 << 20}, QCOW2Options{}),
		NewRawWriter(create(t, "y"), RawOptions{}))
	if !errors.Is(err, errFull) || !strings.Contains(err.Error(), "at offset 0x") {
		t.Errorf("full target: %v", err)
	}
	bad := &noiseError{noise{size: 8 << 20}}
	if _, err := Write(context.Background(), bad, WriteOptions{}, NewRawWriter(create(t, "z"), RawOptions{})); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("short read: %v", err)
	}
	for _, o := range []QCOW2Options{{ClusterSize: 3000}, {ClusterSize: 256}, {ClusterSize: 4 << 20}, {Compression: 9}} {
		if _, err := Write(context.Background(), src, WriteOptions{}, NewQCOW2Writer(create(t, "o"), o)); err == nil {
			t.Errorf("options %+v are accepted", o)
		}
	}
	if _, err := Write(context.Background(), src, WriteOptions{}); err == nil {
		t.Error("no sink is accepted")
	}
}

type noiseError struct{ noise }

func (d *noiseError) ReadAt(p []byte, off int64) (int, error) {
	if off > 4<<20 {
		return 0, io.EOF
	}
	return d.noise.ReadAt(p, off)
}

// discard is a Target that keeps nothing but answers reads with zeros.
type discard struct{}

func (discard) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (discard) ReadAt(p []byte, _ int64) (int, error)  { clear(p); return len(p), nil }
func (discard) Truncate(int64) error                   { return nil }

// TestMemoryIsBounded feeds 2 GiB of repeating data to three sinks.
func TestMemoryIsBounded(t *testing.T) {
	d := &stripes{size: 2 << 30}
	var peak uint64
	_, err := Write(context.Background(), d, WriteOptions{Jobs: 8, Progress: func(done, _ int64) {
		if done%(64<<20) == 0 {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapInuse)
		}
	}},
		NewQCOW2Writer(discard{}, QCOW2Options{NoDigest: true}),
		NewQCOW2Writer(discard{}, QCOW2Options{NoDigest: true, Compression: CompressZstd, ClusterSize: 2 << 20}),
		NewQCOW2Writer(discard{}, QCOW2Options{NoDigest: true, Compression: CompressNone}))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("peak heap %d MiB", peak>>20)
	if peak > 256<<20 {
		t.Errorf("peak heap %d MiB, want less than 256", peak>>20)
	}
}

// stripes is a Disk whose content compresses well and quickly.
type stripes struct{ size int64 }

func (d *stripes) Size() int64                              { return d.size }
func (d *stripes) NextData(off int64) (int64, int64, error) { return off, d.size, nil }
func (d *stripes) ReadAt(p []byte, off int64) (int, error) {
	for i := 0; i < len(p); i += 4096 {
		end := min(i+4096, len(p))
		copy(p[i:end], bytes.Repeat([]byte{byte(1 + (off+int64(i))>>12)}, end-i))
	}
	return len(p), nil
}

func TestZerosBecomeHoles(t *testing.T) {
	// A file whose zeros are written out, so that the file system has no hole.
	data := make([]byte, 4<<20)
	data[1<<20] = 1
	src := open(t, rawFile(t, 4<<20, put{0, data}), OpenOptions{Format: Raw})
	raw, q := create(t, "raw"), create(t, "qcow2")
	res, err := Write(context.Background(), src, WriteOptions{}, NewRawWriter(raw, RawOptions{}), NewQCOW2Writer(q, QCOW2Options{}))
	if err != nil {
		t.Fatal(err)
	}
	if want := hexSum(data); res[0].SHA256 != want {
		t.Errorf("raw SHA-256 %s, want %s", res[0].SHA256, want)
	}
	d := open(t, raw.Name(), OpenOptions{Format: Raw})
	if s, e, err := d.NextData(0); err != nil || s != 1<<20 || e != 1<<20+4096 {
		t.Errorf("raw data at %#x to %#x (%v), want one page at 1 MiB", s, e, err)
	}
	if res[1].Size > 7*65536 {
		t.Errorf("qcow2 has %d bytes", res[1].Size)
	}
}
