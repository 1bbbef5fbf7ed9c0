package diskimage

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// smallVMDK is a valid image of 70 MiB: of three grain tables the first has
// three grains of text and one of noise, the second none, the third one.
func smallVMDK(t testing.TB, sub VMDKSubformat) []byte {
	r := rand.New(rand.NewPCG(9, 9))
	path := rawFile(t, 70<<20, put{0, random(r, 3<<16, true)}, put{3 << 16, random(r, 1<<16, false)}, put{69 << 20, random(r, 4096, true)})
	return imageOf(t, path, func(f *os.File) Sink { return NewVMDKWriter(f, VMDKOptions{Subformat: sub, NoDigest: true}) })
}

// header gives the same change to the header or, when there is one, the footer.
func header(c func(off int) change) change {
	return func(b []byte) []byte {
		if binary.LittleEndian.Uint64(b[56:]) == vmdkGDAtEnd {
			return c(-1024)(b)
		}
		return c(0)(b)
	}
}

func h32(off int, v uint32) change { return header(func(at int) change { return le32(at+off, v) }) }
func h64(off int, v uint64) change { return header(func(at int) change { return le64(at+off, v) }) }

// gdOf and gtOf give the offset of the directory and of the first table.
func gdOf(b []byte) int {
	if at := binary.LittleEndian.Uint64(b[56:]); at != vmdkGDAtEnd {
		return int(at) * 512
	}
	return int(binary.LittleEndian.Uint64(b[len(b)-1024+56:])) * 512
}
func gtOf(b []byte) int { return int(binary.LittleEndian.Uint32(b[gdOf(b):])) * 512 }

// grainOf gives the offset of grain i of the first table.
func grainOf(b []byte, i int) int { return int(binary.LittleEndian.Uint32(b[gtOf(b)+4*i:])) * 512 }

func inGD(i int, of func(b []byte) uint32) change {
	return func(b []byte) []byte { return le32(gdOf(b)+4*i, of(b))(b) }
}
func inGT(i int, of func(b []byte) uint32) change {
	return func(b []byte) []byte { return le32(gtOf(b)+4*i, of(b))(b) }
}
func inGrain(i, off int, v byte) change {
	return func(b []byte) []byte { b[grainOf(b, i)+off] ^= v; return b }
}
func sector(v uint32) func([]byte) uint32 { return func([]byte) uint32 { return v } }

// replace changes text in the descriptor; the lengths have to be the same.
func replace(old, new string) change {
	return func(b []byte) []byte { return bytes.Replace(b, []byte(old), []byte(new), 1) }
}

type hostileVMDK struct {
	name   string
	change change
	kind   error
	want   string // part of the message
}

// hostileAnywhere is wrong in both subformats.
var hostileAnywhere = []hostileVMDK{
	{"no bytes", func([]byte) []byte { return nil }, ErrCorrupt, "file has 0 bytes"},
	{"cut header", func(b []byte) []byte { return b[:80] }, ErrCorrupt, "file has 80 bytes"},
	{"magic", h32(0, 1), ErrCorrupt, "magic"},
	{"version", h32(4, 4), ErrUnsupported, "version 4"},
	{"flags", h32(8, 1<<20), ErrUnsupported, "unknown incompatible flags 0x100000"},
	{"markers alone", h32(8, 1<<17), nil, ""},
	{"text transfer", header(func(at int) change {
		return func(b []byte) []byte { b[(at+75+len(b))%len(b)] = '\n'; return b }
	}), ErrCorrupt, "transfer as text"},
	{"compression", h32(76, 0x0000020a), ErrUnsupported, "compression 2"},
	{"grain size 0", h64(20, 0), ErrCorrupt, "grain size"},
	{"grain size odd", h64(20, 100), ErrCorrupt, "grain size"},
	{"grain size huge", h64(20, 1<<40), ErrCorrupt, "grain size"},
	{"table entries 0", h32(44, 0), ErrCorrupt, "grain tables of 0"},
	{"table entries huge", h32(44, 1<<31), ErrCorrupt, "grain tables of 2147483648"},
	{"capacity 0", h64(12, 0), ErrUnsupported, "capacity 0"},
	{"capacity huge", h64(12, 1<<60), ErrCorrupt, "capacity"},
	{"capacity beyond the directory", h64(12, 1<<39), ErrCorrupt, "grain directory"},
	{"directory past the end", h64(56, 1<<50), ErrCorrupt, "past the end of the file"},
	{"directory sign", h64(56, 1<<63), ErrCorrupt, "past the end of the file"},
	{"directory 0", h64(56, 0), ErrCorrupt, "grain directory"},
	{"descriptor past the end", h64(28, 1<<60), ErrCorrupt, "descriptor of 20 sectors"},
	{"descriptor huge", h64(36, 1<<63), ErrCorrupt, "descriptor"},
	{"no descriptor", h64(28, 0), ErrUnsupported, "extent of a larger disk"},
	{"empty descriptor", replace(vmdkDescriptorMagic, "\x00 Disk DescriptorFile"), ErrCorrupt, "want it to begin with"},
	{"parent", replace("parentCID=ffffffff", "parentCID=12345678"), ErrUnsupported, "snapshot"},
	{"no type", replace("createType", "CREATETYPO"), ErrCorrupt, "no createType"},
	{"no key", replace("createType=", "createType "), ErrCorrupt, "line 6"},
	{"descriptor version", replace("version=1", "version=9"), ErrUnsupported, "version \"9\""},
	{"table past the end", inGD(0, sector(1<<31)), ErrCorrupt, "entry 0 points at sector 0x80000000"},
	{"table is the header", inGD(0, sector(0xffffffff)), ErrCorrupt, "past the end"},
	{"table is the descriptor", inGD(0, sector(3)), ErrCorrupt, "inside the descriptor"},
	{"table is the directory", inGD(0, func(b []byte) uint32 { return uint32(gdOf(b)/512) - 3 }), ErrCorrupt, "inside the grain directory"},
	{"table twice", inGD(1, func(b []byte) uint32 { return uint32(gtOf(b) / 512) }), ErrCorrupt, "overlap"},
	{"tables overlap", inGD(1, func(b []byte) uint32 { return uint32(gtOf(b)/512) + 3 }), ErrCorrupt, "overlap"},
	{"grain past the end", inGT(1, sector(1<<31)), ErrCorrupt, "entry 1 is sector 0x80000000: past the end"},
	{"grain is the header", inGT(1, sector(1)), ErrCorrupt, "inside the descriptor"},
	{"grain is its table", inGT(1, func(b []byte) uint32 { return uint32(gtOf(b)/512) + 3 }), ErrCorrupt, "inside the grain table"},
	{"grain is the directory", inGT(1, func(b []byte) uint32 { return uint32(gdOf(b) / 512) }), ErrCorrupt, "inside the grain directory"},
}

