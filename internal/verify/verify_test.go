package verify

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kldload/kldload/internal/boot"
	"github.com/kldload/kldload/internal/disk"
	"github.com/kldload/kldload/internal/seal"
	"github.com/kldload/kldload/internal/tree"
	"github.com/kldload/kldload/internal/zpool"
)

const version = "6.1.0-9-amd64"

var epoch = time.Unix(1700000000, 0)

// system is a tree that can boot, and what its disk is made with.
type system struct {
	dir  string
	opts disk.Options
}

func newSystem(t *testing.T, rootType string) *system {
	t.Helper()
	id := disk.NewIdentity("seed")
	s := &system{t.TempDir(), disk.Options{Size: disk.MinSize, Identity: id, Epoch: epoch, Label: "root",
		Boot: boot.Config{RootType: rootType, RootUUID: id.RootUUID(), ESPUUID: id.ESPUUID(), Parameters: boot.DefaultParameters}}}
	if rootType == boot.ZFS {
		s.opts.Pool, s.opts.Boot.RootDataset = zpool.NewRootLayout("rpool"), "rpool/"+zpool.Root
	}
	module := map[string]string{boot.Ext4: "kernel/fs/ext4/ext4.ko", boot.ZFS: "updates/dkms/zfs.ko"}[rootType]
	modules := "usr/lib/modules/" + version + "/"
	for name, text := range map[string]string{
		"boot/vmlinuz-" + version:    "kernel",
		"boot/initrd.img-" + version: string(archive(t, "cat", modules+module, "scripts/zfs", "usr/sbin/zpool")),
		boot.LoaderInTree:            "MZ" + strings.Repeat("\x00", 5000),
		"usr/lib/os-release":         "ID=debian\nPRETTY_NAME=Debian\n",
		modules + "modules.dep":      module + ":\n",
		modules + module:             "module",
		"usr/sbin/zpool":             "tool",
		"etc/passwd":                 "root:x:0:0::/root:/bin/sh\nops:x:1000:1000::/srv/ops:/bin/sh\n",
		"etc/shadow":                 "root:*:19000:0:99999:7:::\nops:!:19000::::::\n",
	} {
		s.put(t, name, text)
	}
	if rootType == boot.Ext4 { // the tools ask for the ZFS module
		if err := os.Remove(filepath.Join(s.dir, "usr/sbin/zpool")); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("usr/lib", filepath.Join(s.dir, "lib")); err != nil {
		t.Fatal(err)
	}
	for _, f := range s.opts.Boot.Files() {
		if f.Link == "" {
			s.put(t, f.Path, f.Content)
		}
	}
	if _, err := seal.Apply(s.dir, seal.Options{}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *system) put(t *testing.T, name, text string) {
	t.Helper()
	full := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// build gives the disk.
func (s *system) build(t *testing.T) *os.File {
	t.Helper()
	var tar bytes.Buffer
	if _, err := tree.Pack(s.dir, &tar, tree.PackOptions{Epoch: epoch}); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if err := f.Truncate(s.opts.Size); err != nil {
		t.Fatal(err)
	}
	if _, err := disk.Build(f, &tar, s.opts); err != nil {
		t.Fatal(err)
	}
	return f
}

// failing runs the checks and gives those that do not hold, by name.
func failing(t *testing.T, f *os.File, o Options) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, c := range Disk(f, disk.MinSize, o) {
		if c.Err != nil {
			all[c.Name] = c.Error
		}
	}
	return all
}

func wantFailing(t *testing.T, f *os.File, o Options, want map[string]string) {
	t.Helper()
	got := failing(t, f, o)
	for name, text := range want {
		if !strings.Contains(got[name], text) || got[name] == "" {
			t.Errorf("%s: got %q, want it to fail with %q", name, got[name], text)
		}
	}
	for name, text := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s fails, too: %s", name, text)
		}
	}
}

func TestGoodDisks(t *testing.T) {
	for _, rootType := range []string{boot.Ext4, boot.ZFS} {
		f := newSystem(t, rootType).build(t)
		checks := Disk(f, disk.MinSize, Options{})
		if err := Failed(checks); err != nil {
			t.Errorf("%s: %v", rootType, err)
		}
		for _, item := range seal.Items(seal.Options{}) {
			if !slices.ContainsFunc(checks, func(c Check) bool { return c.Name == item.Name && c.Group == Seal }) {
				t.Errorf("%s: item %s was not checked", rootType, item.Name)
			}
		}
	}
}

