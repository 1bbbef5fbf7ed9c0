package verify

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
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

func TestFindModule(t *testing.T) {
	early := archive(t, "cat", "kernel/x86/microcode/GenuineIntel.bin")
	early = append(early, make([]byte, 512-len(early)%512)...)
	for _, compress := range []string{"cat", "zstd -q", "gzip"} {
		with := archive(t, compress, "usr/lib/modules/6.1/kernel/fs/ext4/ext4.ko", "bin/sh")
		without := archive(t, compress, "usr/lib/modules/6.1/kernel/fs/btrfs/btrfs.ko", "bin/ext4.kop")
		for _, prefix := range [][]byte{nil, early} {
			if found, err := findModule(bytes.NewReader(append(prefix[:len(prefix):len(prefix)], with...)), "ext4"); err != nil || !found {
				t.Errorf("%s: got %v, %v", compress, found, err)
			}
			if found, err := findModule(bytes.NewReader(append(prefix[:len(prefix):len(prefix)], without...)), "ext4"); err != nil || found {
				t.Errorf("%s without: got %v, %v", compress, found, err)
			}
		}
	}
	if _, err := findModule(bytes.NewReader(archive(t, "xz --check=crc32", "a")), "ext4"); err == nil || !strings.Contains(err.Error(), "hint:") {
		t.Errorf("xz: got %v", err)
	}
}

func FuzzFindModule(f *testing.F) {
	f.Add([]byte("070701000000"))
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, 0, 0})
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = findModule(bytes.NewReader(b), "ext4") })
}
