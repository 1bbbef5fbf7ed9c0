package diskimage

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var vmdkSubformats = [...]VMDKSubformat{VMDKStreamOptimized, VMDKMonolithicSparse}

// TestVMDKJudgedByQEMU writes each disk in each subformat, lets qemu-img compare
// check it and compare it with the source. The strict reader of vmdk_strict_test.go reads streamOptimized from front to
// back.
func TestVMDKJudgedByQEMU(t *testing.T) {
	for _, disk := range testDisks() {
		path := rawFile(t, disk.size, disk.puts...)
		for _, sub := range vmdkSubformats {
			t.Run(disk.name+"/"+string(sub), func(t *testing.T) {
				t.Parallel()
				src := open(t, path, OpenOptions{Format: Raw})
				f := create(t, "out.vmdk")
				_, err := Write(context.Background(), src, WriteOptions{}, NewVMDKWriter(f, VMDKOptions{Subformat: sub, NoDigest: true}))
				if err != nil {
					t.Fatal(err)
				}
				if disk.size < 1<<40 {
					qemu(t, "qemu-img", "check", "-f", "vmdk", f.Name())
					qemu(t, "qemu-img", "compare", "-f", "raw", "-F", "vmdk", path, f.Name())
				} else {
					compareData(t, disk, f.Name())
				}
				if sub == VMDKStreamOptimized {
					readStrictly(t, f, src)
				}
				if disk.size > 0 { // an empty disk gets a sector
					sameDisk(t, src, open(t, f.Name(), OpenOptions{RefuseRaw: true}))
				}
			})
		}
	}
}

// readStrictly reads the stream in f and compares its disk with want.
func readStrictly(t *testing.T, f *os.File, want Disk) {
	t.Helper()
	if _, err := f.Seek(0, 0); err != nil {
		t.Fatal(err)
	}
	if err := strictStream(f, want); err != nil {
		t.Fatal(err)
	}
}

// compareData has qemu-img read only where a disk has data: checking and comparing
// 3 TiB takes it half a minute, since its VMDK driver looks at one grain at a time.
func compareData(t *testing.T, disk testDisk, path string) {
	t.Helper()
	for _, p := range disk.puts {
		first, last := p.off/512, ceilDiv(p.off+int64(len(p.data)), 512)
		out := filepath.Join(t.TempDir(), "slice.raw")
		qemu(t, "qemu-img", "dd", "-f", "vmdk", "-O", "raw", "bs=512", fmt.Sprintf("skip=%d", first), fmt.Sprintf("count=%d", last),
			"if="+path, "of="+out)
		got, err := os.ReadFile(out)
		if err != nil || !bytes.Equal(got[p.off%512:][:len(p.data)], p.data) {
			t.Fatalf("qemu-img reads other data at %#x (%v)", p.off, err)
		}
	}
}

// TestReadQEMUsVMDK reads what qemu-img writes, by extents and as a whole.
func TestReadQEMUsVMDK(t *testing.T) {
	for _, disk := range testDisks() {
		if disk.size == 0 || disk.size > 1<<40 {
			continue // qemu-img cannot read the first, and takes minutes for the other
		}
		path := rawFile(t, disk.size, disk.puts...)
		for _, sub := range []string{"monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat",
			"streamOptimized", "monolithicSparse,zeroed_grain=on"} {
			t.Run(disk.name+"/"+sub, func(t *testing.T) {
				t.Parallel()
				out := filepath.Join(t.TempDir(), "theirs.vmdk")
				qemu(t, "qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat="+sub, path, out)
				theirs := open(t, out, OpenOptions{RefuseRaw: true, Backing: true})
				if want, _, _ := strings.Cut(sub, ","); theirs.Info().Subformat != want {
					t.Errorf("subformat %q, want %q", theirs.Info().Subformat, want)
				}
				sameDisk(t, open(t, path, OpenOptions{Format: Raw}), theirs)
				backToRaw(t, path, theirs)
			})
		}
	}
}
