package repack

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kldload/kldload/internal/gpt"
)

// What the tests plant; nothing of it may be on the new disk.
const (
	deletedText = "deleted-f00d-5ecret-of-the-old-disk"
	swappedText = "swapped-out-5ecret-of-the-old-disk"
)

// fillRoot makes a small system in a mounted file system.
func fillRoot(t testing.TB, dir string) {
	t.Helper()
	put(t, dir, "etc/machine-id", "0123456789abcdef0123456789abcdef\n", 0o444)
	put(t, dir, "etc/hostname", "old-name\n", 0o644)
	put(t, dir, "etc/shadow", "root:$y$j9T$hash:20000:0:99999:7:::\nbin:*:1:0:99999:7:::\n", 0o640)
	put(t, dir, "etc/ssh/ssh_host_ed25519_key", "a key of the old machine", 0o600)
	put(t, dir, "usr/bin/tool", strings.Repeat("program ", 100_000), 0o755)
	put(t, dir, "var/log/syslog", "a line of the old machine", 0o640)
	put(t, dir, "srv/äöü/\x01odd\xffname", "odd", 0o600)
	put(t, dir, "srv/setuid", "x", 0o755)
	for _, c := range [][]string{
		{"chmod", "4755", dir + "/srv/setuid"}, {"chown", "1000:1001", dir + "/srv/äöü"},
		{"mknod", "-m", "600", dir + "/srv/char", "c", "4", "65"}, {"mknod", dir + "/srv/block", "b", "8", "1"}, {"mkfifo", dir + "/srv/fifo"},
		{"ln", "-s", "../usr/bin/tool", dir + "/srv/short"}, {"ln", "-s", strings.Repeat("long/", 50), dir + "/srv/long"},
		{"ln", dir + "/usr/bin/tool", dir + "/srv/second-name"}, {"ln", dir + "/var/log/syslog", dir + "/srv/kept-log"},
		{"setfattr", "-n", "user.big", "-v", strings.Repeat("v", 600), dir + "/srv/setuid"},
		{"setfattr", "-n", "user.small", "-v", "1", dir + "/srv/äöü"},
		{"setfacl", "-m", "u:1234:rwx,g:99:r", dir + "/srv/setuid"}, {"setfacl", "-d", "-m", "u:7:rx", dir + "/srv/äöü"},
		{"setcap", "cap_net_raw+ep", dir + "/usr/bin/tool"},
		{"truncate", "-s", "40M", dir + "/srv/sparse"}, {"fallocate", "-l", "1M", dir + "/srv/unwritten"},
		{"touch", "-d", "2001-02-03T04:05:06.123456789Z", dir + "/usr/bin/tool", dir + "/srv/äöü"},
		{"touch", "-h", "-d", "1971-02-03T04:05:06.5Z", dir + "/srv/short"},
	} {
		run(t, c[0], c[1:]...)
	}
	f, err := os.OpenFile(filepath.Join(dir, "srv/sparse"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("far out"), 30*mib+5); err != nil {
		t.Fatal(err)
	}
	fillSwapFile(t, filepath.Join(dir, "srv/swap area"))
	for i := range 300 {
		put(t, dir, "srv/many/"+strings.Repeat("n", i%200+1)+string(rune('a'+i%26)), "x", 0o644)
	}
	put(t, dir, "srv/deleted", strings.Repeat(deletedText, 10_000), 0o644)
	run(t, "sync", "-f", dir)
	if err := os.Remove(filepath.Join(dir, "srv/deleted")); err != nil {
		t.Fatal(err)
	}
}

func fillSwapFile(t testing.TB, name string) {
	t.Helper()
	content := make([]byte, 2*mib)
	copy(content[mib:], swappedText)
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "mkswap", "-U", "11112222-3333-4444-5555-666677778888", name)
}