// TestBrokenTrees: each breakage fails its own assertion and no other.
func TestBrokenTrees(t *testing.T) {
	for _, c := range []struct {
		what       string
		name, text string
		want       map[string]string
	}{
		{"a machine id", "etc/machine-id", "0123456789abcdef0123456789abcdef\n", map[string]string{"machine-id": "/etc/machine-id: must be a file that holds"}},
		{"a host key", "etc/ssh/ssh_host_ed25519_key", "k", map[string]string{"ssh-host-keys": "/etc/ssh/ssh_host_ed25519_key: must not be there"}},
		{"a history", "srv/ops/.bash_history", "x", map[string]string{"histories": "/srv/ops/.bash_history"}},
		{"a password", "etc/shadow", "root:$6$x$y:1::::::\n", map[string]string{"accounts": `"root" has a password`, "passwords": "/etc/shadow"}},
		{"a locked password", "etc/shadow", "root:*:1::::::\nops:!$6$x:1::::::\n", map[string]string{"accounts": "can be unlocked", "passwords": "/etc/shadow"}},
		{"an empty password", "etc/shadow", "root::1::::::\n", map[string]string{"accounts": "without a password", "passwords": "/etc/shadow"}},
		{"no root", "etc/shadow", "ops:!:1::::::\n", map[string]string{"accounts": `want a line of "root"`}},
		{"a name", "etc/hostname", "web\n", map[string]string{"hostname": "/etc/hostname: must not be there"}},
		{"an empty loader", boot.LoaderInTree, "MZ", map[string]string{"loader": "is no PE program (2 bytes)"}},
		{"no driver", "boot/initrd.img-" + version, "", map[string]string{"entries": "missing or empty", "kernel modules": "no boot entry", "initramfs": "no boot entry"}},
		{"another disk", "etc/fstab", "UUID=1234 / ext4 defaults 0 1\n", map[string]string{"fstab": "UUID=1234 is on no partition of this disk"}},
		{"a disk that may be away", "etc/fstab", "LABEL=data /data ext4 nofail 0 1\n", map[string]string{"fstab": "is not mounted: want it on /"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			s := newSystem(t, boot.Ext4)
			s.put(t, c.name, c.text)
			wantFailing(t, s.build(t), Options{}, c.want)
		})
	}
}

func TestWhatAnImageMaySay(t *testing.T) {
	s := newSystem(t, boot.Ext4)
	o := seal.Options{Hostname: "web", Keys: []string{"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHUfBBxGdAMZZbDCGvGZtPYnAO5Hxk1MKUXoAk3sBTBr"}}
	s.put(t, "srv/ops/.ssh/authorized_keys", o.Keys[0]+" ops@example\n")
	if _, err := seal.Apply(s.dir, o); err != nil {
		t.Fatal(err)
	}
	f := s.build(t)
	wantFailing(t, f, Options{Seal: o}, nil)
	wantFailing(t, f, Options{}, map[string]string{"hostname": "/etc/hostname", "seal-record": "sealed", "authorized-keys": "/srv/ops/.ssh/authorized_keys"})
}

