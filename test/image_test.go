//go:build integration

package test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// extent is a partition, in bytes.
type extent struct{ start, size int64 }

// partitions reads a disk's table with sfdisk.
func partitions(t *testing.T, raw string) []extent {
	t.Helper()
	var out struct {
		PartitionTable struct {
			SectorSize int64
			Partitions []struct{ Start, Size int64 }
		}
	}
	if err := json.Unmarshal([]byte(tool(t, "sfdisk", "--json", raw)), &out); err != nil {
		t.Fatal(err)
	}
	var parts []extent
	for _, p := range out.PartitionTable.Partitions {
		parts = append(parts, extent{p.Start * 512, p.Size * 512})
	}
	if len(parts) != 2 || parts[0] != (extent{1 << 20, 512 << 20}) {
		t.Fatalf("partitions %v: want the ESP, 512 MiB at 1 MiB, and the root", parts)
	}
	return parts
}

// attach gives a read-only loop device until the test's end.
func attach(t *testing.T, raw string, e extent) string {
	t.Helper()
	dev := strings.TrimSpace(tool(t, "losetup", "--find", "--show", "--read-only",
		fmt.Sprintf("--offset=%d", e.start), fmt.Sprintf("--sizelimit=%d", e.size), raw))
	t.Cleanup(func() { tool(t, "losetup", "--detach", dev) })
	return dev
}

func mountReadOnly(t *testing.T, dev, kind string) string {
	t.Helper()
	dir := t.TempDir()
	tool(t, "mount", "-t", kind, "-o", "ro", dev, dir)
	t.Cleanup(func() { tool(t, "umount", dir) })
	return dir
}

// judgePool looks at a finished image with its root on ZFS with tools that we
// did not write; this kernel cannot mount it, TestKernelJudgesPools boots one
// that can.
func judgePool(t *testing.T, raw string) {
	root := judgeDisk(t, raw)
	pool := filepath.Join(t.TempDir(), "pool.img")
	tool(t, "dd", "if="+raw, "of="+pool, "bs=1M", "iflag=skip_bytes,count_bytes", "conv=sparse", "status=none",
		fmt.Sprintf("skip=%d", root.start), fmt.Sprintf("count=%d", root.size))
	tool(t, "truncate", fmt.Sprintf("--size=%d", root.size), pool)
	noLeaks(t, pool, "rpool")
}

// judgeExt4 does the same for a root on ext4, and mounts it.
func judgeExt4(t *testing.T, raw string) {
	root := attach(t, raw, judgeDisk(t, raw))
	tool(t, "e2fsck", "-fn", root)
	rootDir := mountReadOnly(t, root, "ext4")
	t.Run("metadata", func(t *testing.T) { judgeMetadata(t, rootDir) })
	t.Run("attributes", func(t *testing.T) { judgeAttributes(t, rootDir) })
	t.Run("sealed", func(t *testing.T) { judgeSealed(t, rootDir) })
	t.Run("packages", func(t *testing.T) { judgePackages(t, rootDir) })
}

// judgeDisk looks at the partitions and the ESP, and gives the root's.
func judgeDisk(t *testing.T, raw string) extent {
	if out := tool(t, "sgdisk", "-v", raw); !strings.Contains(out, "No problems found") {
		t.Error(out)
	}
	parts := partitions(t, raw)
	esp := attach(t, raw, parts[0])
	tool(t, "fsck.vfat", "-n", esp)
	t.Run("esp", func(t *testing.T) { judgeESP(t, esp) })
	return parts[1]
}

// judgeESP reads with mtools, which need no kernel that knows FAT.
func judgeESP(t *testing.T, esp string) {
	dir := t.TempDir()
	tool(t, "mcopy", "-s", "-i", esp, "::/EFI", "::/loader", dir)
	if !strings.HasPrefix(read(t, dir, "EFI/BOOT/BOOTX64.EFI"), "MZ") {
		t.Error("BOOTX64.EFI is no program")
	}
	if got := names(t, filepath.Join(dir, "loader/entries")); len(got) != 1 || !strings.HasSuffix(got[0], ".conf") {
		t.Errorf("loader/entries holds %v", got)
	}
}

func judgeMetadata(t *testing.T, root string) {
	adm := groupOf(t, root, "adm")
	for name, want := range map[string]struct {
		mode, uid, gid uint32
	}{
		"usr/bin/bash":                          {0o100755, 0, 0},
		"usr/bin/sudo":                          {0o104755, 0, 0},
		"etc/shadow":                            {0o100640, 0, groupOf(t, root, "shadow")},
		"etc/sudoers.d/50-ops":                  {0o100440, 0, 0},
		"home/ops":                              {0o040755, 1000, 1000},
		"home/ops/.ssh":                         {0o040700, 1000, 1000},
		"home/ops/.ssh/authorized_keys":         {0o100600, 1000, 1000},
		"opt/probe":                             {0o040755, 0, 0},
		"opt/probe/suid":                        {0o104755, 0, 0},
		"opt/probe/sgid":                        {0o102755, 0, adm},
		"opt/probe/of-ops":                      {0o100600, 1000, 1000},
		"opt/probe/of-nobody":                   {0o100755, 65534, 65534},
		"opt/probe/sticky":                      {0o041777, 0, 0},
		"opt/probe/pipe":                        {0o010644, 0, 0},
		"opt/probe/a name\nof two lines":        {0o100644, 0, 0},
		"opt/probe/ünïcode":                     {0o100644, 0, 0},
		"opt/probe/" + strings.Repeat("x", 255): {0o100644, 0, 0},
		"tmp":                                   {0o041777, 0, 0},
		"var/tmp":                               {0o041777, 0, 0},
		"root":                                  {0o040700, 0, 0},
	} {
		st, ok := lstat(t, root, name)
		if ok && (st.Mode != want.mode || st.Uid != want.uid || st.Gid != want.gid) {
			t.Errorf("/%s: mode %o, owner %d:%d: want %o, %d:%d", name, st.Mode, st.Uid, st.Gid, want.mode, want.uid, want.gid)
		}
	}
	judgeLinks(t, root)
}

