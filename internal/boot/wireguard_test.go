package boot

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// wireguardScript is what the unit runs, in a folder of its own, by systemd's
// rules for lines that go on and with the unit's umask.
func wireguardScript(t *testing.T, dir string) string {
	t.Helper()
	m := regexp.MustCompile(`(?s)ExecStart=/bin/sh -ec '(.*)'\n`).FindStringSubmatch(wireguardUnit)
	if m == nil {
		t.Fatalf("no script in\n%s", wireguardUnit)
	}
	script := strings.ReplaceAll(m[1], "\\\n", " ")
	return "umask 0077; " + strings.ReplaceAll(script, "/etc/wireguard", dir)
}

// fakeWG makes keys that tell where they come from.
func fakeWG(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	script := "#!/bin/sh\ncase $1 in\ngenkey) echo secret-$$ ;;\npubkey) read key; echo \"public of $key\" ;;\nesac\n"
	if err := os.WriteFile(filepath.Join(dir, "wg"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return "PATH=" + dir + ":" + os.Getenv("PATH")
}

func TestWireGuardKeyIsMadeAndNotTold(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "wireguard")
	cmd := exec.Command("/bin/sh", "-ec", wireguardScript(t, dir))
	cmd.Env = append(os.Environ(), fakeWG(t))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("%v: it says %q", err, out)
	}
	private, err := os.ReadFile(filepath.Join(dir, "private.key"))
	if err != nil {
		t.Fatal(err)
	}
	public, err := os.ReadFile(filepath.Join(dir, "public.key"))
	if err != nil || string(public) != "public of "+string(private) || !strings.HasPrefix(string(private), "secret-") {
		t.Errorf("%v: private %q, public %q", err, private, public)
	}
	for name, want := range map[string]os.FileMode{"": 0o700, "private.key": 0o600, "public.key": 0o644} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Mode().Perm() != want {
			t.Errorf("%q: %v, %v", name, st.Mode(), err)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

// TestUnitsAreSound asks systemd about each unit that is an image's own.
func TestUnitsAreSound(t *testing.T) {
	dir := t.TempDir()
	for _, f := range zfsConf.Files() {
		name, unit := strings.CutPrefix(f.Path, units)
		if !unit || f.Link != "" || strings.Contains(name, "/") {
			continue
		}
		// Programs of an image are not here.
		text := regexp.MustCompile(`(?m)^ExecStart=/\S+`).ReplaceAllString(f.Content, "ExecStart=/bin/true")
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", filepath.Join(dir, name)).CombinedOutput()
		if err != nil || strings.Contains(string(out), name) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}
