package diskimage

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// part is a file of a made-up package.
type part struct {
	name string
	data []byte
}

// pack makes a tar archive.
func pack(t testing.TB, parts ...part) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, p := range parts {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: p.name, Size: int64(len(p.data)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(p.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// smallOVF is the descriptor of a package of smallVMDK.
const smallOVF = `<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
<References><File ovf:href="a.vmdk" ovf:id="f1"/><File ovf:href="b.iso" ovf:id="f2"/></References>
<DiskSection><Disk ovf:capacity="70" ovf:capacityAllocationUnits="byte * 2^20" ovf:diskId="d1" ovf:fileRef="f1" ovf:format="x#y"/></DiskSection>
<VirtualSystem ovf:id="vm"/></Envelope>`

// smallParts are the files of a sound package: descriptor, manifest, disk and
// one that is no disk.
func smallParts(t testing.TB, ovf string) []part {
	vmdk := smallVMDK(t, VMDKStreamOptimized)
	iso := []byte("iso")
	manifest := fmt.Sprintf("SHA256(a.ovf)= %s\nSHA256(a.vmdk)= %s\nSHA256(b.iso)= %s\n", hexSum([]byte(ovf)), hexSum(vmdk), hexSum(iso))
	return []part{{"a.ovf", []byte(ovf)}, {"a.mf", []byte(manifest)}, {"a.vmdk", vmdk}, {"b.iso", iso}}
}

// smallOVA packs the small package with its descriptor changed.
func smallOVA(t testing.TB, old, new string) []byte {
	t.Helper()
	if !strings.Contains(smallOVF, old) {
		t.Fatalf("descriptor has no %q", old)
	}
	return pack(t, smallParts(t, strings.Replace(smallOVF, old, new, 1))...)
}

// checksummed sets the checksum of the header block at off after a change.
func checksummed(b []byte, off int) []byte {
	h := b[off : off+tarBlock]
	copy(h[148:], fmt.Sprintf("%06o\x00 ", tarChecksum(h)))
	return b
}

// withSize sets the size field of the first header.
func withSize(b []byte, field string) []byte {
	copy(b[124:136], field)
	return checksummed(b, 0)
}

// manyMembers is an archive of n empty files.
func manyMembers(t testing.TB, n int) []byte {
	parts := make([]part, n)
	for i := range parts {
		parts[i].name = fmt.Sprint("f", i)
	}
	return pack(t, parts...)
}

// special packs one header of any kind before the small package.
func special(t testing.TB, h *tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(h); err != nil {
		t.Fatal(err)
	}
	return append(b.Bytes(), smallOVA(t, "", "")...)
}

// extents is a VMDK descriptor that names a file.
func extents(name string) string {
	return vmdkDescriptorMagic + "\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\nRW 4096 FLAT \"" + name + "\" 0\n"
}

func TestHostileOVATar(t *testing.T) {
	good := smallOVA(t, "", "")
	gnuSparse := checksummed(append(bytes.Clone(pack(t, part{"s", nil})[:tarBlock]), good...), 0)
	copy(gnuSparse[257:], "ustar  \x00")
	gnuSparse[156] = 'S'
	checksummed(gnuSparse, 0)
	for _, c := range []struct {
		name string
		b    []byte
		kind error
		want string
	}{
		{"nothing", nil, ErrUnsupported, "without an .ovf file, so no ova (has no files)"},
		{"no descriptor", pack(t, part{"disk.raw", []byte("x")}, part{"ovf", nil}), ErrUnsupported, `without an .ovf file, so no ova (has "disk.raw", "ovf")`},
		{"two descriptors", pack(t, part{"a.ovf", nil}, part{"b.ovf", nil}), ErrCorrupt, `2 descriptors: "a.ovf", "b.ovf", want one`},
		{"same name", pack(t, part{"a.ovf", nil}, part{"a.ovf", nil}), ErrCorrupt, `offset 0x400: second member "a.ovf"`},
		{"many", manyMembers(t, maxMembers+1), ErrUnsupported, "more than 1000 members"},
		{"checksum", append([]byte{'b'}, good[1:]...), ErrCorrupt, "reading tar header near offset 0x200"},
		{"cut in a header", good[:700], ErrCorrupt, "past the end of the file"},
		{"cut in the disk", good[:30000], ErrCorrupt, `member "a.vmdk"`},
		{"size past the end", withSize(bytes.Clone(good), "77777777777\x00"), ErrCorrupt, `member "a.ovf" of 8589934591 bytes reaches past the end`},
		{"binary size", withSize(bytes.Clone(good), "\x80\x00\x00\x00\x40\x00\x00\x00\x00\x00\x00\x00"), ErrCorrupt, "reaches past the end"},
		{"huge size", withSize(bytes.Clone(good), "\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff"), ErrCorrupt, "tar header"},
		{"larger than 64 bits", withSize(bytes.Clone(good), "\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), ErrCorrupt, "tar header"},
		{"negative size", withSize(bytes.Clone(good), "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00"), ErrCorrupt, "tar header"},
		{"size no number", withSize(bytes.Clone(good), "not a number"), ErrCorrupt, "tar header"},
		{"long name", special(t, &tar.Header{Typeflag: tar.TypeReg, Name: strings.Repeat("n", 5000), Format: tar.FormatGNU}), ErrCorrupt, "name of 5000 bytes"},
		{"gnu sparse", gnuSparse, ErrUnsupported, `member "s" is stored sparse`},
		{"large descriptor", pack(t, part{"a.ovf", make([]byte, maxOVF+1)}), ErrUnsupported, `reading "a.ovf" at offset 0x200: 4194305 bytes, want at most 4194304`},
		{"disk is a link", append(special(t, &tar.Header{Typeflag: tar.TypeSymlink, Name: "a.vmdk", Linkname: "/dev/sda"})[:tarBlock],
			pack(t, part{"a.ovf", []byte(smallOVF)})...), ErrCorrupt, `OVF file "a.vmdk" is not in the archive (have "a.ovf")`},
		{"disk is qcow2", pack(t, part{"a.ovf", []byte(smallOVF)}, part{"a.vmdk", smallQCOW2(t, CompressDeflate)}), ErrUnsupported,
			`OVF disk "d1" in "a.vmdk" at offset 0x600 is qcow2, want vmdk (the descriptor says "x#y")`},
		{"disk is raw", pack(t, part{"a.ovf", []byte(smallOVF)}, part{"a.vmdk", nil}), ErrUnsupported, "is raw, want vmdk"},
		{"disk of several files", pack(t, part{"a.ovf", []byte(smallOVF)}, part{"a.vmdk", []byte(extents("b.iso"))}), ErrUnsupported,
			`opening "a.vmdk", which begins at offset 0x600`},
		{"disk elsewhere", pack(t, part{"a.ovf", []byte(smallOVF)}, part{"a.vmdk", []byte(extents("/etc/passwd"))}), ErrUnsupported,
			`opening "a.vmdk", which begins at offset 0x600`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := OpenOVA(bytes.NewReader(c.b), int64(len(c.b)))
			if err == nil || !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %v with %q", err, c.kind, c.want)
			}
		})
	}
}

func TestHostileOVF(t *testing.T) {
	bomb := `<!DOCTYPE Envelope [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><Envelope xmlns=`
	for _, c := range []struct {
		name, old, new string
		kind           error
		want           string
	}{
		{"entity", `ovf:id="vm"/>`, `ovf:id="vm">&b;</VirtualSystem>`, ErrCorrupt, "invalid character entity &b;"},
		{"entity bomb", `<Envelope xmlns=`, strings.Replace(bomb, "<Envelope xmlns=", "<Envelope a='&b;' xmlns=", 1), ErrCorrupt, "invalid character entity &b;"},
		{"deep", `<VirtualSystem ovf:id="vm"/>`, strings.Repeat("<VirtualSystem>", 100000), ErrCorrupt, "parsing OVF descriptor"},
		{"cut", `</Envelope>`, ``, ErrCorrupt, "parsing OVF descriptor: XML syntax error on line 4"},
		{"encoding", `<Envelope`, `<?xml version="1.0" encoding="UTF-16"?><Envelope`, ErrCorrupt, `encoding "UTF-16"`},
		{"root", `<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" `, `<Envelope xmlns="http://www.vmware.com/schema/ovf/1/envelope" `, ErrUnsupported,
			`namespace "http://www.vmware.com/schema/ovf/1/envelope", want http://schemas.dmtf.org/ovf/envelope/1`},
		{"no disk", `<Disk ovf:capacity="70" ovf:capacityAllocationUnits="byte * 2^20" ovf:diskId="d1" ovf:fileRef="f1" ovf:format="x#y"/>`, "",
			ErrUnsupported, "OVF descriptor without a disk"},
		{"two disks", `</DiskSection>`, `<Disk ovf:diskId="d2"/></DiskSection>`, ErrUnsupported, `OVF descriptor with 2 disks ("d1", "d2"), want one`},
		{"many disks", `</DiskSection>`, strings.Repeat("<Disk/>", 300000) + "</DiskSection>", ErrUnsupported, `OVF descriptor with 300001 disks ("d1", "",`},
		{"parent", `ovf:diskId="d1"`, `ovf:diskId="d1" ovf:parentRef="d0"`, ErrUnsupported, `OVF disk "d1" has the parent disk "d0"`},
		{"no file", `ovf:fileRef="f1"`, ``, ErrUnsupported, `OVF disk "d1" has no file`},
		{"unknown file", `ovf:fileRef="f1"`, `ovf:fileRef="f3"`, ErrCorrupt, `OVF disk "d1": no File with the id "f3" among the References`},
		{"missing file", `ovf:href="a.vmdk"`, `ovf:href="../a.vmdk"`, ErrCorrupt, `OVF file "../a.vmdk" is not in the archive (have "a.ovf", "a.mf", "a.vmdk", "b.iso")`},
		{"remote file", `ovf:href="a.vmdk"`, `ovf:href="https://example.org/a.vmdk"`, ErrCorrupt, "is not in the archive"},
		{"bad escape", `ovf:href="a.vmdk"`, `ovf:href="a%zz.vmdk"`, ErrCorrupt, "is not in the archive"},
		{"compressed", `ovf:id="f1"`, `ovf:id="f1" ovf:compression="gzip"`, ErrUnsupported, `OVF file "a.vmdk" is compressed with "gzip"`},
		{"chunks", `ovf:id="f1"`, `ovf:id="f1" ovf:chunkSize="1000"`, ErrUnsupported, `OVF file "a.vmdk" is cut into chunks of 1000 bytes`},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := smallOVA(t, c.old, c.new)
			_, err := OpenOVA(bytes.NewReader(b), int64(len(b)))
			if err == nil || !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %v with %q", err, c.kind, c.want)
			}
		})
	}
}

