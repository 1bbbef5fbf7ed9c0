package verify

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/kldload/kldload/internal/boot"
)

// archive makes an initramfs with the tools initramfs-tools uses.
func archive(t *testing.T, compress string, files ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	for _, f := range files {
		full := filepath.Join(dir, f)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte("module of odd size"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("sh", "-c", "find . | sort | cpio --quiet -o -H newc | "+compress)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func paths(r []byte) (map[string]bool, error) {
	have := map[string]bool{}
	err := listInitramfs(bytes.NewReader(r), func(name string) { have[strings.TrimPrefix(name, "./")] = true })
	return have, err
}

func TestListInitramfs(t *testing.T) {
	early := archive(t, "cat", "kernel/x86/microcode/GenuineIntel.bin")
	early = append(early, make([]byte, 512-len(early)%512)...)
	for _, compress := range []string{"cat", "zstd -q", "gzip"} {
		main := archive(t, compress, "usr/lib/modules/6.1/kernel/fs/ext4/ext4.ko", "bin/sh")
		for _, prefix := range [][]byte{nil, early} {
			have, err := paths(append(prefix[:len(prefix):len(prefix)], main...))
			if err != nil || !have["usr/lib/modules/6.1/kernel/fs/ext4/ext4.ko"] || !have["bin/sh"] ||
				have["kernel/x86/microcode/GenuineIntel.bin"] != (prefix != nil) {
				t.Errorf("%s: got %v, %v", compress, have, err)
			}
		}
	}
	if _, err := paths(archive(t, "xz --check=crc32", "a")); err == nil || !strings.Contains(err.Error(), "hint:") {
		t.Errorf("xz: got %v", err)
	}
}

func FuzzListInitramfs(f *testing.F) {
	f.Add([]byte("070701000000"))
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0, 0})
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = paths(b) })
}

// memory is a root or an ESP of files alone.
type memory struct{ fstest.MapFS }

func (m memory) Resolve(name string) (string, error) { return name, nil }

func zfsImage(t *testing.T, files ...string) *image {
	return &image{
		rootType: boot.ZFS, devices: []device{{names: []string{"ZFS=rpool/ROOT/default"}},
			{names: []string{"UUID=ABCD-1234"}, mounts: []string{"/boot/efi"}, must: true}},
		root: memory{fstest.MapFS{"lib/modules/6.1/modules.builtin": {Data: []byte("kernel/fs/ext4/ext4.ko\n")},
			"etc/fstab": {Data: []byte("UUID=ABCD-1234 /boot/efi vfat umask=0077 0 2\n")}}},
		esp: fstest.MapFS{"debian/6.1/linux": {Data: []byte("K")}, "debian/6.1/initrd": {Data: archive(t, "zstd -q", files...)},
			"loader/entries/debian-6.1.conf": {Data: []byte("version 6.1\noptions root=ZFS=rpool/ROOT/default quiet\nlinux /debian/6.1/linux\ninitrd /debian/6.1/initrd\n")}},
	}
}

func TestRootOnZFS(t *testing.T) {
	const module = "usr/lib/modules/6.1/updates/dkms/zfs.ko"
	for want, files := range map[string][]string{
		"":                        {module, "scripts/zfs", "usr/sbin/zpool"},
		"no zfs module":           {"scripts/zfs", "sbin/zpool", "zfs.kop"},
		"no scripts/zfs":          {module, "sbin/zpool"},
		"no zpool":                {module, "scripts/zfs"},
		"initramfs has a host id": {module, "scripts/zfs", "sbin/zpool", "etc/hostid"},
	} {
		img := zfsImage(t, files...)
		_, err := img.bootEntries()
		if err == nil {
			_, err = img.initramfs()
		}
		if err == nil {
			_, err = img.fstab()
		}
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	img := zfsImage(t)
	img.devices[0].names = []string{"ZFS=rpool/ROOT/other"}
	if _, err := img.bootEntries(); err == nil || !strings.Contains(err.Error(), "want root=ZFS=rpool/ROOT/other") {
		t.Errorf("foreign entry: got %v", err)
	}
}
