package diskimage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
)

// smallQCOW2 is a valid image of 4 MiB with clusters of 4 KiB: the first three
// of the disk hold data, the fourth noise, the fifth data again.
func smallQCOW2(t testing.TB, c Compression) []byte {
	r := rand.New(rand.NewPCG(9, 9))
	path := rawFile(t, 4<<20, put{0, random(r, 12288, true)}, put{12288, random(r, 4096, false)}, put{16384, random(r, 4096, true)},
		put{3 << 20, random(r, 4096, true)})
	return imageOf(t, path, func(f *os.File) Sink { return NewQCOW2Writer(f, QCOW2Options{Compression: c, ClusterSize: 4096}) })
}

func l1At(b []byte) int { return int(binary.BigEndian.Uint64(b[40:])) }
func l2At(b []byte) int { return int(binary.BigEndian.Uint64(b[l1At(b):]) & entryOffset) }

// inL1 sets an L1 entry, inL2 one of the first L2 table, to what of gives.
func inL1(i int, of func(b []byte) uint64) change {
	return func(b []byte) []byte { return put64(l1At(b)+8*i, of(b))(b) }
}

func inL2(i int, of func(b []byte) uint64) change {
	return func(b []byte) []byte { return put64(l2At(b)+8*i, of(b))(b) }
}

func value(v uint64) func([]byte) uint64 { return func([]byte) uint64 { return v } }

func TestHostileQCOW2(t *testing.T) {
	for _, c := range []struct {
		name   string
		change change
		kind   error
		want   string // part of the message
	}{
		{"no bytes", func(b []byte) []byte { return nil }, ErrCorrupt, "file has 0 bytes"},
		{"cut header", func(b []byte) []byte { return b[:80] }, ErrCorrupt, "cut at 80 bytes"},
		{"magic", put32(0, 1), ErrCorrupt, "magic"},
		{"version", put32(4, 4), ErrUnsupported, "version 4"},
		{"cluster bits small", put32(20, 8), ErrCorrupt, "cluster_bits 8"},
		{"cluster bits huge", put32(20, 63), ErrCorrupt, "cluster_bits 63"},
		{"encrypted", put32(32, 2), ErrUnsupported, "encrypted image (crypt_method 2)"},
		{"size", put64(24, 1<<63), ErrCorrupt, "disk size"},
		{"size beyond L1", put64(24, 1<<40), ErrCorrupt, "needs 524288"},
		{"huge L1", put32(36, 0xffffffff), ErrCorrupt, "L1 table of 4294967295 entries"},
		{"L1 past the end", put64(40, 1<<40), ErrCorrupt, "past the end of the file"},
		{"L1 unaligned", put64(40, 4097), ErrCorrupt, "L1 table at offset 0x1001"},
		{"L1 offset sign", put64(40, 1<<63), ErrCorrupt, "L1 table"},
		{"marked corrupt", put64(72, 2), ErrUnsupported, "marked corrupt"},
		{"data file", put64(72, 4), ErrUnsupported, "external data file"},
		{"extended L2", put64(72, 16), ErrUnsupported, "extended L2"},
		{"unknown feature", put64(72, 1<<40), ErrUnsupported, "unknown incompatible features 0x10000000000"},
		{"compression bit alone", put64(72, 8), ErrCorrupt, "contradicts"},
		{"compression type", func(b []byte) []byte { b[104] = 7; return put32(100, 112)(b) }, ErrUnsupported, "compression type 7"},
		{"header length", put32(100, 1<<30), ErrCorrupt, "header_length"},
		{"refcount order", put32(96, 7), ErrCorrupt, "refcount_order 7"},
		{"backing name", func(b []byte) []byte { return put64(8, 1<<50)(put32(16, 10)(b)) }, ErrCorrupt, "backing file name"},
		{"backing name long", func(b []byte) []byte { return put64(8, 200)(put32(16, 1<<31)(b)) }, ErrCorrupt, "backing file name"},
		{"backing", func(b []byte) []byte { return put64(8, 200)(put32(16, 5)(b)) }, ErrUnsupported, "not allowed here"},
		{"extension", func(b []byte) []byte { return put32(104, 5)(put32(108, 1<<31)(put64(8, 200)(put32(16, 5)(b)))) }, ErrCorrupt, "header extension 0x5"},
		{"L2 past the end", inL1(0, value(1<<40)), ErrCorrupt, "entry 0 points at 0x10000000000"},
		{"L2 unaligned", inL1(0, value(4096+512)), ErrCorrupt, "not on a cluster"},
		{"L2 is the header", inL1(0, value(0x100)), ErrCorrupt, "reserved"},
		{"L2 is L1", inL1(0, func(b []byte) uint64 { return uint64(l1At(b)) }), ErrCorrupt, "inside the L1 table"},
		{"L2 twice", inL1(0, func(b []byte) uint64 { return binary.BigEndian.Uint64(b[l1At(b)+8:]) }), ErrCorrupt, "two entries"},
		{"L1 reserved", inL1(0, value(1<<60)), ErrCorrupt, "reserved bits"},
		{"data past the end", inL2(1, value(1<<40)), ErrCorrupt, "entry 1 is 0x10000000000: past the end"},
		{"data unaligned", inL2(1, value(4096+512)), ErrCorrupt, "not on a cluster"},
		{"data is L1", inL2(1, func(b []byte) uint64 { return uint64(l1At(b)) }), ErrCorrupt, "inside the L1 table"},
		{"data is its L2", inL2(1, func(b []byte) uint64 { return uint64(l2At(b)) }), ErrCorrupt, "inside the L2 table"},
		{"data reserved", inL2(1, value(1<<57)), ErrCorrupt, "reserved bits"},
		{"compressed past the end", inL2(1, value(entryCompressed|1<<50)), ErrCorrupt, "past the end"},
		{"compressed in header", inL2(1, value(entryCompressed|512)), ErrCorrupt, "inside the header"},
		{"compressed copied", inL2(1, value(entryCompressed|entryCopied|8192)), ErrCorrupt, "copied bit"},
		{"compressed noise", inL2(1, func(b []byte) uint64 {
			return binary.BigEndian.Uint64(b[l2At(b)+24:])&entryOffset | entryCompressed | 1<<58
		}), ErrCorrupt, "reading compressed cluster 1 at offset"},
		{"zero in v2", func(b []byte) []byte { return inL2(1, value(1))(put32(4, 2)(b)) }, ErrCorrupt, "version 2"},
		{"cut", func(b []byte) []byte { return b[:l1At(b)] }, ErrCorrupt, "past the end of the file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := c.change(smallQCOW2(t, CompressDeflate))
			err := readAll(b)
			if err == nil || !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %v with %q", err, c.kind, c.want)
			}
		})
	}
}