// ext4Disk is a disk with a root that mke2fs made and a kernel filled.
func ext4Disk(t testing.TB, mke2fs ...string) string {
	t.Helper()
	dir := t.TempDir()
	file := func(name string, size string) string {
		path := filepath.Join(dir, name)
		run(t, "truncate", "-s", size, path)
		return path
	}
	root := file("root", "96M")
	run(t, "mke2fs", append(append([]string{"-q", "-t", "ext4", "-L", "the-root", "-U", "aaaabbbb-cccc-4ddd-8eee-ffff00001111"}, mke2fs...), root)...)
	m := mount(t, root, "rw")
	fillRoot(t, m)
	run(t, "mount", "-o", "remount,ro", m) // done with the journal, whoever else sees the mount
	run(t, "umount", m)
	esp := file("esp", "34M")
	run(t, "mkfs.vfat", "-F", "32", "-n", "ESP", "-i", "1234ABCD", esp)
	fillESP(t, dir, esp)
	swap := file("swap", "2M")
	fillSwapFile(t, swap)
	put(t, dir, "bios", "core.img of a loader", 0o644)
	return makeDisk(t, 145*mib, []layout{
		{gpt.Partition{Type: gpt.TypeBIOSBoot, Name: "bios", Size: mib}, filepath.Join(dir, "bios")},
		{gpt.Partition{Type: gpt.TypeESP, Name: "esp", Size: 34 * mib, Attributes: gpt.AttrRequired}, esp},
		{gpt.Partition{Type: gpt.TypeLinuxRootX8664, Name: "root", Size: 96 * mib, Attributes: gpt.AttrGrowFS}, root},
		{gpt.Partition{Type: gpt.TypeLinuxSwap, Name: "swap", Size: 2 * mib}, swap},
		{gpt.Partition{Type: gpt.TypeLinux, Name: "empty", Size: 4 * mib}, ""},
	})
}

// fillESP puts files on a FAT image and deletes one.
func fillESP(t testing.TB, dir, esp string) {
	t.Helper()
	put(t, dir, "Long Name of a loader.efi", strings.Repeat("loader", 5000), 0o644)
	put(t, dir, "random-seed", "a seed of the old machine", 0o644)
	put(t, dir, "gone", deletedText, 0o644)
	run(t, "mmd", "-i", esp, "::EFI", "::EFI/Boot", "::loader")
	run(t, "mcopy", "-m", "-i", esp, dir+"/Long Name of a loader.efi", "::EFI/Boot/")
	run(t, "mcopy", "-i", esp, dir+"/random-seed", "::loader/")
	run(t, "mcopy", "-i", esp, dir+"/gone", "::")
	run(t, "mdel", "-i", esp, "::gone")
}

// sealedNames are what the seal changes in fillRoot's tree.
var sealedNames = []string{"etc", "etc/machine-id", "etc/hostname", "etc/shadow", "etc/ssh/ssh_host_ed25519_key", "etc/cloud", "etc/cloud/cloud.cfg.d",
	"etc/cloud/cloud.cfg.d/99-datasource.cfg", "etc/kldload", "etc/kldload/sealed", "var/log/syslog", "srv/kept-log", "srv/swap area", "usr/bin/tool"}

func without(m map[string]string, names []string) map[string]string {
	for _, n := range names {
		delete(m, n)
	}
	return m
}

func TestExt4(t *testing.T) {
	for _, c := range []struct {
		name   string
		mke2fs []string
	}{
		{"as Debian makes it", nil},
		{"of old", []string{"-O", "^metadata_csum,^64bit,^flex_bg,^has_journal", "-b", "1024", "-I", "128", "-m", "0"}},
		{"all there is", []string{"-O", "metadata_csum_seed,meta_bg,^resize_inode,large_dir,ea_inode,orphan_file", "-N", "20000", "-m", "2"}},
	} {
		t.Run(c.name, func(t *testing.T) { testExt4(t, ext4Disk(t, c.mke2fs...)) })
	}
}

