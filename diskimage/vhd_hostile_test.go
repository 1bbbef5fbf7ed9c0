package diskimage

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
)

// smallVHD is a valid image of 3 MiB: in blocks of 512 KiB, the first, second
// and last hold data.
func smallVHD(t testing.TB, o VHDOptions) []byte {
	r := rand.New(rand.NewPCG(9, 9))
	path := rawFile(t, 3<<20, put{0, random(r, 4096, false)}, put{600 << 10, random(r, 4096, true)}, put{3<<20 - 512, random(r, 512, false)})
	return imageOf(t, path, func(f *os.File) Sink { return NewVHDWriter(f, o) })
}

// inFooter changes the footer and what copy there is at the head, and makes
// their checksums right again.
func inFooter(change change) change {
	return func(b []byte) []byte {
		for _, f := range [][]byte{b[:vhdFooterSize], b[len(b)-vhdFooterSize:]} {
			if string(f[:8]) == vhdCookie {
				change(f)
				binary.BigEndian.PutUint32(f[64:], vhdChecksum(f, 64))
			}
		}
		return b
	}
}

// inHeader does the same with the dynamic disk header.
func inHeader(change change) change {
	return func(b []byte) []byte {
		h := b[vhdHeaderAt : vhdHeaderAt+vhdHeaderSize]
		change(h)
		binary.BigEndian.PutUint32(h[36:], vhdChecksum(h, 36))
		return b
	}
}

func inBAT(i int, v uint32) change { return put32(vhdTableAt+4*i, v) }