// hostileStreams is wrong in a stream.
var hostileStreams = []hostileVMDK{
	{"cut", func(b []byte) []byte { return b[:len(b)-512] }, ErrCorrupt, "no footer marker"},
	{"cut to the header", func(b []byte) []byte { return b[:1024] }, ErrCorrupt, "grain directory should be at the end"},
	{"no end of stream", le32(-512, 1), ErrCorrupt, "no end-of-stream marker"},
	{"footer without directory", h64(56, vmdkGDAtEnd), ErrCorrupt, "footer"},
	{"grain's LBA", inGrain(1, 1, 1), ErrCorrupt, "marker has LBA 0x180, want 0x80"},
	{"grain's size", inGrain(1, 11, 0x7f), ErrCorrupt, "marker has a size"},
	{"grain's size 0", func(b []byte) []byte { return le32(grainOf(b, 1)+8, 0)(b) }, ErrCorrupt, "no zlib header"},
	{"zlib method", inGrain(1, 12, 1), ErrCorrupt, "no zlib header"},
	{"zlib dictionary", func(b []byte) []byte { copy(b[grainOf(b, 1)+12:], "\x78\xbb"); return b }, ErrCorrupt, "no zlib header"},
	{"block type", inGrain(1, 14, 6), ErrCorrupt, "inflating"},
	{"noise changed", inGrain(3, 1000, 1), ErrCorrupt, "Adler-32 is"},
	{"grain cut", func(b []byte) []byte { return le32(grainOf(b, 1)+8, 100)(b) }, ErrCorrupt, "inflating"},
	{"grain swapped", inGT(1, func(b []byte) uint32 { return uint32(grainOf(b, 2) / 512) }), ErrCorrupt, "marker has LBA"},
}

// TestHostileVMDK wants a clear refusal of each, by reading or at the latest by
// a check.
func TestHostileVMDK(t *testing.T) {
	for _, sub := range vmdkSubformats {
		good := smallVMDK(t, sub)
		cases := hostileAnywhere
		if sub == VMDKStreamOptimized {
			cases = append(cases[:len(cases):len(cases)], hostileStreams...)
		}
		for _, c := range cases {
			t.Run(string(sub)+"/"+c.name, func(t *testing.T) {
				err := readVMDK(c.change(bytes.Clone(good)))
				if c.kind == nil {
					if err == nil {
						t.Error("no error")
					}
					return
				}
				if err == nil || !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want %v with %q", err, c.kind, c.want)
				}
			})
		}
	}
}

func readVMDK(b []byte) error {
	d, err := OpenVMDK(bytes.NewReader(b), int64(len(b)), VMDKReadOptions{})
	if err != nil {
		return err
	}
	return readData(d)
}

