package seal

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var opts = Options{Epoch: time.Unix(1700000000, 0), owner: owner{uint32(os.Getuid()), uint32(os.Getgid())}}

// dirFS is what Apply plans over.
func dirFS(t *testing.T, dir string) FS {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return root.FS().(FS)
}

// check gives all violations of a folder.
func check(t *testing.T, dir string, o Options) []Violation {
	t.Helper()
	items, err := Check(dirFS(t, dir), o)
	if err != nil {
		t.Fatal(err)
	}
	var all []Violation
	for _, i := range items {
		all = append(all, i.Violations...)
	}
	return all
}

// planted puts one violation of each item in a tree.
var planted = map[string]string{
	"etc/machine-id":                     "0123456789abcdef0123456789abcdef\n",
	"var/lib/dbus/machine-id":            "x",
	"etc/ssh/ssh_host_ed25519_key":       "k",
	"etc/hostname":                       "builder\n",
	"etc/hostid":                         "abcd",
	"etc/wireguard/wg0.conf":             "[Interface]\nPrivateKey = x\n",
	"etc/wireguard/privatekey":           "x",
	"var/lib/dhcp/dhclient.eth0.leases":  "l",
	"var/lib/systemd/random-seed":        "r",
	"etc/shadow":                         "root:$6$salt$hash:20000:0:99999:7:::\nbin:*:19000:0:99999:7:::\nops::20000::::::\nlock:!$6$x:1::::::\n",
	"var/lib/cloud/instances/i/x":        "c",
	"var/log/apt/history.log":            "l",
	"var/log/journal/abc/system.journal": "j",
	"root/.bash_history":                 "rm -rf /",
	"home/ops/.python_history":           "p",
	"var/lib/apt/lists/x_Packages":       "l",
	"tmp/.hidden":                        "t",
	"usr/sbin/policy-rc.d":               "exit 101",
}

func plant(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range planted {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestCheckFindsEachPlantedViolation(t *testing.T) {
	dir := plant(t)
	var all strings.Builder
	for _, v := range check(t, dir, opts) {
		all.WriteString(v.String() + "\n")
	}
	for name := range planted {
		if !strings.Contains(all.String(), name) && !strings.Contains(all.String(), filepath.Dir(name)) && !strings.Contains(name, "cloud/instances") {
			t.Errorf("%s was not found in:\n%s", name, all.String())
		}
	}
}

func TestApplyThenCheckIsClean(t *testing.T) {
	dir := plant(t)
	if _, err := Apply(dir, opts); err != nil {
		t.Fatal(err)
	}
	if left := check(t, dir, opts); len(left) > 0 {
		t.Fatalf("left: %v", left)
	}
	shadow, err := os.ReadFile(filepath.Join(dir, "etc/shadow"))
	if err != nil {
		t.Fatal(err)
	}
	want := "root:!:19675:0:99999:7:::\nbin:*:19000:0:99999:7:::\nops:!:19675::::::\nlock:!:1::::::\n"
	if string(shadow) != want {
		t.Errorf("got %q, want %q", shadow, want)
	}
	if st, _ := os.Stat(filepath.Join(dir, "etc/shadow")); st.Mode().Perm() != 0o640 {
		t.Errorf("shadow has mode %v", st.Mode())
	}
	for _, keep := range []string{"var/log/apt", "var/lib/dhcp"} {
		if _, err := os.Stat(filepath.Join(dir, keep)); err != nil {
			t.Errorf("the directory went too: %v", err)
		}
	}
	again, err := Apply(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range again {
		if len(r.Changed) > 0 {
			t.Errorf("the second time, %s changed %v", r.Item, r.Changed)
		}
	}
}

func TestDeclaredHostnameStays(t *testing.T) {
	dir := plant(t)
	o := opts
	o.Hostname = "web"
	if _, err := Apply(dir, o); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "etc/hostname")); string(b) != "web\n" {
		t.Errorf("got %q", b)
	}
}

func TestApplyStaysInTheTree(t *testing.T) {
	dir, outside := plant(t), t.TempDir()
	victim := filepath.Join(outside, "keep")
	if err := os.WriteFile(victim, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "var/log")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "var/log")); err != nil {
		t.Fatal(err)
	}
	if _, err := Apply(dir, opts); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(victim); err != nil {
		t.Error("sealing followed a link out of the tree")
	}
}
