package template

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// loadText loads text alone, as a file without a folder around it.
func loadText(text string) (*Template, error) {
	l := newLoader(Options{Dir: "/nonexistent"})
	l.root = "."
	l.collect(l.parseText("t.pkr.hcl", []byte(text)))
	return l.finish(nil)
}

// TestBounds gives Load what would overflow the stack, the memory or the
// patience of a plain evaluation.
func TestBounds(t *testing.T) {
	times := strings.Repeat
	doubling := "locals {\n a0 = \"0123456789\"\n"
	squares := "locals {\n a0 = 1e300\n"
	nested := "locals {\n a0 = []\n"
	chain := "locals {\n a0 = 1\n"
	for i := range 200 {
		doubling += fmt.Sprintf(" a%d = \"${local.a%d}${local.a%d}\"\n", i+1, i, i)
		squares += fmt.Sprintf(" a%d = local.a%d * local.a%d\n", i+1, i, i)
		nested += fmt.Sprintf(" a%d = [local.a%d]\n", i+1, i)
	}
	for i := range maxLocals {
		chain += fmt.Sprintf(" a%d = local.a%d\n", i+1, i)
	}
	for name, text := range map[string]string{
		"parentheses":  "locals { x = " + times("(", 400000),
		"brackets":     "locals { x = " + times("[", 400000),
		"blocks":       times("a {\n", 200000),
		"not":          "locals { x = " + times("!", 400000) + "true }",
		"minus":        "locals { x = " + times("-", 400000) + "1 }",
		"sum":          "locals { x = 1" + times("+1", 400000) + " }",
		"sum of lines": "locals { x = (1" + times("+\n1", 300000) + ") }",
		"object for":   "locals { x = {for k in [1]: \"a\" => 1" + times("\n+\n1", 200000) + "} }",
		"conditional":  "locals { x = " + times("true?1:", 140000) + "1 }",
		"index":        "locals { x = a" + times("[0]", 300000) + " }",
		"attributes":   "locals { x = a" + times(".b", 400000) + " }",
		"templates":    "locals { x = " + times("\"${", 200000) + " }",
		"control":      "locals { x = \"" + times("%{if true}", 90000) + "\" }",
		"doubling":     doubling + "}",
		"squares":      squares + "}",
		"nested":       nested + "}",
		"chain":        chain + "}",
		"exponent":     "locals { x = \"${1e999999999}\" }",
		"digits":       "locals { x = " + times("9", 900000) + " }",
		"width":        "locals { x = format(\"%999999999d\", 1) }",
		"indent":       "locals { x = indent(999999999, \"a\\nb\") }",
		"join":         "locals { x = join(\"" + times("s", 100000) + "\", range(1000)) }",
		"replace":      "locals { x = replace(\"" + times("s", 10000) + "\", \"\", \"" + times("s", 10000) + "\") }",
		"regexes":      "locals { x = regex_replace(\"" + times("s", 10000) + "\", \"\", \"" + times("s", 10000) + "\") }",
		"product":      "locals {\n r = toset(range(1000))\n x = setproduct(local.r, local.r, local.r)\n }",
		"loops": "locals {\n r = range(1000)\n" +
			" x = [for a in local.r: [for b in local.r: [for c in local.r: 1]]]\n }",
		"fat loop": "locals {\n s = \"" + times("s", 100000) + "\"\n r = range(1000)\n" +
			" x = [for a in local.r: [for b in local.r: \"${local.s}${a}\"]]\n }",
		"json":  "locals { x = jsondecode(\"" + times("[", 200000) + "\") }",
		"large": "# " + times("x", maxFileSize),
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, err := loadText(text)
			var diags Diagnostics
			if !errors.As(err, &diags) {
				t.Fatalf("got %v", err)
			}
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("took %v", took)
			}
			if n := len(err.Error()); n > 1<<20 {
				t.Errorf("the report has %d bytes", n)
			}
			first, _, _ := strings.Cut(err.Error(), "\n")
			t.Logf("%v: %.150s", time.Since(start).Round(time.Millisecond), first)
		})
	}
}

// TestFilesAreBounded: what file() is pointed at may not end.
func TestFilesAreBounded(t *testing.T) {
	for _, path := range []string{"/dev/zero", "/", "big"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "big"), make([]byte, maxFileSize+1), 0o644); err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf("locals { x = file(%q) }\n", path)
		if err := os.WriteFile(filepath.Join(dir, "t.pkr.hcl"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(".", Options{Dir: dir}); err == nil || strings.Contains(err.Error(), "build block") {
			t.Errorf("%s: got %v", path, err)
		}
	}
}

// FuzzLoad looks for panics and for time or memory without bound. The seeds
// are the templates of testdata and the one we ship.
func FuzzLoad(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.txtar")
	files = append(files, "../../packer/kldload-server/kldload-server.pkr.hcl")
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		text := string(src)
		if _, after, ok := strings.Cut(text, "-- t/t.pkr.hcl --\n"); ok {
			text, _, _ = strings.Cut(after, "\n-- ")
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		tmpl, err := loadText(text)
		if (tmpl == nil) == (err == nil) {
			t.Fatalf("template %v, error %v", tmpl, err)
		}
		if err == nil {
			tmpl.Inputs()
			return
		}
		for _, e := range err.(Diagnostics) {
			if e.Summary == "" || strings.Contains(e.Summary, "\n\n") {
				t.Errorf("summary %q", e.Summary)
			}
		}
		_ = err.Error()
	})
}
