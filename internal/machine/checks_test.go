package machine

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseChecks(t *testing.T) {
	got, err := ParseChecks("x", strings.NewReader("# first\none: true\r\n\ntwo:\n\techo a\n  # not a comment of ours\n  echo b\n"))
	want := []Check{{Name: "one", Script: "true\n", Line: 2}, {Name: "two", Script: "echo a\n# not a comment of ours\necho b\n", Line: 4}}
	if err != nil || cmp.Diff(want, got) != "" {
		t.Fatalf("%v\n%s", err, cmp.Diff(want, got))
	}
}

func TestParseChecksSaysWhere(t *testing.T) {
	for text, want := range map[string]string{
		"":                               "my.checks:1: no check in this file",
		"# only\n":                       "my.checks:1: no check in this file",
		"  echo\n":                       "my.checks:1: an indented line continues a check",
		"one: true\nwhat is this\n":      `my.checks:2: want "name: command"`,
		"one: true\none: false\n":        `my.checks:2: check "one" is on line 1 already`,
		"one:\ntwo: true\n":              `my.checks:1: check "one" has no command`,
		"one: true\ntwo:echo\n":          "my.checks:2: want",
		"one: \xff\n":                    "my.checks:1: not UTF-8 text",
		"a b: true\n":                    "my.checks:1: want",
		strings.Repeat("#", checksMax+1): "larger than 1 MiB",
	} {
		_, err := ParseChecks("my.checks", strings.NewReader(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: got %v, want %q", text, err, want)
		}
	}
}

func TestParseChecksReportsEveryError(t *testing.T) {
	_, err := ParseChecks("f", strings.NewReader("bad\none: true\none: x\n"))
	if err == nil || !strings.Contains(err.Error(), "f:1:") || !strings.Contains(err.Error(), "f:3:") {
		t.Errorf("got %v", err)
	}
}

func TestDefaultChecksCoverTheList(t *testing.T) {
	names := map[string]bool{}
	for _, c := range DefaultChecks() {
		names[c.Name] = true
	}
	for _, want := range []string{"sshd", "wireguard", "root-space", "memory", "kernel", "cloud-init", "ds-identify", "root-grown", "passwords-locked", "kernel-update"} {
		if !names[want] {
			t.Errorf("no check %q", want)
		}
	}
}

func FuzzParseChecks(f *testing.F) {
	f.Add("one: true\n  more\n# c\n")
	f.Add(defaultChecks)
	f.Fuzz(func(t *testing.T, text string) {
		checks, err := ParseChecks("f", strings.NewReader(text))
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for _, c := range checks {
			if c.Script == "" || seen[c.Name] {
				t.Errorf("%+v: empty or twice", c)
			}
			seen[c.Name] = true
		}
	})
}