func judgeLinks(t *testing.T, root string) {
	plain, _ := lstat(t, root, "opt/probe/plain")
	hard, _ := lstat(t, root, "opt/probe/hard")
	if plain.Ino != hard.Ino || hard.Nlink != 2 {
		t.Errorf("hard link: inodes %d and %d, %d links", plain.Ino, hard.Ino, hard.Nlink)
	}
	for name, want := range map[string]string{
		"opt/probe/soft": "../probe/plain", "opt/probe/dangling": "/no/where", "etc/localtime": "/usr/share/zoneinfo/Europe/Berlin",
		"etc/systemd/system/multi-user.target.wants/hello.service": "/etc/systemd/system/hello.service",
	} {
		if got, err := os.Readlink(filepath.Join(root, name)); err != nil || got != want {
			t.Errorf("/%s → %q, %v: want %q", name, got, err, want)
		}
	}
	past, _ := lstat(t, root, "opt/probe/past")
	future, _ := lstat(t, root, "opt/probe/future")
	if past.Mtim.Sec != 31536000 || future.Mtim.Sec > 2e9 {
		t.Errorf("times: past %d, future %d: want 31536000 and the epoch", past.Mtim.Sec, future.Mtim.Sec)
	}
	if sparse, _ := lstat(t, root, "opt/probe/sparse"); sparse.Size != 5<<20+4 {
		t.Errorf("sparse file of %d bytes", sparse.Size)
	}
}

func judgeAttributes(t *testing.T, root string) {
	probe := filepath.Join(root, "opt/probe")
	for want, args := range map[string][]string{
		"cap_net_admin,cap_net_raw=ep":            {"getcap", "netcap"},
		"user:1000:rw-":                           {"getfacl", "--numeric", "acl"},
		"default:user:1000:rw-":                   {"getfacl", "--numeric", "acl-dir"},
		`user.note="kept"`:                        {"getfattr", "-n", "user.note", "plain"},
		"user.big=\"" + strings.Repeat("v", 2000): {"getfattr", "-n", "user.big", "hard"},
	} {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir = probe
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%v: %v, %s: want %q", args, err, out, want)
		}
	}
}

func judgeSealed(t *testing.T, root string) {
	if got := read(t, root, "etc/machine-id"); got != "" {
		t.Errorf("machine-id %q", got)
	}
	for _, pattern := range []string{"etc/ssh/ssh_host_*", "etc/hostname", "var/lib/dbus/machine-id", "var/lib/apt/lists/*", "var/cache/apt/*",
		"usr/sbin/policy-rc.d", "run/*", "tmp/*", "tmp/.??*", "var/tmp/*", "dev/*", "proc/*", "sys/*", "var/lib/cloud/*",
		"var/lib/systemd/random-seed", "root/.bash_history", "home/*/.bash_history"} {
		if left, err := filepath.Glob(filepath.Join(root, pattern)); err != nil || len(left) > 0 {
			t.Errorf("left in the image: %v %v", left, err)
		}
	}
	if logs := strings.TrimSpace(tool(t, "find", filepath.Join(root, "var/log"), "-type", "f")); logs != "" {
		t.Errorf("logs: %s", logs)
	}
	for _, line := range strings.Split(strings.TrimSpace(read(t, root, "etc/shadow")), "\n") {
		if f := strings.Split(line, ":"); len(f) < 3 || !strings.ContainsAny(f[1][:min(1, len(f[1]))], "!*") {
			t.Errorf("shadow line %q is not locked", line)
		}
	}
	want := "datasource_list: [ NoCloud, ConfigDrive, OpenStack, Ec2, GCE, Azure, OVF, AltCloud, CloudStack, None ]"
	found := 0
	for _, line := range strings.Split(read(t, root, "etc/cloud/cloud.cfg.d/99-datasource.cfg"), "\n") {
		if line == want {
			found++
		}
	}
	if found != 1 {
		t.Errorf("99-datasource.cfg has %d lines %q", found, want)
	}
	if got := read(t, root, "etc/apt/sources.list"); strings.Contains(got, "kldload") {
		t.Errorf("sources.list names the darksite: %q", got)
	}
}

func judgePackages(t *testing.T, root string) {
	status := read(t, root, "var/lib/dpkg/status")
	if !strings.Contains(status, "\nPackage: htop\nStatus: install ok installed\n") {
		t.Error("htop is not installed")
	}
	if out := tool(t, "dpkg", "--root="+root, "--audit"); out != "" {
		t.Errorf("dpkg --audit: %s", out)
	}
}

func lstat(t *testing.T, root, name string) (syscall.Stat_t, bool) {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Lstat(filepath.Join(root, name), &st); err != nil {
		t.Errorf("/%s: %v", name, err)
		return st, false
	}
	return st, true
}

func groupOf(t *testing.T, root, group string) uint32 {
	t.Helper()
	for _, line := range strings.Split(read(t, root, "etc/group"), "\n") {
		var gid uint32
		if rest, ok := strings.CutPrefix(line, group+":x:"); ok {
			if _, err := fmt.Sscanf(rest, "%d:", &gid); err == nil {
				return gid
			}
		}
	}
	t.Fatalf("no group %q", group)
	return 0
}