// readAll opens the image and reads all its data, at most 8 MiB of it.
func readAll(b []byte) error {
	d, err := OpenQCOW2(bytes.NewReader(b), int64(len(b)), QCOW2ReadOptions{})
	if err != nil {
		return err
	}
	return readData(d)
}

// readData reads the data of d, at most 8 MiB of it.
func readData(d Disk) error {
	buf := make([]byte, 64<<10)
	left := int64(8 << 20)
	for off := int64(0); left > 0; {
		start, end, err := d.NextData(off)
		if err != nil {
			return err
		}
		if start >= end {
			break
		}
		if start < off || end > d.Size() {
			return errors.New("run goes backwards or past the disk")
		}
		for off = start; off < end && left > 0; {
			n, err := d.ReadAt(buf[:min(int64(len(buf)), end-off)], off)
			if err != nil && err != io.EOF {
				return err
			}
			if n == 0 {
				return errors.New("read nothing")
			}
			off += int64(n)
			left -= int64(n)
		}
	}
	return nil
}

// TestCutQCOW2 cuts a plain image at every cluster and in the middle of it:
// what was cut off is never taken for zeros.
func TestCutQCOW2(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	path := rawFile(t, 1<<20, put{0, random(r, 1<<20, false)})
	out := path + ".qcow2"
	qemu(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=64k", path, out)
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if err := readAll(b); err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(b); n += 32 << 10 {
		if err := readAll(b[:n]); err == nil {
			t.Errorf("cut at %#x of %#x: no error", n, len(b))
		}
	}
}

func FuzzOpenQCOW2(f *testing.F) {
	for _, c := range []Compression{CompressDeflate, CompressZstd, CompressNone} {
		b := smallQCOW2(f, c)
		f.Add(b)
		f.Add(b[:len(b)/2])
		f.Add(put32(4, 2)(bytes.Clone(b)))
		f.Add(inL2(1, value(entryZero))(bytes.Clone(b)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<20 {
			return
		}
		readAll(b)
	})
}

func TestDetect(t *testing.T) {
	at := func(size, off int, magic string) []byte {
		b := make([]byte, size)
		copy(b[off:], magic)
		return b
	}
	for _, c := range []struct {
		b    []byte
		want Format
	}{
		{nil, Raw}, {[]byte("Q"), Raw}, {at(4096, 0, "QFI\xfb"), QCOW2}, {at(4096, 0, "KDMV"), VMDK},
		{at(4096, 4096-512, "conectix"), VHD}, {at(2048, 0, "vhdxfile"), VHDX}, {at(4096, 257, "ustar"), OVA},
		{at(100, 64, "\x7f\x10\xda\xbe"), VDI}, {at(4096, 510, "\x55\xaa"), Raw},
	} {
		got, err := Detect(bytes.NewReader(c.b), int64(len(c.b)))
		if err != nil || got != c.want {
			t.Errorf("%d bytes: %q, %v, want %q", len(c.b), got, err, c.want)
		}
	}
	path := rawFile(t, 4096, put{0, []byte("KDMV")})
	if _, err := Open(path, OpenOptions{}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("opening a vmdk: %v, want ErrUnsupported", err)
	}
	if _, err := Open(rawFile(t, 4096), OpenOptions{RefuseRaw: true}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("opening raw against the caller's will: %v, want ErrUnsupported", err)
	}
}