func TestHostileVHD(t *testing.T) {
	noEnd := func(b []byte) []byte { return b[:len(b)-vhdFooterSize] }
	for _, c := range []struct {
		name   string
		kind   VHDSubformat
		change change
		is     error
		want   string // part of the message
	}{
		{"no bytes", VHDFixed, func(b []byte) []byte { return nil }, ErrCorrupt, "file has 0 bytes"},
		{"no footer", VHDFixed, noEnd, ErrCorrupt, "cookie"},
		{"checksum", VHDFixed, func(b []byte) []byte { b[len(b)-300]++; return b }, ErrCorrupt, "checksum"},
		{"both checksums", VHDDynamic, func(b []byte) []byte { b[len(b)-300]++; b[300]++; return b }, ErrCorrupt, "its copy is of no use"},
		{"version", VHDFixed, inFooter(put32(12, 2<<16)), ErrUnsupported, "version 2.0"},
		{"differencing", VHDDynamic, inFooter(put32(60, 4)), ErrUnsupported, "differencing image"},
		{"differencing, cut", VHDDynamic, func(b []byte) []byte { return noEnd(inFooter(put32(60, 4))(b)) }, ErrUnsupported, "differencing image"},
		{"disk type", VHDFixed, inFooter(put32(60, 6)), ErrUnsupported, "disk type 6"},
		{"size odd", VHDFixed, inFooter(put64(48, 1000)), ErrCorrupt, "multiple of 512"},
		{"size sign", VHDFixed, inFooter(put64(48, 1<<63)), ErrCorrupt, "current size 0x8000000000000000"},
		{"fixed too large", VHDFixed, inFooter(put64(48, 3<<20+512)), ErrCorrupt, "only 3145728 are before it"},
		{"geometry too large", VHDFixed, inFooter(func(b []byte) []byte { copy(b[28:], "vpc "); return put32(56, 0xffff1011)(b) }), ErrCorrupt, "before it"},
		{"fixed with the type of a dynamic one", VHDFixed, inFooter(put32(60, 3)), ErrCorrupt, "dynamic disk header at offset 0xffffffffffffffff"},
		{"header past the end", VHDDynamic, inFooter(put64(16, 1<<40)), ErrCorrupt, "past the end of the file"},
		{"header on the footer", VHDDynamic, inFooter(put64(16, 0)), ErrCorrupt, "dynamic disk header at offset 0x0: cookie"},
		{"header cookie", VHDDynamic, inHeader(put32(0, 1)), ErrCorrupt, "dynamic disk header at offset 0x200: cookie"},
		{"header checksum", VHDDynamic, put32(vhdHeaderAt+36, 1), ErrCorrupt, "dynamic disk header at offset 0x200: checksum"},
		{"header version", VHDDynamic, inHeader(put32(24, 3<<16)), ErrUnsupported, "version 3.0"},
		{"block size 0", VHDDynamic, inHeader(put32(32, 0)), ErrCorrupt, "block size 0"},
		{"block size odd", VHDDynamic, inHeader(put32(32, 3<<10)), ErrCorrupt, "block size 3072"},
		{"block size huge", VHDDynamic, inHeader(put32(32, 1<<31)), ErrCorrupt, "entry 0 is sector"},
		{"BAT too small", VHDDynamic, inHeader(put32(28, 5)), ErrCorrupt, "BAT of 5 entries, a disk of 3145728 bytes needs 6"},
		{"BAT huge", VHDDynamic, inHeader(put32(28, 1<<32-1)), ErrCorrupt, "BAT of 4294967295 entries at offset"},
		{"BAT past the end", VHDDynamic, inHeader(put64(16, 1<<50)), ErrCorrupt, "BAT of 6 entries at offset 0x4000000000000"},
		{"BAT offset sign", VHDDynamic, inHeader(put64(16, 1<<63)), ErrCorrupt, "past the end of the file"},
		{"size beyond BAT", VHDDynamic, inFooter(put64(48, 1<<40)), ErrCorrupt, "needs 2097152"},
		{"block past the end", VHDDynamic, inBAT(1, 0xfffffff0), ErrCorrupt, "entry 1 is sector 0xfffffff0: its block reaches past the end"},
		{"block on the head", VHDDynamic, inBAT(1, 0), ErrCorrupt, "lies on the copy of the footer"},
		{"block on the header", VHDDynamic, inBAT(1, 2), ErrCorrupt, "lies on the dynamic disk header"},
		{"block on the BAT", VHDDynamic, inBAT(1, 3), ErrCorrupt, "lies on the BAT"},
		{"block on the footer", VHDDynamic, func(b []byte) []byte {
			return inBAT(1, uint32((len(b)-(512<<10)-512)/512))(b)
		}, ErrCorrupt, "lies on the footer"},
		{"cut in a block", VHDDynamic, func(b []byte) []byte { return b[:len(b)-4096] }, ErrCorrupt, "its block reaches past the end"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			err := readVHD(c.change(smallVHD(t, VHDOptions{Subformat: c.kind, BlockSize: 512 << 10})))
			if err == nil || !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %v with %q", err, c.is, c.want)
			}
		})
	}
}

// readVHD opens the image, reads its data and checks it.
func readVHD(b []byte) error {
	d, err := OpenVHD(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return err
	}
	if _, err := d.Check(context.Background(), nil); err != nil {
		return err
	}
	return readData(d)
}

// TestVHDHugeBAT claims blocks so small that the table would fill memory; the
// file is long enough for it.
func TestVHDHugeBAT(t *testing.T) {
	b := inFooter(put64(48, 64<<30))(smallVHD(t, VHDOptions{Subformat: VHDDynamic, BlockSize: 512 << 10}))
	inHeader(func(h []byte) []byte { return put32(28, 1<<27)(put32(32, 512)(h)) })(b)
	path := rawFile(t, 1<<30, put{0, b[:vhdTableAt]})
	if _, err := Open(path, OpenOptions{}); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "BAT of 134217728 entries") {
		t.Errorf("got %v, want a refusal", err)
	}
}

