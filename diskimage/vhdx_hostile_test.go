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

// smallVHDX is a valid image of 5 MiB and one sector, of which the second, third
// and last MiB hold data.
func smallVHDX(t testing.TB, o VHDXOptions) []byte {
	r := rand.New(rand.NewPCG(9, 9))
	path := rawFile(t, 5<<20+512, put{1 << 20, random(r, 9000, true)}, put{3<<20 - 4096, random(r, 4096, false)}, put{5 << 20, random(r, 512, true)})
	return imageOf(t, path, func(f *os.File) Sink { return NewVHDXWriter(f, o) })
}

// readVHDX opens the image and reads all its data, at most 16 MiB of it.
func readVHDX(b []byte) error {
	d, err := OpenVHDX(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return err
	}
	return readSome(d)
}

func readSome(d *VHDXDisk) error {
	buf := make([]byte, 64<<10)
	for off, left := int64(0), 256; left > 0; left-- {
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
		end = min(end, start+int64(len(buf)))
		if err := readFull(d, buf[:end-start], start); err != nil {
			return err
		}
		off = end
	}
	return nil
}

func vhdxBytes(at int, p ...byte) change {
	return func(b []byte) []byte { copy(b[at:], p); return b }
}

func le32Bytes(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }
func le64Bytes(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }

// inHeaders changes both headers, inTables both region tables, inItem an item
// of the metadata, inMeta the metadata table, inVHDXBAT an entry.
func inHeaders(at int, p []byte) change {
	return func(b []byte) []byte { return setHeaders(b, func(h []byte) { copy(h[at:], p) }) }
}

func inTables(at int, p []byte) change {
	return func(b []byte) []byte {
		for _, table := range vhdxTablesAt {
			x := b[table : table+vhdxTableSize]
			copy(x[at:], p)
			binary.LittleEndian.PutUint32(x[4:], vhdxChecksum(x))
		}
		return b
	}
}

func inMeta(at int, p []byte) change   { return vhdxBytes(vhdxMetadataAt+at, p...) }
func inItem(at int, p []byte) change   { return inMeta(vhdxTableSize+at, p) }
func inVHDXBAT(i int, e uint64) change { return le64(vhdxBATAt+8*i, e) }