// TestCheckVMDK wants each fault in the result of a check, the walk going on.
func TestCheckVMDK(t *testing.T) {
	for _, c := range []struct {
		name   string
		sub    VMDKSubformat
		change change
		want   string // a problem
	}{
		{"clean", VMDKStreamOptimized, func(b []byte) []byte { return b }, ""},
		{"clean", VMDKMonolithicSparse, func(b []byte) []byte { return b }, ""},
		{"bad grain", VMDKStreamOptimized, inGrain(3, 1000, 1), "Adler-32"},
		{"bad entry", VMDKStreamOptimized, inGT(2, sector(1<<31)), "entry 2 is sector 0x80000000: past the end"},
		{"table marker", VMDKStreamOptimized, func(b []byte) []byte { b[gtOf(b)-500] = 9; return b }, "grain table marker"},
		{"directory marker", VMDKStreamOptimized, func(b []byte) []byte { b[gdOf(b)-500] = 9; return b }, "grain directory marker"},
		{"two entries", VMDKMonolithicSparse, inGT(1, func(b []byte) uint32 { return uint32(grainOf(b, 2) / 512) }), "overlaps"},
		{"half a grain", VMDKMonolithicSparse, inGT(1, func(b []byte) uint32 { return uint32(grainOf(b, 2)/512) - 1 }), "overlaps"},
		{"copies differ", VMDKMonolithicSparse, inGT(3, sector(0)), "differs from grain table 0"},
		{"copy past the end", VMDKMonolithicSparse, le64(48, 1<<50), "redundant grain directory"},
		{"entry past the disk", VMDKMonolithicSparse, func(b []byte) []byte { return le64(12, 69<<11)(b) }, "past the end of the disk"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := c.change(smallVMDK(t, c.sub))
			d, err := OpenVMDK(bytes.NewReader(b), int64(len(b)), VMDKReadOptions{})
			if err != nil {
				t.Fatal(err)
			}
			r, err := d.Check(context.Background(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if c.want == "" && (!r.OK() || r.Used != 5<<16) {
				t.Errorf("%+v, want nothing and %d bytes used", r, 5<<16)
			}
			if c.want != "" && (r.OK() || !strings.Contains(problems(r), c.want)) {
				t.Errorf("%+v, want a problem with %q", r, c.want)
			}
		})
	}
}

func problems(r CheckResult) string {
	var s strings.Builder
	for _, p := range r.Problems {
		s.WriteString(p.String() + "\n")
	}
	return s.String()
}

// TestHostileDescriptor opens descriptors that name files they should not, or
// do not fit them.
func TestHostileDescriptor(t *testing.T) {
	dir := t.TempDir()
	for name, size := range map[string]int{"flat": 1 << 20, "cut.vmdk": 600} {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		extents string
		kind    error
		want    string
	}{
		{``, ErrCorrupt, "no extents"},
		{`RW 2048 FLAT "/etc/passwd" 0`, ErrUnsupported, "beside the descriptor"},
		{`RW 2048 FLAT "../flat" 0`, ErrUnsupported, "beside the descriptor"},
		{`RW 2048 FLAT ".." 0`, ErrUnsupported, "beside the descriptor"},
		{`RW 2048 FLAT "..\flat" 0`, ErrUnsupported, "beside the descriptor"},
		{`RW 2048 FLAT "" 0`, ErrUnsupported, "beside the descriptor"},
		{`RW 1 FLAT "d.vmdk" 0`, ErrCorrupt, "comes back to this file"},
		{`RW 2049 FLAT "flat" 0`, ErrCorrupt, "holds 1048576 bytes, the descriptor says 1049088"},
		{`RW 2048 FLAT "flat" 1`, ErrCorrupt, "holds 1048064 bytes"},
		{`RW 2048 FLAT "flat" 9999999`, ErrCorrupt, "holds 0 bytes"},
		{`RW 2048 FLAT "flat" -1`, ErrCorrupt, "offset"},
		{`RW 2048 SPARSE "flat"`, ErrCorrupt, "magic"},
		{`RW 2048 SPARSE "cut.vmdk"`, ErrCorrupt, "magic"},
		{`RW 2048 VMFSSPARSE "flat"`, ErrUnsupported, "VMFSSPARSE"},
		{`RW 2048 SESPARSE "flat"`, ErrUnsupported, "SESPARSE"},
		{`RW 2048 FLAT "gone" 0`, os.ErrNotExist, "gone"},
		{`RW 99999999999999999999 FLAT "flat" 0`, ErrCorrupt, "size of the extent"},
		{`RW 0 FLAT "flat" 0`, ErrCorrupt, "size of the extent"},
		{`RW 2048 FLAT "flat`, ErrCorrupt, "want access"},
		{`RW 2048`, ErrCorrupt, "want access"},
		{`NOACCESS 2048 FLAT "flat" 0`, ErrCorrupt, "without access"},
		{strings.Repeat("RW 9007199254740992 ZERO\n", 2), ErrCorrupt, "2^62"},
		{strings.Repeat("RW 1 ZERO\n", maxVMDKExtents+1), ErrCorrupt, "more than 4096 extents"},
		{`RW 2048 FLAT "flat" 0` + "\nRW 8 ZERO\n" + `RDONLY 2047 VMFS "flat"`, nil, ""},
	} {
		t.Run(c.extents, func(t *testing.T) {
			path := filepath.Join(dir, "d.vmdk")
			text := vmdkDescriptorMagic + "\r\nversion=1\r\nCID=1\r\nparentCID=FFFFFFFF\r\ncreateType=\"custom\"\r\n" + c.extents
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := Open(path, OpenOptions{Backing: true})
			if err == nil {
				defer f.Close()
				err = readData(f)
			}
			if !errors.Is(err, c.kind) || c.kind != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %v with %q", err, c.kind, c.want)
			}
			if c.kind == nil && f.Size() != 4103*512 {
				t.Errorf("size %d", f.Size())
			}
		})
	}
}

