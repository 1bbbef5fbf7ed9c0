package disk

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kldload/kldload/internal/boot"
	"github.com/kldload/kldload/internal/tree"
	"github.com/kldload/kldload/internal/zpool"
	"github.com/kldload/kldload/zfs"
)

var epoch = time.Unix(1700000000, 0)

func stream(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"boot/vmlinuz-6.1.0-9-amd64": strings.Repeat("kernel", 300000), "boot/initrd.img-6.1.0-9-amd64": strings.Repeat("initrd", 500000),
		boot.LoaderInTree: "MZ loader", "usr/lib/os-release": "ID=debian\nPRETTY_NAME=Debian\n", "etc/passwd": "root:x:0:0::/root:/bin/sh\n",
	} {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(dir, "etc/passwd"), filepath.Join(dir, "etc/zz")); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := tree.Pack(dir, &b, tree.PackOptions{Epoch: epoch}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func build(t *testing.T, tar []byte, seed string) string {
	t.Helper()
	id := NewIdentity(seed)
	conf := boot.Config{RootUUID: id.RootUUID(), RootType: boot.Ext4, ESPUUID: id.ESPUUID(), Parameters: boot.DefaultParameters}
	return buildWith(t, tar, Options{Size: MinSize, Identity: id, Boot: conf, Epoch: epoch, Label: "root"})
}

func buildWith(t *testing.T, tar []byte, opts Options) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk.raw")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(opts.Size); err != nil {
		t.Fatal(err)
	}
	if _, err := Build(f, bytes.NewReader(tar), opts); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return name
}

func tool(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

// carve copies a partition out, for tools that know no offsets.
func carve(t *testing.T, disk string, start, sizeMiB string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "part")
	tool(t, "dd", "if="+disk, "of="+out, "bs=1M", "skip="+start, "count="+sizeMiB, "conv=sparse", "status=none")
	return out
}

func TestForeignToolsAcceptTheDisk(t *testing.T) {
	disk := build(t, stream(t), "seed")
	if out := tool(t, "sgdisk", "-v", disk); !strings.Contains(out, "No problems found") {
		t.Error(out)
	}
	esp, root := carve(t, disk, "1", "512"), carve(t, disk, "513", "510")
	if st, _ := os.Stat(root); st.Size() != 510<<20 {
		t.Fatalf("the root partition has %d bytes", st.Size())
	}
	tool(t, "fsck.vfat", "-n", esp)
	tool(t, "e2fsck", "-fn", root)
	id := NewIdentity("seed")
	if out := tool(t, "blkid", "-p", "-o", "export", root); !strings.Contains(out, "UUID="+id.RootUUID()) {
		t.Errorf("blkid: %s", out)
	}
	if out := tool(t, "blkid", "-p", "-o", "export", esp); !strings.Contains(out, "UUID="+id.ESPUUID()) {
		t.Errorf("blkid: %s", out)
	}
	entry := tool(t, "mtype", "-i", esp, "::loader/entries/debian-6.1.0-9-amd64.conf")
	if !strings.Contains(entry, "options    root=UUID="+id.RootUUID()) {
		t.Errorf("entry: %s", entry)
	}
	if got := tool(t, "mtype", "-i", esp, "::debian/6.1.0-9-amd64/linux"); got != strings.Repeat("kernel", 300000) {
		t.Error("the ESP's kernel is not the tree's")
	}
	if got := tool(t, "debugfs", "-R", "cat /boot/initrd.img-6.1.0-9-amd64", root); !strings.Contains(got, strings.Repeat("initrd", 1000)) {
		t.Error("the root's initramfs is not the tree's")
	}
}

// TestZFSRoot opens the pool of a disk as a boot would.
func TestZFSRoot(t *testing.T) {
	id, tar, layout := NewIdentity("seed"), stream(t), zpool.NewRootLayout("rpool")
	opts := Options{Size: MinSize, Identity: id, Epoch: epoch, Pool: layout,
		Boot: boot.Config{RootType: boot.ZFS, RootDataset: "rpool/" + zpool.Root, ESPUUID: id.ESPUUID(), Parameters: boot.DefaultParameters}}
	disk := buildWith(t, tar, opts)
	if out := tool(t, "sgdisk", "-i", "2", disk); !strings.Contains(out, "6A898CC3-1DD2-11B2-99A6-080020736631") || !strings.Contains(out, "'rpool'") {
		t.Error(out)
	}
	img, err := zpool.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	if report, err := img.Check(t.Context(), zfs.CheckOptions{}); err != nil || !report.OK() {
		t.Errorf("check: %v, %v", report, err)
	}
	system, err := img.Tree("")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := fs.ReadFile(system, "etc/zz"); err != nil || string(got) != "root:x:0:0::/root:/bin/sh\n" {
		t.Errorf("etc/zz: %q, %v", got, err)
	}
	if _, err := img.Dataset("rpool/var/log@" + Golden); err != nil {
		t.Error(err)
	}
	tool(t, "cmp", disk, buildWith(t, tar, opts))
}

func TestSameInputsSameBytes(t *testing.T) {
	tar := stream(t)
	a, b, c := build(t, tar, "x"), build(t, tar, "x"), build(t, tar, "y")
	tool(t, "cmp", a, b)
	if exec.Command("cmp", "-s", a, c).Run() == nil {
		t.Error("another seed gives the same ids")
	}
}

func TestBuildErrors(t *testing.T) {
	id := NewIdentity("s")
	for want, o := range map[string]Options{
		"want whole MiB":  {Size: MinSize + 1, Identity: id},
		"at least":        {Size: 1 << 20, Identity: id},
		"boot/vmlinuz":    {Size: MinSize, Identity: id, Epoch: epoch},
		"body ends after": {Size: MinSize, Identity: id, Epoch: epoch},
	} {
		in := []byte{}
		if want == "boot/vmlinuz" {
			in = stream(t)[:0]
			want = "systemd-boot"
		}
		if want == "body ends after" {
			in = stream(t)[:100000]
		}
		f, err := os.Create(filepath.Join(t.TempDir(), "d"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Build(f, bytes.NewReader(in), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
		f.Close()
	}
}
