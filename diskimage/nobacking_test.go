package diskimage

import (
	"os/exec"
	"path/filepath"
	"testing"
)

func TestNoBackingLooksAtTheImageAlone(t *testing.T) {
	t.Parallel()
	top := filepath.Join(t.TempDir(), "top.qcow2")
	if out, err := exec.Command("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", "/nosuch/base", "-F", "raw", top, "1M").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	f, err := Open(top, OpenOptions{NoBacking: true, Backing: true})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if i := f.Info(); i.Backing != "/nosuch/base" || i.VirtualSize != 1<<20 {
		t.Errorf("%+v", i)
	}
	if r, err := f.Check(t.Context(), nil); err != nil || !r.OK() {
		t.Errorf("%+v, %v", r, err)
	}
	if start, _, err := f.NextData(0); err != nil || start != 1<<20 {
		t.Errorf("data at %d, %v", start, err)
	}
}