// TestCutVMDK cuts an image at every grain and in the middle of it: what was
// cut off is never taken for zeros.
func TestCutVMDK(t *testing.T) {
	for _, sub := range vmdkSubformats {
		b := smallVMDK(t, sub)
		if err := readVMDK(b); err != nil {
			t.Fatal(err)
		}
		for n := 0; n < len(b); n += 8 << 10 {
			if err := readVMDK(b[:n]); err == nil {
				t.Errorf("%s cut at %#x of %#x: no error", sub, n, len(b))
			}
		}
	}
}

func FuzzOpenVMDK(f *testing.F) {
	for _, sub := range vmdkSubformats {
		b := smallVMDK(f, sub)
		f.Add(b)
		f.Add(b[:len(b)/2])
		f.Add(h32(8, 7)(bytes.Clone(b)))
		f.Add(inGT(1, sector(1))(bytes.Clone(b)))
	}
	f.Add([]byte(vmdkDescriptorMagic + "\nversion=1\ncreateType=x\nRW 4096 ZERO\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<20 {
			return
		}
		if d, err := OpenVMDK(bytes.NewReader(b), int64(len(b)), VMDKReadOptions{}); err == nil {
			readData(d)
			d.Check(context.Background(), nil)
		}
	})
}

// TestVMDKTableDropped reads a grain that has been found while its table, since
// dropped from the cache, can no longer be read.
func TestVMDKTableDropped(t *testing.T) {
	b := smallVMDK(t, VMDKStreamOptimized)
	d, err := OpenVMDK(bytes.NewReader(b), int64(len(b)), VMDKReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s := d.extents[0].disk.(*vmdkSparse)
	at, err := s.lookup(0)
	if err != nil {
		t.Fatal(err)
	}
	s.r = bytes.NewReader(nil)
	s.cache.init(s.cache.size, 1)
	if _, err := s.readGrains(make([]byte, 2*vmdkGrainSize), 0, at); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want the error of the file", err)
	}
}

// TestVMDKManyDirectories has a descriptor name one sparse extent with a large
// grain directory again and again.
func TestVMDKManyDirectories(t *testing.T) {
	h := vmdkHeader{version: 1, capacity: maxGDBytes / 4 * vmdkTableEntries, grainSize: 1, tableEntries: vmdkTableEntries, gdOffset: 1}
	size := int64(vmdkSector + maxGDBytes)
	extent := &sparseBytes{head: h.encode(), size: size}
	text := vmdkDescriptorMagic + "\nversion=1\ncreateType=\"twoGbMaxExtentSparse\"\n"
	text += strings.Repeat("RW 1 SPARSE \"x.vmdk\"\n", 1000)
	opened := 0
	d, err := OpenVMDK(strings.NewReader(text), int64(len(text)), VMDKReadOptions{OpenExtent: func(string) (Disk, error) {
		opened++
		return extent, nil
	}})
	if !errors.Is(err, ErrUnsupported) || opened > 4 {
		t.Errorf("got %v, %v after %d extents, want a refusal of the second", d, err, opened)
	}
}

// sparseBytes is a file with zeros behind its head.
type sparseBytes struct {
	head []byte
	size int64
}

func (s *sparseBytes) Size() int64                                    { return s.size }
func (s *sparseBytes) NextData(off int64) (start, end int64, _ error) { return off, s.size, nil }
func (s *sparseBytes) ReadAt(p []byte, off int64) (int, error) {
	n := int(max(0, min(int64(len(p)), s.size-off)))
	clear(p[:n])
	copy(p[:n], s.head[min(off, int64(len(s.head))):])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
