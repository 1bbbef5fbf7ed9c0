package template

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	files := map[string]string{
		"t/a.pkr.hcl": `variable "token" {
  sensitive = true
  default   = "changeme"
}
source "kldload" "x" {
  darksite = "d"
  hostname = trimspace(file("name.txt"))
  users {
    name  = "u"
    gecos = "${trimspace(file("pass.txt"))}${trimspace(file("name.txt"))}"
  }
}
build { sources = ["source.kldload.x"] }
`,
		"t/name.txt":           "host\n",
		"t/pass.txt":           "hunter22\n",
		"t/b.auto.pkrvars.hcl": "# nothing\n",
		"c.pkrvars.hcl":        "token = \"hunter22\"\n",
	}
	for name, text := range files {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	sum := func(name string) string {
		s := sha256.Sum256([]byte(files[name]))
		return hex.EncodeToString(s[:])
	}
	outside := filepath.Join(dir, "c.pkrvars.hcl")
	want := []Input{
		{"name.txt", RoleFunction, sum("t/name.txt")},
		{"pass.txt", RoleFunction, ""},
		{"a.pkr.hcl", RoleTemplate, sum("t/a.pkr.hcl")},
		{outside, RoleVariables, ""},
		{"b.auto.pkrvars.hcl", RoleVariables, sum("t/b.auto.pkrvars.hcl")},
	}
	for _, o := range []struct{ path, work string }{{filepath.Join(dir, "t"), ""}, {"t", dir}} {
		tmpl, err := Load(o.path, Options{VarFiles: []string{outside}, Dir: o.work})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, tmpl.Files()); diff != "" {
			t.Errorf("as %q: %s", o.path, diff)
		}
	}
}

// The provenance, which others read, does not tell whose home a file was in.
func TestShownPath(t *testing.T) {
	t.Setenv("HOME", "/home/someone")
	for path, want := range map[string]string{
		"/work/t/a/b": "a/b", "/home/someone/.ssh/id.pub": "~/.ssh/id.pub", "/home/someone-else/x": "/home/someone-else/x",
		"/etc/hostname": "/etc/hostname", "../x": "../x",
	} {
		if got := ShownPath("/work/t", path); got != want {
			t.Errorf("%q is shown as %q, want %q", path, got, want)
		}
	}
}
