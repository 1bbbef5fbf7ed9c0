package diskimage

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// overBase is a disk and what is below it.
type overBase struct {
	name       string
	base, disk testDisk
	stored     int64 // bytes of the disk that differ, in clusters of 64 KiB, zeros left out
}

func overBases() []overBase {
	r := rand.New(rand.NewPCG(8, 9))
	text := random(r, 5<<20, true)
	first := put{0, text}
	base := testDisk{"base", 6 << 20, []put{first}}
	changed := put{1<<20 + 5, random(r, 1000, false)}
	zeroed := func(at, n int64) put { return put{at, make([]byte, n)} }
	return []overBase{
		{"same", base, base, 0},
		{"few", base, testDisk{"", 6 << 20, []put{first, changed, {5<<20 + 70000, random(r, 100, true)}}}, 128 << 10},
		{"larger", testDisk{"", 5<<20 - 300, []put{{0, text[:5<<20-300]}}}, testDisk{"", 9 << 20, []put{{0, text[:5<<20-300]}, {8 << 20, text[:100]}}}, 64 << 10},
		{"smaller", base, testDisk{"", 2<<20 + 512, []put{{0, text[:2<<20+512]}, changed}}, 64 << 10},
		{"odd", base, testDisk{"", 2<<20 + 777, []put{{0, text[:2<<20+777]}}}, 64 << 10},
		{"zeroed", base, testDisk{"", 6 << 20, []put{first, zeroed(1<<20, 2<<20), zeroed(4<<20+100, 300)}}, 64 << 10},
		{"emptied", base, testDisk{"", 6 << 20, nil}, 0},
		{"from nothing", testDisk{"", 0, nil}, testDisk{"", 6 << 20, []put{{0, text[:100<<10]}}}, 128 << 10},
		{"sparse", testDisk{"", 3 << 40, []put{{1 << 40, text[:1<<20]}}}, testDisk{"", 3 << 40, []put{{1 << 40, text[:900<<10]}, {2 << 40, text[:512]}}}, 128 << 10},
	}
}