func TestHostileVHDX(t *testing.T) {
	good := smallVHDX(t, VHDXOptions{})
	end := uint64(len(good))
	some := mustGUID("00112233445566778899aabbccddeeff")
	for _, c := range []struct {
		name   string
		change change
		kind   error
		want   string // part of the message
	}{
		{"no bytes", func(b []byte) []byte { return nil }, ErrCorrupt, "file has 0 bytes"},
		{"cut headers", func(b []byte) []byte { return b[:1<<20-1] }, ErrCorrupt, "file has 1048575 bytes"},
		{"cut log", func(b []byte) []byte { return b[:1<<20] }, ErrCorrupt, "log of 1048576 bytes at offset 0x100000 reaches past the end"},
		{"cut BAT", func(b []byte) []byte { return b[:3<<20] }, ErrCorrupt, "at offset 0x300000: past the end of the file"},
		{"cut data", func(b []byte) []byte { return b[:6<<20] }, ErrCorrupt, "entry 5 of block 5 is 0x600006: its block of 1048576 bytes reaches past the end"},
		{"signature", le32(0, 1), ErrCorrupt, "file type identifier"},
		{"headers' checksums", func(b []byte) []byte { b[65600]++; b[131080]++; return b }, ErrCorrupt, "vhdx header at offset 0x20000: checksum"},
		{"headers' signatures", inHeaders(0, []byte("lead")), ErrCorrupt, `signature "lead"`},
		{"headers alike", inHeaders(8, le64Bytes(7)), nil, ""}, // Disk2VHD's
		{"same sequence", func(b []byte) []byte { return inHeaders(8, le64Bytes(7))(vhdxBytes(65552, 1)(b)) }, ErrCorrupt, "both have sequence number 7"},
		{"version", inHeaders(66, le32Bytes(2)[:2]), ErrUnsupported, "version 2"},
		{"log offset", inHeaders(72, le64Bytes(1<<20+1)), ErrCorrupt, "want whole MiB"},
		{"log offset sign", inHeaders(72, le64Bytes(1<<63)), ErrCorrupt, "past the end"},
		{"log on the headers", inHeaders(72, le64Bytes(0)), ErrCorrupt, "want whole MiB past the headers"},
		{"log on the BAT", inHeaders(72, le64Bytes(3<<20)), ErrCorrupt, "overlaps"},
		{"log length", inHeaders(68, le32Bytes(5000)), ErrCorrupt, "log of 5000 bytes"},
		{"log huge", inHeaders(68, le32Bytes(1<<32-1<<20)), ErrCorrupt, "past the end"},
		{"tables' checksums", func(b []byte) []byte { b[192<<10+99]++; b[256<<10+99]++; return b }, ErrCorrupt, "region table at offset 0x40000: checksum"},
		{"tables' count", inTables(8, le32Bytes(2048)), ErrCorrupt, "2048 entries"},
		{"no BAT", inTables(16, some[:]), ErrUnsupported, "region 00112233-4455-6677-8899-aabbccddeeff"},
		{"no metadata", inTables(8, le32Bytes(1)), ErrCorrupt, "no region 8b7ca206"},
		{"two BATs", inTables(48, vhdxBATRegion[:]), ErrCorrupt, "there are two regions"},
		{"region past the end", inTables(32, le64Bytes(1<<40)), ErrCorrupt, "past the end"},
		{"region sign", inTables(32, le64Bytes(1<<63)), ErrCorrupt, "past the end"},
		{"region unaligned", inTables(32, le64Bytes(3<<20+4096)), ErrCorrupt, "want whole MiB"},
		{"region length", inTables(40, le32Bytes(4096)), ErrCorrupt, "want whole MiB"},
		{"region empty", inTables(40, le32Bytes(0)), ErrCorrupt, "want whole MiB"},
		{"regions overlap", inTables(32, le64Bytes(2<<20)), ErrCorrupt, "overlaps"},
		{"unknown region", func(b []byte) []byte {
			return inTables(8, le32Bytes(3))(inTables(16+64, append(append(some[:], le64Bytes(4<<20)...), append(le32Bytes(1<<20), le32Bytes(1)...)...))(b))
		}, ErrUnsupported, "required and not known"},
		{"metadata signature", inMeta(0, []byte("x")), ErrCorrupt, "metadata table at offset 0x200000: signature"},
		{"metadata count", inMeta(10, []byte{0xff, 0xff}), ErrCorrupt, "65535 entries"},
		{"metadata missing", inMeta(10, []byte{4, 0}), ErrCorrupt, "no item cda348c7"},
		{"metadata twice", inMeta(64, vhdxFileParameters[:]), ErrCorrupt, "two items caa16737"},
		{"metadata unknown", inMeta(64, some[:]), ErrUnsupported, "item 00112233-4455-6677-8899-aabbccddeeff is required"},
		{"item outside", inMeta(48, le32Bytes(1<<20-4)), ErrCorrupt, "outside the metadata region"},
		{"item in table", inMeta(48, le32Bytes(64)), ErrCorrupt, "outside the metadata region"},
		{"item length", inMeta(52, le32Bytes(1<<31)), ErrCorrupt, "has 2147483648 bytes, want 8"},
		{"block size", inItem(0, le32Bytes(3<<20)), ErrCorrupt, "block size 3145728"},
		{"block size huge", inItem(0, le32Bytes(512<<20)), ErrCorrupt, "block size"},
		{"differencing", inItem(4, le32Bytes(2)), ErrUnsupported, "differencing disk"},
		{"unknown parameters", inItem(4, le32Bytes(8)), ErrUnsupported, "unknown bits"},
		{"disk size", inItem(8, le64Bytes(5<<20+1)), ErrCorrupt, "no multiple of the sector size"},
		{"disk too large", inItem(8, le64Bytes(64<<40+512)), ErrCorrupt, "disk size 70368744178176"},
		{"disk beyond BAT", inItem(8, le64Bytes(1<<40)), ErrCorrupt, "needs 1048831 entries"},
		{"sector size", inItem(32, le32Bytes(1024)), ErrCorrupt, "logical sector size 1024"},
		{"physical sector size", inItem(36, le32Bytes(0)), ErrCorrupt, "physical sector size 0"},
		{"data past the end", inVHDXBAT(1, end|vhdxPresent), ErrCorrupt, "reading vhdx BAT at offset 0x300008: entry 1 of block 1"},
		{"data far past the end", inVHDXBAT(1, 1<<63|vhdxPresent), ErrCorrupt, "past the end"},
		{"data on the headers", inVHDXBAT(1, vhdxPresent), ErrCorrupt, "lies on the headers"},
		{"data on the log", inVHDXBAT(1, 1<<20|vhdxPresent), ErrCorrupt, "lies on the log"},
		{"data on the BAT", inVHDXBAT(1, 3<<20|vhdxPresent), ErrCorrupt, "lies on the BAT"},
		{"data on the metadata", inVHDXBAT(1, 2<<20|vhdxPresent), ErrCorrupt, "lies on the metadata region"},
		{"reserved bits", inVHDXBAT(1, 4<<20|8|vhdxPresent), ErrCorrupt, "reserved bits"},
		{"reserved bits of nothing", inVHDXBAT(0, 1<<19), ErrCorrupt, "reserved bits"},
		{"partially present", inVHDXBAT(1, 4<<20|vhdxPartial), ErrCorrupt, "without a parent"},
		{"state 4", inVHDXBAT(1, 4), ErrCorrupt, "state 4"},
		{"state 5", inVHDXBAT(1, 5), ErrCorrupt, "state 5"},
		{"undefined", inVHDXBAT(1, 4<<20|vhdxUndefined), nil, ""},
		{"unmapped", inVHDXBAT(1, vhdxUnmapped), nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := readVHDX(c.change(bytes.Clone(good)))
			if c.kind == nil && err == nil {
				return
			}
			if err == nil || !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %v with %q", err, c.kind, c.want)
			}
		})
	}
}

