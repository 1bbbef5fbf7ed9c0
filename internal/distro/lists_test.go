package distro

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func names(es []Entry) string {
	var s []string
	for _, e := range es {
		s = append(s, e.Name)
	}
	return strings.Join(s, " ")
}

func TestEmbeddedListsRead(t *testing.T) {
	if got := strings.Join(Profiles("debian"), " "); got != "core desktop k8s-node server" {
		t.Errorf("profiles %q", got)
	}
	for _, p := range append(Profiles("debian"), ZFSRoot) {
		es, err := List("debian", p, "")
		if err != nil || len(es) == 0 {
			t.Errorf("%s: %d entries, %v", p, len(es), err)
		}
		for _, e := range es {
			if strings.HasPrefix(e.Name, "linux-image") {
				t.Errorf("%s: %s: the kernel does not belong in a list", e.From, e.Name)
			}
		}
	}
}

func TestOverrideIncludeAndPosition(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("core.list", "a1 # first\n\nb1\n")
	write("mine.list", "@include core\nb1\nc1\n")
	es, err := List("debian", "mine", dir)
	if err != nil || names(es) != "a1 b1 c1" {
		t.Fatalf("got %v, %v", es, err)
	}
	if es[1].From != "core.list:3" || es[2].From != "mine.list:3" {
		t.Errorf("positions %v", es)
	}
}

func TestListErrors(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"loop": "@include loop2\n", "loop2": "@include loop\n",
		"bad": "two words\n", "lost": "@include nosuch\n", "up": "@include ../core\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name+".list"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"loop":    "includes itself",
		"bad":     `bad.list:1: "two words" is not a package name`,
		"lost":    `lost.list: @include nosuch: no package list "nosuch"`,
		"up":      "is not the name of a list",
		"../core": "is not the name of a list",
		"servr":   "hint: the profiles are core, desktop, k8s-node, server",
	} {
		if _, err := List("debian", name, dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
}