// TestVHDDamagedFooter reads a dynamic image by the copy of its footer, and an
// image whose footer lacks its last byte as in Virtual PC before 2004.
func TestVHDDamagedFooter(t *testing.T) {
	b := smallVHD(t, VHDOptions{Subformat: VHDDynamic})
	fixed := smallVHD(t, VHDOptions{})
	damaged := bytes.Clone(b)
	clear(damaged[len(b)-200:])
	damaged[len(b)-vhdFooterSize+20] ^= 1
	want, err := OpenVHD(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		b      []byte
		errors int64
	}{"damaged": {damaged, 1}, "cut": {b[:len(b)-vhdFooterSize], 1}, "short": {b[:len(b)-1], 0}, "fixed, short": {fixed[:len(fixed)-1], 0}} {
		r := bytes.NewReader(c.b)
		if f, err := Detect(r, r.Size()); f != VHD || err != nil {
			t.Errorf("%s: detected as %q, %v", name, f, err)
		}
		got, err := OpenVHD(r, r.Size())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		sameDisk(t, want, got)
		if res, err := got.Check(context.Background(), nil); err != nil || res.Errors != c.errors {
			t.Errorf("%s: check finds %v, %v; want %d problems", name, res.Problems, err, c.errors)
		}
	}
}

// TestCheckVHD breaks what only a check looks at.
func TestCheckVHD(t *testing.T) {
	entry := func(b []byte, i int) uint32 { return binary.BigEndian.Uint32(b[vhdTableAt+4*i:]) }
	for _, c := range []struct {
		name   string
		change change
		want   string
	}{
		{"shared", func(b []byte) []byte { return inBAT(1, entry(b, 0))(b) }, "BAT at offset 0x604: block 1 at sector 0x7 overlaps block 0"},
		{"overlap", func(b []byte) []byte { return inBAT(1, entry(b, 0)+100)(b) }, "overlaps block 0"},
		{"past the end", inBAT(1, 0xfffffff0), "past the end of the file"},
		{"copy differs", func(b []byte) []byte { b[100]++; return b }, "copy of the footer at offset 0x0: differs"},
		{"bitmap", func(b []byte) []byte { b[entry(b, 0)*512] = 0x7f; return b }, "block 0: sector 0 is marked unused"},
	} {
		b := c.change(smallVHD(t, VHDOptions{Subformat: VHDDynamic, BlockSize: 512 << 10}))
		d, err := OpenVHD(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		r, err := d.Check(context.Background(), nil)
		if err != nil || r.Errors == 0 || !strings.Contains(r.Problems[0].String(), c.want) {
			t.Errorf("%s: %v, %v, want %q", c.name, r.Problems, err, c.want)
		}
	}
}

// TestDetectVHD: a container's magic at the head wins over a footer, the
// disk's own content does not.
func TestDetectVHD(t *testing.T) {
	for magic, want := range map[string]Format{"": VHD, "QFI\xfb": QCOW2, "\x1f\x8b\x08": Gzip, "LUKS\xba\xbe": VHD, "conectix": VHD} {
		b := smallVHD(t, VHDOptions{})
		copy(b, magic)
		if got, err := Detect(bytes.NewReader(b), int64(len(b))); got != want || err != nil {
			t.Errorf("head %q: %q, %v, want %q", magic, got, err, want)
		}
		if err := readVHD(b); err != nil {
			t.Errorf("head %q: %v", magic, err)
		}
	}
}

func FuzzOpenVHD(f *testing.F) {
	small := func(b []byte) []byte { // the blocks made small, so that the file is
		b = inHeader(put32(32, 512<<10))(b)
		return append(b[:vhdTableAt+512:vhdTableAt+512], b[len(b)-vhdFooterSize:]...)
	}
	d := small(smallVHD(f, VHDOptions{Subformat: VHDDynamic, BlockSize: 512 << 10}))
	f.Add(d)
	f.Add(d[:len(d)-vhdFooterSize])
	f.Add(inHeader(put32(32, 512))(inFooter(put64(48, 1024))(inBAT(0, 4)(append(bytes.Clone(d[:2048]), d[1024:]...)))))
	fixed := smallVHD(f, VHDOptions{})
	f.Add(inFooter(put64(48, 512))(bytes.Clone(fixed[len(fixed)-1024:])))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<20 {
			return
		}
		readVHD(b)
	})
}
