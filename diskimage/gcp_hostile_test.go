package diskimage

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// smallTar is the tar of a GCP archive whose disk has four runs of data, the
// last of them at its end; the data is cut off.
func smallTar(t testing.TB, disk int64) []byte {
	var b bytes.Buffer
	runs := []extent{{0, 512}, {4096, 4608}, {8192, 9216}, {disk - 512, disk}}
	if err := writeTarHead(&b, runs, disk, 0); err != nil {
		t.Fatal(err)
	}
	b.Write(random(rand.New(rand.NewPCG(9, 9)), 5*512, true))
	b.Write(make([]byte, 1024))
	return b.Bytes()
}

// sum makes the checksum of a header right again.
func sum(b []byte) []byte {
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", tarChecksum(b[:tarBlock])))
	return b
}

func putText(at int, text string) change {
	return func(b []byte) []byte { copy(b[at:], text); return sum(b) }
}

func gzipped(t testing.TB, b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func readGCP(t testing.TB, b []byte) error {
	d, err := OpenGCP(bytes.NewReader(b), int64(len(b)), GCPReadOptions{MaxSize: 2 << 30, TempDir: t.TempDir()})
	if err != nil {
		return err
	}
	return errors.Join(readData(d), d.Close())
}

func TestHostileGCP(t *testing.T) {
	run := func(i int, start, length string) change {
		return putText(tarMapAt+24*i, fmt.Sprintf("%011s\x00%011s", start, length))
	}
	for _, c := range []struct {
		name   string
		change change
		kind   error
		want   string // part of the message
	}{
		{"checksum", func(b []byte) []byte { b[148] = '7'; return b }, ErrCorrupt, "tar header at offset 0x0: checksum"},
		{"checksum in base 256", func(b []byte) []byte { b[148] = 0x82; return b }, ErrCorrupt, "tar header at offset 0x0: checksum"},
		{"name", putText(0, "other.raw"), ErrUnsupported, `first file of the tar is "other.raw"`},
		{"link", func(b []byte) []byte { b[156] = '2'; return sum(b) }, ErrUnsupported, "has type '2'"},
		{"no tar", func(b []byte) []byte { return []byte("#!/bin/sh\n") }, ErrCorrupt, "unexpected EOF"},
		{"too large", putText(tarRealSize, "77777777777"), ErrUnsupported, "want at most 2147483648"},
		{"size beyond 2^62", putText(tarRealSize, "\x80\x00\x00\x00\x80"), ErrCorrupt, "real size: number 80"},
		{"size no number", putText(tarRealSize, "12x45678901"), ErrCorrupt, "is no octal number"},
		{"negative run", run(1, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "1000"), ErrCorrupt, "sparse map at offset 0x182"},
		{"run past the end", run(1, "20000000000", "1000"), ErrCorrupt, "within 1073741824 bytes"},
		{"run too long", run(1, "10000", "7777777000"), ErrCorrupt, "run of 1073741312 bytes at 0x1000"},
		{"runs overlap", run(1, "0", "1000"), ErrCorrupt, "run of 512 bytes at 0x0, want it after 0x200"},
		{"part of a block", run(1, "10000", "777"), ErrCorrupt, "want whole blocks"},
		{"more than is stored", run(1, "10000", "7000"), ErrCorrupt, "more are stored"},
		{"less than is stored", run(3, "0", "0"), ErrCorrupt, "more than the sparse map has"},
		{"map without an end", func(b []byte) []byte { b[tarExtended] = 1; return sum(b) }, ErrCorrupt, "sparse map at offset 0x200"},
		{"cut in the map", func(b []byte) []byte { b[tarExtended] = 1; return sum(b)[:600] }, ErrCorrupt, "unexpected EOF"},
		{"cut in the data", func(b []byte) []byte { return b[:1500] }, ErrCorrupt, `reading data of "disk.raw"`},
		{"noise after it", func(b []byte) []byte { copy(b[len(b)-1024:], "noise"); return b }, ErrCorrupt, "invalid tar header"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			err := readGCP(t, gzipped(t, c.change(smallTar(t, 1<<30))))
			if err == nil || !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %v with %q", err, c.kind, c.want)
			}
		})
	}
}

// TestDamagedGCP breaks the gzip stream itself.
func TestDamagedGCP(t *testing.T) {
	whole := gzipped(t, smallTar(t, 1<<30))
	if err := readGCP(t, whole); err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(whole); n += 7 {
		if err := readGCP(t, whole[:n]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut at %d: %v, want ErrCorrupt", n, err)
		}
	}
	for _, at := range []int{len(whole) - 5, len(whole) - 1, len(whole) / 2} {
		b := bytes.Clone(whole)
		b[at] ^= 0x10
		if err := readGCP(t, b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("byte %d changed: %v, want ErrCorrupt", at, err)
		}
	}
	bad := &brokenReader{bytes.NewReader(whole)}
	if _, err := OpenGCP(bad, int64(len(whole)), GCPReadOptions{}); !errors.Is(err, errFull) || errors.Is(err, ErrCorrupt) {
		t.Errorf("broken file: %v", err)
	}
}

// brokenReader gives nothing after its first bytes.
type brokenReader struct{ io.ReaderAt }

func (b *brokenReader) ReadAt(p []byte, off int64) (int, error) {
	n, _ := b.ReaderAt.ReadAt(p[:min(len(p), 100)], off)
	return n, errFull
}

// TestDetectGCP: only a gzipped tar that begins with a disk.raw is one.
func TestDetectGCP(t *testing.T) {
	dir := filepath.Dir(rawFile(t, 1<<20+3, put{1 << 20, []byte("end")}))
	posix := filepath.Join(dir, "posix.tar.gz")
	qemu(t, "tar", "-C", dir, "--format=posix", "-Sczf", posix, "disk.raw")
	if _, err := Open(posix, OpenOptions{}); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "--format=oldgnu") {
		t.Errorf("POSIX sparse file: %v", err)
	}
	other := filepath.Join(dir, "other.tar.gz")
	qemu(t, "tar", "-C", dir, "-czf", other, "posix.tar.gz")
	packed := filepath.Join(dir, "disk.raw.gz")
	if err := os.WriteFile(packed, gzipped(t, make([]byte, 5000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{other, packed} {
		if _, err := Open(path, OpenOptions{}); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "unpack it first (gzip -dk)") {
			t.Errorf("%s: %v, want a refusal", path, err)
		}
	}
}

func FuzzOpenGCP(f *testing.F) {
	b := smallTar(f, 1<<20)
	f.Add(b)
	f.Add(b[:1000])
	b = bytes.Clone(b)
	b[tarExtended] = 1
	f.Add(sum(b))
	plain := bytes.Clone(b)
	plain[156] = '0'
	f.Add(sum(plain))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 64<<10 {
			return
		}
		// Of the inflated bytes: what is in a gzip stream says nothing to a fuzzer.
		packed := gzipped(t, b)
		d, err := OpenGCP(bytes.NewReader(packed), int64(len(packed)), GCPReadOptions{MaxSize: 1 << 30, TempDir: dir})
		if err == nil {
			readData(d)
			d.Close()
		}
	})
}
