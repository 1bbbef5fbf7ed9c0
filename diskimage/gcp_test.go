package diskimage

import (
	"archive/tar"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kldload/kldload/internal/deflate"
)

// writeGCP writes the raw disk at path as an archive.
func writeGCP(t testing.TB, path string, opts GCPOptions) string {
	t.Helper()
	f := create(t, "disk.tar.gz")
	src, err := Open(path, OpenOptions{Format: Raw})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	opts.TempDir = t.TempDir()
	if _, err := Write(context.Background(), src, WriteOptions{}, NewGCPWriter(f, opts)); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(opts.TempDir); err != nil || len(left) != 0 {
		t.Errorf("left in the folder of the spool: %v, %v", left, err)
	}
	return f.Name()
}

// TestGCPJudgedByTar writes each disk and has GNU gzip and tar test, list and
// unpack it; then we read it ourselves.
func TestGCPJudgedByTar(t *testing.T) {
	for _, disk := range testDisks() {
		path := rawFile(t, disk.size, disk.puts...)
		t.Run(disk.name, func(t *testing.T) {
			t.Parallel()
			out := writeGCP(t, path, GCPOptions{Timestamp: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)})
			size := max(1, ceilDiv(disk.size, 1<<30)) << 30
			qemu(t, "gzip", "-t", out)
			want := fmt.Sprintf("-rw-r--r-- 0/0 %d 2026-01-02 disk.raw", size)
			if list := qemu(t, "tar", "--utc", "-tvzf", out); strings.Join(strings.Fields(strings.Replace(list, "03:04 ", "", 1)), " ") != want {
				t.Errorf("tar lists %q, want %q", list, want)
			}
			dir := t.TempDir()
			qemu(t, "tar", "-C", dir, "-xSzf", out)
			raw := filepath.Join(dir, "disk.raw")
			if st, err := os.Stat(raw); err != nil || st.Size() != size || allocated(st) > allocatedAt(t, path)+128<<10*int64(1+len(disk.puts)) {
				t.Errorf("tar makes a file of %d bytes that takes %d, %v", st.Size(), allocated(st), err)
			}
			qemu(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", path, raw)

			judgedByGo(t, out, size)

			d := open(t, out, OpenOptions{RefuseRaw: true, TempDir: dir})
			if i := d.Info(); i.Format != GCP || d.Size() != size {
				t.Errorf("info %+v", i)
			}
			clean(t, d)
			backToRaw(t, path, d)
		})
	}
}

// judgedByGo reads the archive with the standard library, as Google's own tools
// do: one gzip member, one file of size bytes, and a right CRC.
func judgedByGo(t *testing.T, path string, size int64) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	in := bytes.NewReader(b)
	z, err := gzip.NewReader(in)
	if err != nil {
		t.Fatal(err)
	}
	z.Multistream(false)
	r := tar.NewReader(z)
	if h, err := r.Next(); err != nil || h.Name != "disk.raw" || h.Size != size || h.Typeflag != tar.TypeGNUSparse {
		t.Errorf("archive/tar reads %+v, %v", h, err)
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("after disk.raw: %v, want the end", err)
	}
	if _, err := io.Copy(io.Discard, z); err != nil || in.Len() != 0 {
		t.Errorf("gzip member: %v, %d bytes after it", err, in.Len())
	}
}

func allocatedAt(t *testing.T, path string) int64 {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return allocated(st)
}

// TestReadTarsGCP reads what GNU tar makes in its forms.
func TestReadTarsGCP(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	puts := []put{{0, random(r, 70000, true)}}
	for off := int64(1 << 20); off < 30<<20; off += 512 << 10 { // more runs than a header has room for
		puts = append(puts, put{off, random(r, 4096, false)})
	}
	path := rawFile(t, 32<<20+100, append(puts, put{32 << 20, []byte("end")})...)
	dir := filepath.Dir(path)
	qemu(t, "cp", path, filepath.Join(dir, "other"))
	for name, c := range map[string]struct {
		args   []string
		errors int64 // by Google's rules
	}{
		"oldgnu sparse": {[]string{"--format=oldgnu", "-S", "disk.raw"}, 1},
		"gnu sparse":    {[]string{"--format=gnu", "-S", "./disk.raw"}, 2},
		"plain gnu":     {[]string{"--format=gnu", "disk.raw"}, 1},
		"plain ustar":   {[]string{"--format=ustar", "disk.raw"}, 1},
		"plain posix":   {[]string{"--format=posix", "disk.raw"}, 1},
		"two files":     {[]string{"--format=oldgnu", "-S", "disk.raw", "other"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := filepath.Join(t.TempDir(), "theirs")
			qemu(t, "tar", append([]string{"-C", dir, "-czf", out}, c.args...)...)
			d := open(t, out, OpenOptions{RefuseRaw: true})
			if d.Size() != 32<<20+100 {
				t.Errorf("disk of %d bytes", d.Size())
			}
			backToRaw(t, path, d)
			if res, err := d.Check(context.Background(), nil); err != nil || res.Errors != c.errors {
				t.Errorf("check finds %v, %v; want %d problems", res.Problems, err, c.errors)
			}
		})
	}
}

