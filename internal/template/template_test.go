package template

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/kldload/kldload/internal/zpool"
)

var update = flag.Bool("update", false, "rewrite the want sections of testdata")

// TestLoad runs every archive of testdata: its files are a template, its args
// lines the options, and want is what comes out: the result as JSON, or the
// errors.
func TestLoad(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 60 {
		t.Fatalf("%d cases (%v), want at least 60", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { runCase(t, file) })
	}
}

func runCase(t *testing.T, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	opts := Options{Dir: dir, Now: time.Date(2026, 11, 23, 10, 20, 30, 0, time.UTC)}
	path, env := "t", map[string]string{}
	want, wantAt := "", -1
	for i, f := range archive.Files {
		switch f.Name {
		case "args":
			path = parseArgs(t, string(f.Data), &opts, env)
			continue
		case "want":
			want, wantAt = string(f.Data), i
			continue
		}
		name := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	opts.Env = func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	got := strings.ReplaceAll(outcome(t, path, opts), dir, "$WORK")
	if *update {
		if wantAt < 0 {
			archive.Files = append(archive.Files, txtar.File{Name: "want"})
			wantAt = len(archive.Files) - 1
		}
		archive.Files[wantAt].Data = []byte(got)
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// parseArgs reads lines "path P", "var N=V", "file F" and "env N=V".
func parseArgs(t *testing.T, text string, opts *Options, env map[string]string) string {
	path := "t"
	for line := range strings.Lines(text) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		name, value, _ := strings.Cut(rest, "=")
		switch word {
		case "path":
			path = rest
		case "var":
			if opts.Vars == nil {
				opts.Vars = map[string]string{}
			}
			opts.Vars[name] = value
		case "file":
			opts.VarFiles = append(opts.VarFiles, rest)
		case "env":
			env[name] = value
		default:
			t.Fatalf("args: unknown line %q", line)
		}
	}
	return path
}

// outcome gives the result as JSON without places, or the errors.
func outcome(t *testing.T, path string, opts Options) string {
	tmpl, err := Load(path, opts)
	if err != nil {
		var diags Diagnostics
		if !errors.As(err, &diags) || tmpl != nil {
			t.Fatalf("Load gave %T and the template %v", err, tmpl)
		}
		return "error: " + err.Error() + "\n"
	}
	for i := range tmpl.Builds {
		tmpl.Builds[i].Source.Kldload.Pool = changes(tmpl.Builds[i].Source.Kldload.Pool)
	}
	text, err := json.Marshal(map[string]any{
		"builds": tmpl.Builds, "inputs": tmpl.Inputs(), "sensitive": tmpl.Sensitive(),
		"plugins": tmpl.RequiredPlugins, "version": tmpl.RequiredVersion,
	})
	if err != nil {
		t.Fatal(err)
	}
	var tree any
	if err := json.Unmarshal(text, &tree); err != nil {
		t.Fatal(err)
	}
	text, err = json.MarshalIndent(prune(tree), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + "\n"
}

// changes leaves of a pool what the template changes of it.
func changes(l *zpool.Layout) *zpool.Layout {
	if l == nil {
		return nil
	}
	base := zpool.NewRootLayout(l.Pool)
	if l.Pool == "rpool" && cmp.Equal(base, l) {
		return nil
	}
	out := &zpool.Layout{Pool: l.Pool, Properties: l.Properties, Datasets: map[string]map[string]string{}}
	if cmp.Equal(base.Properties, l.Properties) {
		out.Properties = nil
	}
	for name, properties := range l.Datasets {
		if base.Datasets[name] == nil || !cmp.Equal(base.Datasets[name], properties) {
			out.Datasets[name] = properties
		}
	}
	return out
}

// prune drops places and empty values, to keep the archives readable.
func prune(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			value = prune(value)
			v[key] = value
			if key == "Range" || value == nil || value == "" || value == false {
				delete(v, key)
			}
		}
	case []any:
		for i := range v {
			v[i] = prune(v[i])
		}
	}
	return v
}

// TestPlaces checks what --json shows: the place and the parts of an error.
func TestPlaces(t *testing.T) {
	dir := t.TempDir()
	text := "source \"kldload\" \"x\" {\n\tdarksite = \"d\"\n\t/* ä */ distor = 1\n}\nbuild { sources = [\"source.kldload.x\"] }\n"
	if err := os.WriteFile(filepath.Join(dir, "a.pkr.hcl"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := Load("a.pkr.hcl", Options{Dir: dir})
	var one *Error
	if !errors.As(err, &one) {
		t.Fatalf("got %v", err)
	}
	want := &Error{
		Range:   Range{File: "a.pkr.hcl", Line: 3, Column: 10, EndLine: 3, EndColumn: 16},
		Summary: `unknown attribute "distor"`, Hint: `did you mean "distro"?`, Line: "\t/* ä */ distor = 1",
	}
	if diff := cmp.Diff(want, one); diff != "" {
		t.Error(diff)
	}
	text = "a.pkr.hcl:3:10: unknown attribute \"distor\"\n    3 | \t/* ä */ distor = 1\n      | \t        ^^^^^^\nhint: did you mean \"distro\"?"
	if diff := cmp.Diff(text, one.Error()); diff != "" {
		t.Error(diff)
	}
}

const shipped = "packer/kldload-server"

// TestShipped loads the template we ship, from the top of the project as a
// user does, with each profile.
func TestShipped(t *testing.T) {
	opts := Options{Dir: "../.."}
	files, err := filepath.Glob("../../packer/kldload-server/profiles/*.pkrvars.hcl")
	if err != nil || len(files) != 4 {
		t.Fatalf("%d profiles (%v), want 4", len(files), err)
	}
	files = append(files, "../../packer/kldload-server/variables.pkrvars.hcl")
	for _, file := range files {
		profile, _, _ := strings.Cut(filepath.Base(file), ".")
		t.Run(profile, func(t *testing.T) {
			opts := opts
			opts.VarFiles = []string{strings.TrimPrefix(file, "../../")}
			tmpl, err := Load(shipped, opts)
			if err != nil {
				t.Fatal(err)
			}
			if profile == "variables" {
				profile = "server"
			}
			b := tmpl.Builds[0]
			if k := b.Source.Kldload; len(tmpl.Builds) != 1 || k.Profile != profile || k.VMName != "kldload-"+profile+"-1.0.0" {
				t.Errorf("got %+v", k)
			}
			if got := b.Provisioners[0].Shell.Scripts[0]; got != "packer/kldload-server/scripts/post-install.sh" {
				t.Errorf("script %q", got)
			}
		})
	}
	defaults, err := Load(shipped, opts)
	if err != nil {
		t.Fatal(err)
	}
	opts.VarFiles = []string{shipped + "/variables.pkrvars.hcl"}
	same, err := Load(shipped, opts)
	if err != nil || string(same.Inputs()) != string(defaults.Inputs()) {
		t.Errorf("variables.pkrvars.hcl is not the defaults (%v):\n%s\n%s", err, same.Inputs(), defaults.Inputs())
	}
}

func TestRender(t *testing.T) {
	got, err := Render("{{ .Vars }} sudo -E {{.Path | upper}}", map[string]string{"Vars": "A='1'", "Path": "/tmp/x"})
	if err != nil || got != "A='1' sudo -E /TMP/X" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := Render("{{ .Nope }}", map[string]string{}); err == nil {
		t.Error("an unknown key was rendered")
	}
}

// BenchmarkLoad is what kldload validate spends on the shipped template; the
// aim is 50 ms.
func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		if _, err := Load(shipped, Options{Dir: "../.."}); err != nil {
			b.Fatal(err)
		}
	}
}