func testExt4(t *testing.T, in string) {
	out, report := mustRepack(t, in)
	strip := func(s, name string) string { return strings.ReplaceAll(s, name, "disk") }
	if diff := cmp.Diff(strip(run(t, "sfdisk", "-d", in), in), strip(run(t, "sfdisk", "-d", out), out)); diff != "" {
		t.Errorf("partition tables differ:\n%s", diff)
	}
	old, root, swap := partition(t, in, 3), partition(t, out, 3), partition(t, out, 4)
	run(t, "e2fsck", "-fn", root)
	run(t, "fsck.vfat", "-n", partition(t, out, 2))
	for _, field := range []string{"UUID", "LABEL"} {
		for n, file := range map[int]string{3: root, 4: swap} {
			a, b := run(t, "blkid", "-p", "-s", field, "-o", "value", partition(t, in, n)), run(t, "blkid", "-p", "-s", field, "-o", "value", file)
			if a != b {
				t.Errorf("%s of partition %d: %q, was %q", field, n, b, a)
			}
		}
	}
	was, is := mount(t, old, "ro,noload"), mount(t, root, "ro,noload")
	before, after := manifest(t, was), manifest(t, is)
	if !strings.Contains(before["srv/setuid"], "posix_acl") || strings.Contains(after["usr/bin/tool"], "security.capability") == false {
		t.Fatalf("the tree lacks what the test is about: %s\n%s", before["srv/setuid"], after["usr/bin/tool"])
	}
	if a, b := before["usr/bin/tool"], after["usr/bin/tool"]; a != b {
		t.Errorf("a hard link: %s\nwas %s", b, a)
	}
	if diff := cmp.Diff(without(before, sealedNames), without(after, sealedNames)); diff != "" {
		t.Errorf("trees differ (-was +is):\n%s", diff)
	}
	checkSealedTree(t, is)
	if a, b := run(t, "du", "--block-size=1", was+"/srv/swap area"), run(t, "du", "--block-size=1", is+"/srv/swap area"); strings.Fields(a)[0] != strings.Fields(b)[0] {
		t.Errorf("a swap file takes %s: want what it took, %s", b, a)
	}
	if id := run(t, "blkid", "-p", "-s", "UUID", "-o", "value", is+"/srv/swap area"); id != "11112222-3333-4444-5555-666677778888\n" {
		t.Errorf("a swap file has the UUID %s", id)
	}
	checkPlanted(t, in, out)
	if !holds(t, out, "core.img of a loader") {
		t.Error("the BIOS boot partition was not copied")
	}
	esp := run(t, "mdir", "-/", "-b", "-i", partition(t, out, 2), "::")
	if !strings.Contains(esp, "::/EFI/Boot/Long Name of a loader.efi") || strings.Contains(esp, "random-seed") {
		t.Errorf("the ESP has %s: want the loader, and no random seed of the old machine", esp)
	}
	if report.Changed() < 5 || len(report.Notes) == 0 {
		t.Errorf("report: %d items changed, notes %q: want what was sealed, and that it does not boot", report.Changed(), report.Notes)
	}
	again, _ := mustRepack(t, in)
	if digest(t, again) != digest(t, out) {
		t.Error("the same input gave other bytes")
	}
	next, second := mustRepack(t, out)
	if second.Changed() != 0 {
		t.Errorf("sealing a sealed disk changed %d items", second.Changed())
	}
	if digest(t, next) != digest(t, out) {
		t.Error("a sealed disk re-packed is another one")
	}
}

func checkSealedTree(t *testing.T, dir string) {
	t.Helper()
	for name, want := range map[string]string{"etc/machine-id": "", "etc/kldload/sealed": "sealed by kldload\n", "srv/kept-log": "a line of the old machine"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v; want %q", name, b, err, want)
		}
	}
	for _, name := range []string{"etc/hostname", "etc/ssh/ssh_host_ed25519_key"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s is still there", name)
		}
	}
	shadow, err := os.ReadFile(filepath.Join(dir, "etc/shadow"))
	if err != nil || strings.Contains(string(shadow), "hash") {
		t.Errorf("etc/shadow: %q, %v", shadow, err)
	}
}

// checkPlanted wants what was deleted on the old disk alone.
func checkPlanted(t *testing.T, in, out string) {
	t.Helper()
	for _, text := range []string{deletedText, swappedText} {
		if !holds(t, in, text) {
			t.Errorf("the input does not hold %q: the test shows nothing", text)
		}
		if holds(t, out, text) {
			t.Errorf("the new disk holds %q", text)
		}
	}
}

// A journal that was not replayed is refused: the files are not what they were.
func TestExt4Dirty(t *testing.T) {
	in := ext4Disk(t)
	f, err := os.OpenFile(in, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, _ := f.Stat()
	table, err := gpt.Read(f, st.Size())
	if err != nil {
		t.Fatal(err)
	}
	part := partition(t, in, 3)
	run(t, "debugfs", "-w", "-R", "feature needs_recovery", part)
	from, err := os.Open(part)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	copySparse(t, f, table.Partitions[2].Start, from)
	_, _, err = repackFile(t, in, Options{})
	if err == nil || !strings.Contains(err.Error(), "journal needs recovery") || !strings.Contains(err.Error(), "partition 3") {
		t.Errorf("a journal that needs recovery: %v", err)
	}
}