// TestVHDXTruncated cuts an image everywhere: each cut is noticed.
func TestVHDXTruncated(t *testing.T) {
	b := smallVHDX(t, VHDXOptions{})
	for n := 0; n < len(b); n += 32 << 10 {
		if err := readVHDX(b[:n]); err == nil {
			t.Errorf("cut at %#x of %#x: no error", n, len(b))
		}
	}
}

// TestVHDXSecondCopies reads an image one header and one region table of which
// are broken, either one; Check tells.
func TestVHDXSecondCopies(t *testing.T) {
	good := smallVHDX(t, VHDXOptions{})
	for i := range 2 {
		b := bytes.Clone(good)
		b[vhdxHeadersAt[i]+100]++
		b[vhdxTablesAt[i]+100]++
		d, err := OpenVHDX(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		want, err := OpenVHDX(bytes.NewReader(good), int64(len(good)))
		if err != nil {
			t.Fatal(err)
		}
		sameDisk(t, want, d)
		if r, err := d.Check(context.Background(), nil); err != nil || r.Errors != 2 {
			t.Errorf("check: %v, %+v, want two problems", err, r)
		}
	}
}

func TestVHDXCheck(t *testing.T) {
	good := smallVHDX(t, VHDXOptions{})
	for _, c := range []struct {
		name   string
		change change
		errors int64
		leaked int64
		want   string
	}{
		{"good", func(b []byte) []byte { return b }, 0, 0, ""},
		{"shared", inVHDXBAT(1, 5<<20|vhdxPresent), 1, 1 << 20, "BAT at offset 0x300010: block 2 at 0x500000 shares bytes"},
		{"leaked", inVHDXBAT(1, vhdxZero), 0, 1 << 20, ""},
		{"past the end", inVHDXBAT(1, 9<<20|vhdxPresent), 1, 1 << 20, "past the end"},
		{"two of them", func(b []byte) []byte { return inVHDXBAT(1, 4)(inVHDXBAT(3, 1<<19)(b)) }, 2, 1 << 20, "state 4"},
		{"region bits", inTables(44, le32Bytes(5)), 2, 0, "unknown bits 0x5"},
		{"tables differ", func(b []byte) []byte {
			x := b[vhdxTablesAt[1] : vhdxTablesAt[1]+vhdxTableSize]
			x[60000] = 1
			binary.LittleEndian.PutUint32(x[4:], vhdxChecksum(x))
			return b
		}, 1, 0, "differs from the one at 0x30000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := c.change(bytes.Clone(good))
			d, err := OpenVHDX(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			var last int64
			r, err := d.Check(context.Background(), func(done, total int64) { last = total - done })
			if err != nil || r.Errors != c.errors || r.Leaked != c.leaked || last != 0 {
				t.Fatalf("%v, %+v, want %d problems, %d leaked", err, r, c.errors, c.leaked)
			}
			if c.want != "" && !strings.Contains(r.Problems[0].String(), c.want) {
				t.Errorf("got %s, want %q", r.Problems[0], c.want)
			}
		})
	}
}

// FuzzOpenVHDX gives the structures one by one, since an image is too large for
// a fuzzer, and makes their checksums right.
func FuzzOpenVHDX(f *testing.F) {
	good := smallVHDX(f, VHDXOptions{})
	part := func(at, n int64) []byte { return good[at : at+n] }
	entry := logEntry(1, 0, int64(len(good)), logChange{at: vhdxBATAt, length: 4096}, logChange{at: 5 << 20, data: make([]byte, 4096)})
	for _, log := range [][]byte{nil, entry} {
		head := bytes.Clone(part(vhdxHeadersAt[1], 80))
		if log != nil {
			openLog(head)
		}
		f.Add(head, part(vhdxTablesAt[0], 80), part(vhdxMetadataAt, 192), part(vhdxMetadataAt+vhdxTableSize, 40), part(vhdxBATAt, 48), log)
	}
	f.Fuzz(func(t *testing.T, head, regions, table, items, bat, log []byte) {
		img := &patchedFile{r: bytes.NewReader(nil), size: 8 << 20}
		put := func(at int64, b []byte, room int) {
			b = b[:min(len(b), room)]
			img.paint(filePatch{start: at, end: at + int64(len(b)), data: b})
		}
		sealed := func(at int64, b []byte, size int) {
			b = append(bytes.Clone(b[:min(len(b), size)]), make([]byte, size-min(len(b), size))...)
			binary.LittleEndian.PutUint32(b[4:], vhdxChecksum(b))
			put(at, b, size)
		}
		put(0, []byte(vhdxSignature), 8)
		sealed(vhdxHeadersAt[0], head, vhdxHeaderSize)
		sealed(vhdxTablesAt[0], regions, vhdxTableSize)
		put(vhdxMetadataAt, table, vhdxTableSize)
		put(vhdxMetadataAt+vhdxTableSize, items, vhdxTableSize)
		put(vhdxBATAt, bat, vhdxUnit)
		if n := len(log) / vhdxLogSector * vhdxLogSector; n > 0 {
			sealed(vhdxLogAt, log, min(n, vhdxUnit))
		}
		d, err := OpenVHDX(img, img.size)
		if err != nil {
			return
		}
		err = readSome(d)
		if d.meta.g.blocks() > 1<<20 {
			return
		}
		if r, failed := d.Check(context.Background(), nil); failed != nil || (err != nil && r.OK()) {
			t.Errorf("reading: %v, check: %v, %+v", err, failed, r)
		}
	})
}
