package darksite

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kldload/kldload/internal/run"
)

func testKernel() Kernel {
	return Kernel{"cloud", "linux-image-cloud-amd64", "linux-image-6.1.0-9-cloud-amd64", "6.1.0-9-cloud-amd64", "6.1.9-1",
		ZFSModules{"zfs-modules-6.1.0-9-cloud-amd64", "2.1.11-1+6.1.9.1", "2.1.11-1"}}
}

func TestPackedModules(t *testing.T) {
	k := testKernel()
	dir := t.TempDir()
	var debs [][]byte
	for _, name := range []string{"a.deb", "b.deb"} {
		deb := filepath.Join(dir, name)
		if err := packModules(t.Context(), k, fakeModules(t, k.ABI), deb); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(deb)
		if err != nil {
			t.Fatal(err)
		}
		debs = append(debs, data)
	}
	if !bytes.Equal(debs[0], debs[1]) {
		t.Error("packing twice gives other bytes")
	}
	control, err := run.Output(t.Context(), run.Cmd{Doing: "reading", Args: []string{"dpkg-deb", "--field", filepath.Join(dir, "a.deb")}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Package: zfs-modules-6.1.0-9-cloud-amd64\n", "Architecture: amd64\n", "Provides: zfs-modules\n",
		"Depends: linux-image-6.1.0-9-cloud-amd64 (= 6.1.9-1), kmod\n"} {
		if !strings.Contains(string(control), want) {
			t.Errorf("control has no %q:\n%s", want, control)
		}
	}
	list, err := run.Output(t.Context(), run.Cmd{Doing: "listing", Args: []string{"dpkg-deb", "--contents", filepath.Join(dir, "a.deb")}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"./lib/modules/6.1.0-9-cloud-amd64/updates/dkms/zfs.ko\n", "-rw-r--r-- root/root",
		"./usr/share/doc/zfs-modules-6.1.0-9-cloud-amd64/copyright\n"} {
		if !strings.Contains(string(list), want) {
			t.Errorf("contents have no %q:\n%s", want, list)
		}
	}
}

func TestModulesOfAnotherKernelAreRefused(t *testing.T) {
	k := testKernel()
	err := packModules(t.Context(), k, fakeModules(t, "6.1.0-8-cloud-amd64"), filepath.Join(t.TempDir(), "a.deb"))
	wantError(t, err, "is not for kernel 6.1.0-9-cloud-amd64")
	from := fakeModules(t, k.ABI)
	if err := os.Remove(filepath.Join(from, "zfs.ko")); err != nil {
		t.Fatal(err)
	}
	err = packModules(t.Context(), k, from, filepath.Join(t.TempDir(), "a.deb"))
	wantError(t, err, "left no zfs.ko")
}