// mtools runs one of them on the EFI system partition.
func mtools(t *testing.T, f *os.File, tool string, args ...string) {
	t.Helper()
	out, err := exec.Command(tool, append([]string{"-i", f.Name() + "@@1M"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", tool, args, err, out)
	}
}

func TestBrokenESP(t *testing.T) {
	f := newSystem(t, boot.Ext4).build(t)
	mtools(t, f, "mdel", "::EFI/BOOT/BOOTX64.EFI")
	seed := filepath.Join(t.TempDir(), "seed")
	if err := os.WriteFile(seed, []byte("seed"), 0o600); err != nil {
		t.Fatal(err)
	}
	mtools(t, f, "mcopy", seed, "::loader/random-seed")
	wantFailing(t, f, Options{}, map[string]string{"loader": "EFI/BOOT/BOOTX64.EFI", "random-seed": "/boot/efi/loader/random-seed: must not be there"})
}

// TestGRUB: an image that somebody else made, as Debian's cloud images are.
func TestGRUB(t *testing.T) {
	s := newSystem(t, boot.Ext4)
	menu := "menuentry 'Debian' {\n\tsearch --no-floppy\n\tlinux\t/boot/vmlinuz-" + version + " root=PARTUUID=" + strings.ToLower(s.opts.Identity.RootPart.String()) +
		" ro quiet\n\tinitrd\t/boot/initrd.img-" + version + "\n}\nsubmenu 'more' {\n\tlinux /boot/vmlinuz-" + version + " root=UUID=other single\n\tinitrd /boot/other\n}\n"
	s.put(t, "boot/grub/grub.cfg", menu)
	s.put(t, "etc/fstab", "# by hand\nPARTUUID="+strings.ToLower(s.opts.Identity.RootPart.String())+" / ext4 rw 0 1\nLABEL=ESP /boot/efi vfat umask=0077 0 1\n")
	f := s.build(t)
	mtools(t, f, "mdeltree", "::loader")
	wantFailing(t, f, Options{}, nil)

	s.put(t, "boot/grub/grub.cfg", strings.ReplaceAll(menu, "PARTUUID=", "PARTUUID=0"))
	f = s.build(t)
	mtools(t, f, "mdeltree", "::loader")
	noKernel := map[string]string{"kernel modules": "no boot entry", "initramfs": "no boot entry"}
	noKernel["entries"] = "want root=UUID="
	wantFailing(t, f, Options{}, noKernel)

	s.put(t, "boot/grub/grub.cfg", "insmod part_gpt\n")
	f = s.build(t)
	mtools(t, f, "mdeltree", "::loader")
	noKernel["entries"] = "none of GRUB's"
	wantFailing(t, f, Options{}, noKernel)
}

func TestWithoutRoot(t *testing.T) {
	f := newSystem(t, boot.Ext4).build(t)
	const root = 513 << 20
	if _, err := f.WriteAt(make([]byte, 8192), root); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("XFSB"), root); err != nil {
		t.Fatal(err)
	}
	wantFailing(t, f, Options{}, map[string]string{"partitions": "partition 2 (xfs): not supported: want ext4 or ZFS"})
	if err := f.Truncate(0); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(disk.MinSize); err != nil {
		t.Fatal(err)
	}
	wantFailing(t, f, Options{}, map[string]string{"partitions": "no root file system that is ext4 or ZFS"})
}

// TestSnapshots: what a snapshot keeps is in the image. @golden is taken of
// the same tree, so that what breaks one breaks both.
func TestSnapshots(t *testing.T) {
	s := newSystem(t, boot.ZFS)
	s.put(t, "etc/hostid", "host")
	f := s.build(t)
	wantFailing(t, f, Options{}, map[string]string{"hostid": "/etc/hostid", "snapshots": "rpool/ROOT/default@golden:/etc/hostid: must not be there"})
}

// TestPoolInUse changes what the labels say of the host that has the pool.
func TestPoolInUse(t *testing.T) {
	for _, c := range []struct {
		state, host uint64
		fails       bool
	}{{1, 0, false}, {1, 7, false}, {0, 0, false}, {0, 7, true}} {
		label := map[string]any{"state": c.state}
		if c.host != 0 {
			label["hostid"] = c.host
		}
		_, err := importable("rpool", label)
		if (err != nil) != c.fails {
			t.Errorf("state %d, host %d: got %v", c.state, c.host, err)
		}
		if c.fails && !strings.Contains(err.Error(), "in use by host 00000007") {
			t.Errorf("got %v", err)
		}
	}
}

// TestForeignDisk: no bytes make it panic.
func TestForeignDisk(t *testing.T) {
	f := newSystem(t, boot.Ext4).build(t)
	noise := make([]byte, 4096)
	for i := range noise {
		binary.LittleEndian.PutUint16(noise[i/2*2:], uint16(i*40503))
	}
	for at := int64(0); at < 600<<20; at += 13<<20 + 512 {
		if _, err := f.WriteAt(noise, at); err != nil {
			t.Fatal(err)
		}
		_ = Disk(f, disk.MinSize, Options{})
	}
}

func FuzzGrubEntries(f *testing.F) {
	f.Add("linux /boot/vmlinuz-6.1 root=UUID=x\ninitrd /boot/initrd.img-6.1 /../x")
	f.Add("initrd x\nlinux\nlinux .\nlinuxefi /a\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, e := range grubEntries("grub.cfg", text) {
			for _, name := range append([]string{e.Linux}, e.Initrd...) {
				if strings.HasPrefix(name, "/") || strings.HasPrefix(name, "../") {
					t.Errorf("name %q", name)
				}
			}
		}
	})
}
