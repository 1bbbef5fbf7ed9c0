package diskimage

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"testing"
)

func TestVHDXOptions(t *testing.T) {
	for _, c := range []struct {
		size int64
		opts VHDXOptions
		want string // part of the message
	}{
		{0, VHDXOptions{}, "vhdx disk of 0 bytes"},
		{64<<40 + 1, VHDXOptions{}, "vhdx disk of 70368744177665 bytes, want 1 byte to 64 TiB"},
		{512, VHDXOptions{Subformat: "sparse"}, `vhdx subformat "sparse"`},
		{512, VHDXOptions{BlockSize: 3 << 20}, "vhdx block size 3145728"},
		{512, VHDXOptions{BlockSize: 512 << 10}, "vhdx block size 524288"},
		{512, VHDXOptions{BlockSize: 512 << 20}, "vhdx block size 536870912"},
		{512, VHDXOptions{LogicalSectorSize: 520}, "vhdx logical sector size 520"},
	} {
		if err := NewVHDXWriter(discard{}, c.opts).Begin(c.size); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%d bytes, %+v: %v, want %q", c.size, c.opts, err, c.want)
		}
	}
}

// TestVHDXDefaultBlock holds the default block size and the length of the BAT.
func TestVHDXDefaultBlock(t *testing.T) {
	for _, c := range []struct{ size, block, bat int64 }{
		{1, 1 << 20, 1 << 20}, {1 << 30, 1 << 20, 1 << 20}, {1 << 40, 1 << 20, 9 << 20},
		{1<<40 + 1, 2 << 20, 5 << 20}, {64 << 40, 64 << 20, 9 << 20},
	} {
		w := NewVHDXWriter(discard{}, VHDXOptions{})
		if err := w.Begin(c.size); err != nil {
			t.Fatal(err)
		}
		if w.g.blockSize != c.block || w.batLength() != c.bat {
			t.Errorf("%d bytes: blocks of %d, BAT of %d bytes, want %d and %d", c.size, w.g.blockSize, w.batLength(), c.block, c.bat)
		}
	}
}

// TestVHDXIdentity looks for the GUIDs in the file: the disk's own is the one
// given, or derived from the disk, and the others follow from it.
func TestVHDXIdentity(t *testing.T) {
	uuid := [16]byte{0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}
	given, derived := smallVHDX(t, VHDXOptions{UUID: uuid}), smallVHDX(t, VHDXOptions{})
	writeGUIDs := func(b []byte) string { return string(b[vhdxHeadersAt[1]+16:][:32]) }
	if writeGUIDs(given) == writeGUIDs(derived) || writeGUIDs(given)[:16] == writeGUIDs(given)[16:] {
		t.Error("GUIDs of the headers are the same")
	}
	path := create(t, "given.vhdx").Name()
	if err := os.WriteFile(path, given, 0o600); err != nil {
		t.Fatal(err)
	}
	i := open(t, path, OpenOptions{}).Info()
	want := []Detail{{"creator", "kldload"}, {"disk id", "00112233-4455-6677-8899-aabbccddeeff"},
		{"logical sector size", "512"}, {"physical sector size", "4096"}}
	for k, d := range want {
		if i.Details[k] != d {
			t.Errorf("detail %v, want %v", i.Details[k], d)
		}
	}
	if i.Format != VHDX || i.Subformat != "dynamic" || i.BlockSize != 1<<20 || i.VirtualSize != 5<<20+512 {
		t.Errorf("info %+v", i)
	}
}

// TestVHDXStates: a block without data is said to be zero, not to be absent,
// which may read as anything; and nothing of it is in the file.
func TestVHDXStates(t *testing.T) {
	b := smallVHDX(t, VHDXOptions{})
	for i, want := range []uint64{vhdxZero, 4<<20 | vhdxPresent, 5<<20 | vhdxPresent, vhdxZero, vhdxZero, 6<<20 | vhdxPresent} {
		if e := binary.LittleEndian.Uint64(b[vhdxBATAt+8*i:]); e != want {
			t.Errorf("entry %d is %#x, want %#x", i, e, want)
		}
	}
	if len(b) != 7<<20 {
		t.Errorf("file of %#x bytes, want 7 MiB", len(b))
	}
}

// TestVHDXLargerEngineBlocks feeds a sink blocks that are larger than its own.
func TestVHDXLargerEngineBlocks(t *testing.T) {
	r := rand.New(rand.NewPCG(31, 32))
	path := rawFile(t, 9<<20, put{3 << 20, random(r, 1<<20, true)}, put{6<<20 - 100, random(r, 200, true)})
	src := open(t, path, OpenOptions{Format: Raw})
	with, alone := create(t, "with"), create(t, "alone")
	res, err := Write(context.Background(), src, WriteOptions{}, NewVHDXWriter(with, VHDXOptions{}),
		NewQCOW2Writer(create(t, "qcow2"), QCOW2Options{ClusterSize: 2 << 20, NoDigest: true}))
	if err != nil {
		t.Fatal(err)
	}
	want, err := Write(context.Background(), src, WriteOptions{}, NewVHDXWriter(alone, VHDXOptions{}))
	if err != nil || res[0] != want[0] {
		t.Errorf("%v: beside qcow2 %+v, alone %+v", err, res[0], want[0])
	}
	sameDisk(t, src, open(t, with.Name(), OpenOptions{}))
}

// TestVHDXFullTarget: an error while writing reaches the caller and leaves
// nothing that opens.
func TestVHDXFullTarget(t *testing.T) {
	src := open(t, rawFile(t, 8<<20, put{0, random(rand.New(rand.NewPCG(1, 1)), 8<<20, false)}), OpenOptions{Format: Raw})
	for _, kind := range []VHDXSubformat{VHDXDynamic, VHDXFixed} {
		f := create(t, "x.vhdx")
		if _, err := Write(context.Background(), src, WriteOptions{}, NewVHDXWriter(&brokenTarget{f, 3 << 20}, VHDXOptions{Subformat: kind})); err == nil {
			t.Errorf("%s: no error", kind)
		}
		if format, err := Detect(f, 8<<20); err == nil && format == VHDX {
			t.Errorf("%s: the part left is taken for a VHDX", kind)
		}
	}
}

// spots is a Disk that holds a MiB at its start, middle and end.
type spots struct{ stripes }

func (d *spots) NextData(off int64) (int64, int64, error) {
	for _, at := range [3]int64{0, d.size / 2, d.size - 1<<20} {
		if off < at+1<<20 {
			return max(off, at), at + 1<<20, nil
		}
	}
	return d.size, d.size, nil
}

// TestVHDX64TiB writes the largest disk there is and reads it back; one sector
// more is refused, see TestVHDXOptions.
func TestVHDX64TiB(t *testing.T) {
	src := &spots{stripes{64 << 40}}
	f := create(t, "large.vhdx")
	res, err := Write(context.Background(), src, WriteOptions{}, NewVHDXWriter(f, VHDXOptions{NoDigest: true}))
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(3+9+3*64) << 20; res[0].Size != want {
		t.Errorf("file of %d bytes, want %d", res[0].Size, want)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	ours := open(t, f.Name(), OpenOptions{})
	sameDisk(t, src, ours)
	mustCheck(t, ours)
	runtime.ReadMemStats(&after)
	if after.HeapInuse > before.HeapInuse+64<<20 {
		t.Errorf("heap grew from %d to %d bytes", before.HeapInuse, after.HeapInuse)
	}
	qemu(t, "qemu-img", "check", "-q", "-f", "vhdx", f.Name())
}
