package diskimage

import (
	"context"
	"os"
	"testing"
)

var vmdkSubformats = [...]VMDKSubformat{VMDKStreamOptimized, VMDKMonolithicSparse}

// TestVMDKJudgedByQEMU writes each disk in each subformat, lets qemu-img compare
// it with the source and, but for streamOptimized, which it cannot, check it.
// The strict reader of vmdk_strict_test.go reads streamOptimized from front to
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
				qemu(t, "qemu-img", "check", "-f", "vmdk", f.Name())
				qemu(t, "qemu-img", "compare", "-f", "raw", "-F", "vmdk", path, f.Name())
				if sub == VMDKStreamOptimized {
					readStrictly(t, f, src)
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