// TestCheckOVA damages what a reader does not need.
func TestCheckOVA(t *testing.T) {
	sound := smallParts(t, smallOVF)
	sum := hexSum(sound[2].data)
	swap := func(i, j int) func([]part) { return func(p []part) { p[i], p[j] = p[j], p[i] } }
	manifest := func(old, new string) func([]part) {
		return func(p []part) { p[1].data = bytes.Replace(p[1].data, []byte(old), []byte(new), 1) }
	}
	// A descriptor with another digest: the manifest says so too.
	descriptor := func(old, new string) func([]part) {
		return func(p []part) { copy(p, smallParts(t, strings.Replace(smallOVF, old, new, 1))) }
	}
	for _, c := range []struct {
		name   string
		change func(p []part)
		want   string // all problems, when one line; else what they begin with
	}{
		{"sound", func([]part) {}, ""},
		{"empty manifest", func(p []part) { p[1].data = nil }, `manifest at offset 0x600: has no line for "a.ovf"`},
		{"other case", manifest(sum, strings.ToUpper(sum)), ""},
		{"digest", manifest(sum[:8], "00000000"), `manifest at offset 0x650: digest of "a.vmdk" is 00000000` + sum[8:] + ", the file's " + sum},
		{"short digest", manifest(sum, sum[:8]), `manifest at offset 0x650: digest of "a.vmdk" is ` + sum[:8] + ", the file's " + sum},
		{"algorithm", manifest("SHA256(a.vmdk)", "MD5(a.vmdk)"), `manifest at offset 0x650: algorithm "MD5" of "a.vmdk", want SHA1, SHA256 or SHA512`},
		{"line", manifest("SHA256(a.vmdk)= ", "a.vmdk "), `manifest at offset 0x650: line "a.vmdk ` + sum + `", want ALGORITHM(file)= digest`},
		{"twice", manifest("SHA256(b.iso)", "SHA256(a.vmdk)"), `manifest at offset 0x6a1: second line for "a.vmdk"`},
		{"missing", manifest("SHA256(b.iso)", "\nSHA1(c.iso)"), `manifest at offset 0x6a2: line for "c.iso", which is not in the archive`},
		{"manifest name", func(p []part) { p[1].name = "b.mf" }, `manifest at offset 0x600: is called "b.mf", want "a.mf"`},
		{"no manifest", func(p []part) { p[1].name = "readme" }, ""},
		{"manifest last", func(p []part) { p[1], p[2], p[3] = p[2], p[3], p[1] }, ""},
		{"descriptor second", swap(0, 1), `tar archive at offset 0x600: descriptor "a.ovf" is not the first file, which is "a.mf"`},
		{"files swapped", swap(2, 3), `"b.iso" comes before "a.vmdk", the descriptor has them the other way round`},
		{"file missing", func(p []part) { p[3].name = "c.iso" }, `OVF descriptor at offset 0x200: OVF file "b.iso" is not in the archive`},
		{"size", descriptor(`ovf:id="f2"`, `ovf:id="f2" ovf:size="4"`), `OVF descriptor at offset 0x200: ovf:size of "b.iso" is "4", the file has 3 bytes`},
		{"size no number", descriptor(`ovf:id="f2"`, `ovf:id="f2" ovf:size="x"`), `OVF descriptor at offset 0x200: ovf:size of "b.iso" is "x", the file has 3 bytes`},
		{"capacity", descriptor(`"70"`, `"71"`), `OVF descriptor at offset 0x200: disk "d1" has a capacity of 74448896 bytes, its file 73400320`},
		{"capacity property", descriptor(`"70"`, `"${disk.size}"`), ""},
		{"capacity negative", descriptor(`"70"`, `"-1"`), `OVF descriptor at offset 0x200: disk "d1": capacity "-1", want a number`},
		{"capacity unit", descriptor(`"byte * 2^20"`, `"furlong"`), `OVF descriptor at offset 0x200: disk "d1": capacity unit "furlong", want byte or byte * 2^N`},
		{"capacity huge", descriptor(`"byte * 2^20"`, `"byte * 2^60"`), `OVF descriptor at offset 0x200: disk "d1": capacity 70 times "byte * 2^60", want at most 2^62 bytes`},
		{"unit huge", descriptor(`"byte * 2^20"`, `"byte * 1024^10"`), `OVF descriptor at offset 0x200: disk "d1": capacity unit "byte * 1024^10", want at most 2^62 bytes`},
		{"disk", func(p []part) { p[2].data = inGrain(1, 20, 0x55)(bytes.Clone(p[2].data)) }, `manifest at offset 0x650: digest of "a.vmdk"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			parts := smallParts(t, smallOVF)
			c.change(parts)
			b := pack(t, parts...)
			d, err := OpenOVA(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			r, err := d.Check(context.Background(), nil)
			if err != nil || (c.want == "") != r.OK() || !strings.Contains(problems(r), c.want) {
				t.Errorf("check finds %q, %v, want %q", problems(r), err, c.want)
			}
			if got := d.Size(); got != 70<<20 {
				t.Errorf("size %d", got)
			}
		})
	}
}

// TestCheckOVADisk: the disk's problems are at their places in the archive.
func TestCheckOVADisk(t *testing.T) {
	parts := smallParts(t, smallOVF)
	grain := grainOf(parts[2].data, 1)
	parts[2].data = inGrain(1, 20, 0x55)(parts[2].data)
	b := pack(t, parts[0], parts[2])
	d, err := OpenOVA(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	r, err := d.Check(context.Background(), nil)
	if err != nil || r.Errors != 2 || r.Used == 0 { // the ISO file is missing too
		t.Fatalf("check: %+v, %v", r, err)
	}
	if got, at := r.Problems[1].Offset, d.vmdk.offset+int64(grain); got != at {
		t.Errorf("problem %v, want it at %#x", r.Problems[1], at)
	}
}

func TestCheckOVACancelled(t *testing.T) {
	b := smallOVA(t, "", "")
	d, err := OpenOVA(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := d.Check(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

// TestCutOVA cuts a package everywhere: what was cut off is never taken for
// zeros.
func TestCutOVA(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 5))
	path, _ := writeOVA(t, rawFile(t, 1<<20, put{0, random(r, 1<<20, false)}), OVAOptions{Name: "vm"})
	b := readFile(t, path)
	whole := len(b) - 2*tarBlock
	for n := 0; n < whole; n += 4096 {
		if d, err := OpenOVA(bytes.NewReader(b[:n]), int64(n)); err == nil {
			t.Errorf("cut at %#x of %#x: no error, %d bytes", n, len(b), d.Size())
		}
	}
	if _, err := OpenOVA(bytes.NewReader(b[:whole]), int64(whole)); err != nil {
		t.Errorf("without the two blocks at the end: %v", err)
	}
}

// FuzzOpenOVA changes what comes before the disk; inside it is FuzzOpenVMDK's.
func FuzzOpenOVA(f *testing.F) {
	p := smallParts(f, smallOVF)
	disk := p[2].data
	headOf := func(b []byte) []byte { return b[:bytes.Index(b, disk)] }
	good := headOf(pack(f, p[0], p[1], p[3], p[2]))
	f.Add(good)
	f.Add(headOf(pack(f, p[0], p[2])))
	f.Add(withSize(bytes.Clone(good), "\x80\x00\x00\x00\x40\x00\x00\x00\x00\x00\x00\x00"))
	f.Add(headOf(special(f, &tar.Header{Typeflag: tar.TypeReg, Name: "x", Format: tar.FormatPAX, PAXRecords: map[string]string{"comment": "x"}})))
	f.Fuzz(func(t *testing.T, head []byte) {
		b := append(bytes.Clone(head), disk...)
		if d, err := OpenOVA(bytes.NewReader(b), int64(len(b))); err == nil {
			d.Info()
			readData(d)
			d.Check(context.Background(), nil)
		}
	})
}