// writeOver writes disk over base with the given options, next to base.
func writeOver(t *testing.T, base string, disk Disk, o QCOW2Options) string {
	t.Helper()
	o.Backing, o.BackingName = open(t, base, OpenOptions{Backing: true, Format: o.BackingFormat}), filepath.Base(base)
	f, err := os.CreateTemp(filepath.Dir(base), "over*.qcow2")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := Write(context.Background(), disk, WriteOptions{}, NewQCOW2Writer(f, o)); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// TestBackingJudgedByQEMU has qemu-img check overlays, compare them through
// their chain with the source, and say what is stored in them.
func TestBackingJudgedByQEMU(t *testing.T) {
	for _, c := range overBases() {
		base, disk := rawFile(t, c.base.size, c.base.puts...), rawFile(t, c.disk.size, c.disk.puts...)
		for _, v := range variants() {
			if v.opts.ClusterSize <= 4096 && c.disk.size > 128<<30 {
				continue // qemu-img compare takes a minute over so many L2 tables, or refuses them
			}
			if v.opts.Compression == CompressZstd && v.opts.ClusterSize != 64<<10 {
				continue // deflate goes the same way
			}
			t.Run(c.name+"/"+v.name, func(t *testing.T) {
				t.Parallel()
				src := open(t, disk, OpenOptions{Format: Raw})
				v.opts.BackingFormat = Raw
				over := writeOver(t, base, src, v.opts)
				qemu(t, "qemu-img", "check", "-f", "qcow2", over)
				qemu(t, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", disk, over)
				sameDisk(t, src, open(t, over, OpenOptions{Backing: true}))
				if n := storedIn(t, over); v.opts.ClusterSize == 64<<10 && n != c.stored {
					t.Errorf("%d bytes are stored in the overlay, want %d", n, c.stored)
				}
			})
		}
	}
}

// storedIn is what qemu-img map finds in the top image, zeros left out and up
// to a whole cluster of 64 KiB at the end.
func storedIn(t *testing.T, path string) int64 {
	t.Helper()
	var runs []struct {
		Start, Length int64
		Depth         int
		Data          bool
	}
	if err := json.Unmarshal([]byte(qemu(t, "qemu-img", "map", "-f", "qcow2", "--output=json", path)), &runs); err != nil {
		t.Fatal(err)
	}
	n := int64(0)
	for _, r := range runs {
		if r.Depth == 0 && r.Data {
			n += ceilDiv(r.Length, 64<<10) * (64 << 10)
		}
	}
	return n
}

// TestBackingLikeConvertB writes an overlay of an overlay and holds its size
// against what qemu-img convert -B makes of the same chain.
func TestBackingLikeConvertB(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	base := rawFile(t, 32<<20, put{0, random(r, 20<<20, true)})
	mid := filepath.Join(filepath.Dir(base), "mid.qcow2")
	top := filepath.Join(filepath.Dir(base), "top.qcow2")
	qemu(t, "qemu-img", "create", "-q", "-f", "qcow2", "-b", "disk.raw", "-F", "raw", mid)
	qemu(t, "qemu-io", "-c", "write -s "+rawFile(t, 3<<20, put{0, random(r, 3<<20, true)})+" 5M 3M", mid)
	qemu(t, "qemu-img", "create", "-q", "-f", "qcow2", "-b", "mid.qcow2", "-F", "qcow2", top)
	qemu(t, "qemu-io", "-c", "write -s "+rawFile(t, 2<<20, put{0, random(r, 2<<20, false)})+" 7M 2M", "-c", "write -z 1M 1M", top)
	for _, kind := range []struct {
		c    Compression
		args []string
	}{{CompressDeflate, []string{"-c"}}, {CompressZstd, []string{"-c", "-o", "compression_type=zstd"}}, {CompressNone, nil}} {
		theirs := filepath.Join(t.TempDir(), "theirs.qcow2")
		args := append([]string{"convert", "-f", "qcow2", "-O", "qcow2", "-B", mid, "-F", "qcow2"}, kind.args...)
		qemu(t, "qemu-img", append(args, top, theirs)...)
		over := writeOver(t, mid, open(t, top, OpenOptions{Backing: true}), QCOW2Options{Compression: kind.c, BackingFormat: QCOW2})
		qemu(t, "qemu-img", "check", "-f", "qcow2", over)
		qemu(t, "qemu-img", "compare", "-f", "qcow2", "-F", "qcow2", top, over)
		ours, want := fileLength(t, over), fileLength(t, theirs)
		if float64(ours) > 1.05*float64(want) {
			t.Errorf("compression %d: %d bytes, qemu-img makes %d", kind.c, ours, want)
		}
		info := qemu(t, "qemu-img", "info", over)
		if !strings.Contains(info, "backing file: mid.qcow2 ") || !strings.Contains(info, "backing file format: qcow2") {
			t.Errorf("qemu-img info: %s", info)
		}
	}
}

func fileLength(t *testing.T, path string) int64 {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}

// watchful is a Sink that wants no block of zeros.
type watchful struct{ t *testing.T }

func (watchful) Begin(int64) error                      { return nil }
func (watchful) Finish(context.Context) (Result, error) { return Result{}, nil }
func (w watchful) Encode(b *Block) (Commit, error) {
	if isZero(b.Data) {
		w.t.Errorf("block at %#x is all zero", b.Offset)
	}
	return nil, nil
}

// TestBackingBesideOthers writes an overlay together with other outputs: those
// are what they are without it, and all are the same for any number of jobs.
func TestBackingBesideOthers(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	text := random(r, 9<<20, true)
	base := rawFile(t, 20<<20, put{0, text}, put{15 << 20, text})
	disk := rawFile(t, 16<<20+100, put{0, text[:5<<20]}, put{8 << 20, text}, put{8<<20 - 512, text[:512]})
	src := open(t, disk, OpenOptions{Format: Raw})
	others := func() []Sink {
		return []Sink{NewRawWriter(create(t, "raw"), RawOptions{}), NewQCOW2Writer(create(t, "full"), QCOW2Options{}), watchful{t}}
	}
	want, err := Write(context.Background(), src, WriteOptions{}, others()...)
	if err != nil {
		t.Fatal(err)
	}
	var alone Result
	for _, jobs := range []int{1, 2, 7} {
		below := open(t, base, OpenOptions{Format: Raw})
		o := QCOW2Options{Backing: below, BackingName: base, BackingFormat: Raw}
		over := create(t, "over")
		if jobs == 1 {
			r, err := Write(context.Background(), src, WriteOptions{Jobs: jobs}, NewQCOW2Writer(create(t, "alone"), o))
			if err != nil {
				t.Fatal(err)
			}
			alone = r[0]
		}
		got, err := Write(context.Background(), src, WriteOptions{Jobs: jobs}, append(others(), NewQCOW2Writer(over, o))...)
		if err != nil {
			t.Fatal(err)
		}
		if got[3] != alone {
			t.Errorf("jobs %d: overlay %+v, alone with one job %+v", jobs, got[3], alone)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("jobs %d, output %d: %+v, without an overlay %+v", jobs, i, got[i], want[i])
			}
		}
		qemu(t, "qemu-img", "check", "-f", "qcow2", over.Name())
		qemu(t, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", disk, over.Name())
	}
}

// TestBackingLeavesEqualUncompressed holds that clusters equal to the backing
// disk's are not compressed.
func TestBackingLeavesEqualUncompressed(t *testing.T) {
	data := random(rand.New(rand.NewPCG(2, 2)), minBlock, true)
	below := rawFile(t, minBlock, put{0, data})
	data[3*64<<10]++
	b := &Block{Data: data, buf: data, codec: newCompressor(), packed: map[packing]*packedClusters{}}
	w := NewQCOW2Writer(create(t, "over"), QCOW2Options{Backing: open(t, below, OpenOptions{Format: Raw}), BackingName: "b", BackingFormat: Raw})
	if err := w.Begin(minBlock); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Encode(b); err != nil {
		t.Fatal(err)
	}
	for i, done := range b.packed[packing{size: 64 << 10}].done {
		if done != (i == 3) {
			t.Errorf("cluster %d: compressed %t", i, done)
		}
	}
	all, err := b.compressed(packing{size: 64 << 10})
	if err != nil || len(all) != 8 || all[0] == nil || all[7] == nil {
		t.Errorf("the rest, asked for later: %d clusters, %v", len(all), err)
	}
}

func TestBackingRefusals(t *testing.T) {
	src := open(t, rawFile(t, 1<<20), OpenOptions{Format: Raw})
	for i, o := range []QCOW2Options{
		{BackingName: "x", BackingFormat: Raw},
		{Backing: src, BackingFormat: Raw},
		{Backing: src, BackingName: "x"},
		{Backing: src, BackingName: "x", BackingFormat: OVA},
		{Backing: src, BackingName: strings.Repeat("x", 1024), BackingFormat: Raw},
		{Backing: src, BackingName: "a\x00b", BackingFormat: Raw},
		{Backing: src, BackingName: strings.Repeat("x", 400), BackingFormat: Raw, ClusterSize: 512},
		{Backing: &noiseError{noise{size: 8 << 20}}, BackingName: "x", BackingFormat: Raw},
		{Backing: brokenExtents{src}, BackingName: "x", BackingFormat: Raw},
	} {
		d := Disk(src)
		if i == 7 {
			d = open(t, rawFile(t, 8<<20), OpenOptions{Format: Raw})
		}
		_, err := Write(context.Background(), d, WriteOptions{}, NewQCOW2Writer(create(t, "o"), o))
		if err == nil || !strings.Contains(err.Error(), "backing file") {
			t.Errorf("case %d: %v", i, err)
		}
	}
	long := strings.Repeat("n", 1023)
	f := create(t, "long")
	o := QCOW2Options{Backing: src, BackingName: long, BackingFormat: VHD, Compression: CompressZstd, ClusterSize: 4096}
	if _, err := Write(context.Background(), src, WriteOptions{}, NewQCOW2Writer(f, o)); err != nil {
		t.Fatal(err)
	}
	_, err := OpenQCOW2(f, fileLength(t, f.Name()), QCOW2ReadOptions{OpenBacking: func(name string, format Format) (Disk, error) {
		if name != long || format != VHD {
			return nil, fmt.Errorf("name %q, format %q", name, format)
		}
		return src, nil
	}})
	if err != nil {
		t.Error(err)
	}
	if info := qemu(t, "qemu-img", "info", "-U", f.Name()); !strings.Contains(info, "backing file format: vpc") {
		t.Errorf("qemu-img info: %s", info)
	}
}

type brokenExtents struct{ Disk }

func (brokenExtents) NextData(int64) (int64, int64, error) { return 0, 0, io.ErrNoProgress }
