package scan

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the tables of docs/scan.md")

const (
	docs       = "../../docs/scan.md"
	tableStart = "<!-- recall: made by go test ./internal/scan -run Recall -update -->\n"
	tableEnd   = "<!-- end of recall -->\n"
)

// TestRecall plants every kind of the corpus, and one key in every odd place,
// and wants each to be found by the rule that is meant.
func TestRecall(t *testing.T) {
	dir, m := t.TempDir(), newMaker(t)
	p := &placer{t: t, m: m, dir: dir}
	corpus := m.corpus()
	for _, c := range corpus {
		p.file(c.path, []byte(c.content))
	}
	secrets := map[string]string{}
	for _, pl := range places() {
		p.path = pl.path
		secrets[pl.path] = m.openSSH()
		pl.put(p, secrets[pl.path])
	}
	r := scanned(t, dir, Options{})
	var table strings.Builder
	found := 0
	row := func(kind, rule string, ok bool) {
		if ok {
			found++
		}
		fmt.Fprintf(&table, "| %s | `%s` | %s |\n", kind, rule, map[bool]string{true: "found", false: "**missed**"}[ok])
	}
	table.WriteString("| planted | rule | |\n|---|---|---|\n")
	for _, c := range corpus {
		ok := hasFinding(r, c.path, c.rule)
		if !ok {
			t.Errorf("%s in %s: not found by %s; have %v", c.kind, c.path, c.rule, rulesAt(r, c.path))
		}
		row(c.kind, c.rule, ok)
	}
	table.WriteString("\n| place of an OpenSSH key | rule | |\n|---|---|---|\n")
	for _, pl := range places() {
		ok := hasFinding(r, pl.path, "private-key")
		if !ok {
			t.Errorf("%s, %s: the key is not found; notes: %v", pl.kind, pl.path, r.Notes)
		}
		row(pl.kind, "private-key", ok)
	}
	total := len(corpus) + len(places())
	fmt.Fprintf(&table, "\nRecall: %d of %d.\n", found, total)
	masksAll(t, r, corpus)
	checkTable(t, table.String())
}

// checkTable holds the table against the one in the documentation.
func checkTable(t *testing.T, table string) {
	t.Helper()
	text, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), tableStart)
	_, after, ok2 := strings.Cut(rest, tableEnd)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", docs)
	}
	want := before + tableStart + table + tableEnd + after
	if *update {
		if err := os.WriteFile(docs, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(text) {
		t.Errorf("the table in %s is not what the test found: go test ./internal/scan -run Recall -update", docs)
	}
}

func scanned(t *testing.T, dir string, opts Options) *Report {
	t.Helper()
	e, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Dir(context.Background(), dir); err != nil {
		t.Fatal(err)
	}
	return e.Report()
}

func hasFinding(r *Report, path, rule string) bool {
	for _, f := range r.Findings {
		if f.Rule == rule && (f.Path == "/"+path || strings.HasPrefix(f.Path, "/"+path+"/.git/objects/")) {
			return true
		}
	}
	return false
}

func rulesAt(r *Report, path string) (rules []string) {
	for _, f := range r.Findings {
		if f.Path == "/"+path {
			rules = append(rules, f.Rule)
		}
	}
	return rules
}

// masksAll wants no report to hold more than a quarter of a line of a secret.
func masksAll(t *testing.T, r *Report, corpus []plant) {
	t.Helper()
	text := r.Text()
	for _, f := range r.Findings {
		text += "\n" + f.Masked
	}
	for _, c := range corpus {
		for _, word := range strings.FieldsFunc(c.content, func(r rune) bool { return strings.ContainsRune(" \n\"':=$,;@", r) }) {
			if len(word) >= 16 && !strings.Contains(filepath.Base(c.path), word) && strings.Contains(text, word[len(word)-12:]) && looksRandom(word) {
				t.Errorf("%s: the report shows %q", c.kind, word)
			}
		}
	}
}

func looksRandom(word string) bool { return entropy([]byte(word)) > 3.5 }
