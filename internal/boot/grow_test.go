package boot

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// grow runs the script where the ESP is vda1 and the pool on a partition whose
// size systemd-repart changes to after; more is zpool's EXPANDSZ. It gives the
// commands that changed something.
func grow(t *testing.T, part, after, more string) string {
	t.Helper()
	dir := t.TempDir()
	script := map[string]string{
		"findmnt":        "echo /dev/vda1",
		"zpool":          `case $1 in list) printf 'rpool\t1\t1\t1\t-\t-\n\t/dev/` + part + `\t1\t1\t1\t-\t` + more + `\t0\n' ;; *) echo "zpool $*" >>"$LOG" ;; esac`,
		"systemd-repart": `echo "repart ${*##*/}" >>"$LOG"; echo ` + after + ` >"$KLDLOAD_SYSFS/class/block/` + part + `/size"`,
		"udevadm":        ":",
	}
	errs := []error{os.MkdirAll(filepath.Join(dir, "bin"), 0o755), os.MkdirAll(filepath.Join(dir, "sys/class/block"), 0o755)}
	for name, text := range script {
		errs = append(errs, os.WriteFile(filepath.Join(dir, "bin", name), []byte("#!/bin/sh\n"+text+"\n"), 0o755))
	}
	for _, p := range []string{"vda1", "vda2", "vdb1"} {
		real := filepath.Join(dir, "sys/devices", p[:3], p)
		errs = append(errs, os.MkdirAll(real, 0o755), os.WriteFile(filepath.Join(real, "partition"), nil, 0o644),
			os.WriteFile(filepath.Join(real, "size"), []byte("1000\n"), 0o644),
			os.Symlink(real, filepath.Join(dir, "sys/class/block", p)))
	}
	cmd := exec.Command("sh", "files/grow-zfs-root", "rpool")
	cmd.Env = append(os.Environ(), "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"),
		"KLDLOAD_SYSFS="+filepath.Join(dir, "sys"), "LOG="+filepath.Join(dir, "log"))
	out, err := cmd.CombinedOutput()
	if err := errors.Join(append(errs, err)...); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	log, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(log))
}

func TestGrow(t *testing.T) {
	for _, c := range []struct{ name, part, after, more, want string }{
		{"nothing to do", "vda2", "1000", "-", "repart"},
		{"the disk grew", "vda2", "2000", "-", "repart\nzpool online -e rpool /dev/vda2"},
		{"the power went after the partition grew", "vda2", "1000", "4096", "repart\nzpool online -e rpool /dev/vda2"},
		{"another disk is left alone", "vdb1", "2000", "-", ""},
	} {
		got := grow(t, c.part, c.after, c.more)
		if first, rest, _ := strings.Cut(got, "\n"); strings.HasPrefix(first, "repart") {
			got = strings.TrimSpace("repart\n" + rest)
		}
		if got != c.want {
			t.Errorf("%s: ran %q, want %q", c.name, got, c.want)
		}
	}
}
