package diskimage

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// vhdxVariants are the ways to write a disk of this size that QEMU reads.
func vhdxVariants() map[string]VHDXOptions {
	vs := map[string]VHDXOptions{"dynamic": {}, "fixed": {Subformat: VHDXFixed}, "uuid": {UUID: [16]byte{1, 2, 3}}}
	for _, mib := range []int{1, 2, 32, 256} {
		vs[fmt.Sprintf("dynamic-%dM", mib)] = VHDXOptions{BlockSize: mib << 20}
		vs[fmt.Sprintf("fixed-%dM", mib)] = VHDXOptions{BlockSize: mib << 20, Subformat: VHDXFixed}
	}
	return vs
}

// mustCheck fails when Check finds anything, leaks included.
func mustCheck(t *testing.T, f *File) {
	t.Helper()
	r, err := f.Check(context.Background(), nil)
	if err != nil || !r.OK() || r.Leaked != 0 {
		t.Errorf("check: %v, %+v", err, r)
	}
}

// compareVHDX has qemu-img compare a raw disk with a VHDX. QEMU reads holes of
// a VHDX like data, so of a large disk it is shown where data is and about.
func compareVHDX(t *testing.T, disk testDisk, raw, vhdx string) {
	t.Helper()
	if disk.size < 64<<20 {
		qemu(t, "qemu-img", "compare", "-q", "-f", "raw", "-F", "vhdx", raw, vhdx)
		return
	}
	for _, p := range disk.puts {
		from := max(0, p.off-1<<20) &^ 511
		to := min(disk.size, p.off+int64(len(p.data))+1<<20) &^ 511
		part := fmt.Sprintf("driver=raw,offset=%d,size=%d", from, to-from)
		qemu(t, "qemu-img", "compare", "-q", "--image-opts", part+",file.driver=file,file.filename="+raw,
			part+",file.driver=vhdx,file.file.driver=file,file.file.filename="+vhdx)
	}
}

// TestVHDXJudgedByQEMU writes each disk in each variant and lets qemu-img
// check it and compare it with the source, then reads it back ourselves.
func TestVHDXJudgedByQEMU(t *testing.T) {
	for _, disk := range testDisks() {
		if disk.size == 0 {
			continue // refused, see TestVHDXOptions
		}
		path := rawFile(t, disk.size, disk.puts...)
		for name, opts := range vhdxVariants() {
			if disk.puts == nil && opts.BlockSize != 0 {
				continue
			}
			t.Run(disk.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				src := open(t, path, OpenOptions{Format: Raw})
				f := create(t, "out.vhdx")
				opts.NoDigest = true
				if _, err := Write(context.Background(), src, WriteOptions{}, NewVHDXWriter(f, opts)); err != nil {
					t.Fatal(err)
				}
				qemu(t, "qemu-img", "check", "-q", "-f", "vhdx", f.Name())
				compareVHDX(t, disk, path, f.Name())
				ours := open(t, f.Name(), OpenOptions{RefuseRaw: true})
				sameDisk(t, src, ours)
				mustCheck(t, ours)
			})
		}
	}
}

// TestVHDXReadQEMUs reads what qemu-img writes, by extents and as a whole.
func TestVHDXReadQEMUs(t *testing.T) {
	how := map[string]string{
		"default":  "subformat=dynamic",
		"not-zero": "block_state_zero=off",
		"1M":       "block_size=1M",
		"2M":       "block_size=2M",
		"32M":      "block_size=32M",
		"256M":     "block_size=256M",
		"log":      "log_size=3M",
		"fixed":    "subformat=fixed",
		"fixed-2M": "subformat=fixed,block_size=2M",
	}
	for _, disk := range testDisks() {
		path := rawFile(t, disk.size, disk.puts...)
		for name, option := range how {
			if (disk.size > 1<<30 || disk.size == 0) && name != "default" {
				continue // QEMU takes long over their BAT, or makes one of 2 GiB
			}
			t.Run(disk.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				out := filepath.Join(t.TempDir(), "theirs.vhdx")
				qemu(t, "qemu-img", "convert", "-f", "raw", "-O", "vhdx", "-o", option, path, out)
				theirs := open(t, out, OpenOptions{RefuseRaw: true})
				sameDisk(t, open(t, path, OpenOptions{Format: Raw}), theirs)
				if r, err := theirs.Check(context.Background(), nil); err != nil || !r.OK() {
					t.Errorf("check: %v, %+v", err, r)
				}
				backToRaw(t, path, theirs)
			})
		}
	}
}

// TestVHDX4096 writes disks of 4 KiB sectors. QEMU refuses these whoever wrote
// them, so 7-Zip is asked: for the content of a small one and whether it takes
// the BAT of one with sector bitmaps in it.
func TestVHDX4096(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	for _, disk := range []testDisk{
		{size: 24 << 20, puts: []put{{100, random(r, 2<<20, true)}, {20<<20 - 8192, random(r, 9000, false)}}},
		{size: 70 << 30, puts: []put{{100, random(r, 1<<20, true)}, {70<<30 - 4096, random(r, 4096, false)}}},
	} {
		path := rawFile(t, disk.size, disk.puts...)
		src := open(t, path, OpenOptions{Format: Raw})
		f := create(t, "out.vhdx")
		if _, err := Write(context.Background(), src, WriteOptions{}, NewVHDXWriter(f, VHDXOptions{LogicalSectorSize: 4096, NoDigest: true})); err != nil {
			t.Fatal(err)
		}
		ours := open(t, f.Name(), OpenOptions{})
		sameDisk(t, src, ours)
		mustCheck(t, ours)
		qemuFails(t, "qemu-img", "info", "-f", "vhdx", f.Name())
		if list := qemu(t, "7zz", "l", "-slt", f.Name()); !strings.Contains(list, "Sector Size = 4096") {
			t.Errorf("7-Zip sees other sectors:\n%s", list)
		}
		if disk.size < 1<<30 {
			dir := t.TempDir()
			qemu(t, "7zz", "x", "-o"+dir, f.Name())
			qemu(t, "qemu-img", "compare", "-q", "-f", "raw", "-F", "raw", path, filepath.Join(dir, "out.img"))
		}
	}
}

// qemuFails runs a QEMU tool that has to fail.
func qemuFails(t *testing.T, tool string, args ...string) {
	t.Helper()
	if out, err := exec.Command(tool, args...).CombinedOutput(); err == nil {
		t.Errorf("%s %q does not fail:\n%s", tool, args, out)
	}
}