// TestGCPSameBytes writes with different numbers of workers, beside a qcow2
// that shares the deflate and alone, with and without holes in the source.
func TestGCPSameBytes(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	text := random(r, 5<<20, true)
	whole := make([]byte, 12<<20+99)
	copy(whole[3<<20:], text)
	copy(whole[9<<20:], random(r, 2<<20, false))
	copy(whole[12<<20:], text[:99])
	sparse := rawFile(t, int64(len(whole)), put{3 << 20, text}, put{9 << 20, whole[9<<20 : 11<<20]}, put{12 << 20, text[:99]})
	var want Result
	for i, path := range []string{sparse, sparse, rawFile(t, int64(len(whole)), put{0, whole})} {
		f := create(t, "a")
		sinks := []Sink{NewGCPWriter(f, GCPOptions{}), NewQCOW2Writer(create(t, "b"), QCOW2Options{})}
		got, err := Write(context.Background(), open(t, path, OpenOptions{Format: Raw}), WriteOptions{Jobs: 1 + 3*i}, sinks[:1+i%2]...)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		if got[0].SHA256 != hexSum(b) || got[0].Size != int64(len(b)) {
			t.Errorf("run %d: result %+v is not what the file holds", i, got[0])
		}
		if i == 0 {
			want = got[0]
		}
		if got[0] != want {
			t.Errorf("run %d: %+v, first %+v", i, got[0], want)
		}
	}
	for _, o := range []GCPOptions{{Timestamp: time.Unix(-5, 0)}, {TempDir: filepath.Join(t.TempDir(), "no")}} {
		if _, err := Write(context.Background(), open(t, sparse, OpenOptions{Format: Raw}), WriteOptions{}, NewGCPWriter(create(t, "o"), o)); err == nil {
			t.Errorf("options %+v are accepted", o)
		}
	}
}

// TestJoinedStreams opens the end of many streams, of each kind of block and
// for every bit at which the last one can begin, and inflates what is joined
// with the standard library.
func TestJoinedStreams(t *testing.T) {
	var c deflate.Encoder
	r := rand.New(rand.NewPCG(4, 4))
	var joined, want bytes.Buffer
	bit := map[int]bool{}
	for i := range 2000 {
		n := 1 + r.IntN(2000)
		if i%100 == 0 {
			n = gcpCluster
		}
		in := random(r, n, i%3 > 0)
		if i%7 == 0 {
			in = bytes.Repeat(in[:1], n)
		}
		p := c.Append(nil, in)
		piece, ok := openEnd(p)
		if !ok {
			t.Fatalf("the encoder ends a stream of %d bytes with %x", n, p[max(0, len(p)-4):])
		}
		if i%50 == 0 {
			piece = storedPiece(in)
		}
		if i%50 > 0 {
			bit[bits.Len8(p[len(piece.body)])] = true
		}
		joined.Write(piece.body)
		joined.Write(piece.end)
		want.Write(in)
	}
	joined.Write([]byte{1, 0, 0, 0xff, 0xff})
	got, err := io.ReadAll(flate.NewReader(&joined))
	if err != nil || !bytes.Equal(got, want.Bytes()) || joined.Len() != 0 {
		t.Errorf("inflated to %d bytes of %d, %d left over: %v", len(got), want.Len(), joined.Len(), err)
	}
	if len(bit) != 8 {
		t.Errorf("last blocks begin at bits %v of a byte, want all", bit)
	}
	for _, p := range []string{"", "\x00", "\x03\x00", storedEnd, "\x00" + storedEnd, "\x40" + storedEnd, "\x01\x00\x00" + storedEnd, "\x20\x00" + storedEnd} {
		if _, ok := openEnd([]byte(p)); ok {
			t.Errorf("%x is taken for the end of a stream", p)
		}
	}
}

func TestCRCOfParts(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 5))
	for _, n := range []int{0, 1, 7, 512, 65536, 100003} {
		a, b := random(r, 1000+n, false), random(r, n, false)
		want := crc32.ChecksumIEEE(append(bytes.Clone(a), b...))
		if got := crcMultiply(crc32.ChecksumIEEE(a), crcShift(int64(n))) ^ crc32.ChecksumIEEE(b); got != want {
			t.Errorf("%d more bytes: CRC %#08x, want %#08x", n, got, want)
		}
	}
}

// TestGCPSpoolIsFreed lets writing fail at the end and in between.
func TestGCPSpoolIsFreed(t *testing.T) {
	for _, broken := range []Sink{
		NewRawWriter(&brokenTarget{create(t, "raw"), 1 << 20}, RawOptions{}),
		NewGCPWriter(&brokenTarget{create(t, "gcp"), 0}, GCPOptions{TempDir: t.TempDir()}),
	} {
		w := NewGCPWriter(discard{}, GCPOptions{TempDir: t.TempDir()})
		if _, err := Write(context.Background(), &noise{size: 4 << 20}, WriteOptions{}, w, broken); err == nil {
			t.Fatal("no error of the broken target")
		}
		if w.spool != nil {
			t.Error("the spool file is left open")
		}
	}
}
