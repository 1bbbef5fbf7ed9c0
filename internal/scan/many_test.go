package scan

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// manyKeys are n lines with a key each, put together here so that nobody finds
// one in this file.
func manyKeys(n int) string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "id = %s%s%c%c\n", "AKIA", "Q3EGRFK7WZ5XJ2", letters[i%32], letters[i/32])
	}
	return b.String()
}

// TestManyMatches: what is beyond the bound is a finding of its own, which a
// path accepts and fingerprints of the others do not.
func TestManyMatches(t *testing.T) {
	dir := t.TempDir()
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "keys"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(manyKeys(maxPerRule))
	all := scanned(t, dir, Options{}).Findings
	if len(all) != maxPerRule {
		t.Fatalf("%d findings: want %d", len(all), maxPerRule)
	}
	var list strings.Builder
	for _, f := range all {
		fmt.Fprintf(&list, "[[allow]]\nfingerprint = %q\nreason = \"test\"\n", f.Fingerprint)
	}
	allowed := func(text string) []Finding {
		t.Helper()
		l, err := ParseAllowList("allow.toml", []byte(text), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return scanned(t, dir, Options{Allow: l}).Findings
	}
	write(strings.Repeat(manyKeys(maxPerRule), 3))
	if got := allowed(list.String()); len(got) != 0 {
		t.Errorf("the same keys once more: %v", got)
	}
	for _, n := range []int{maxPerRule + 1, 500} {
		write(manyKeys(n))
		got := allowed(list.String())
		if len(got) != 1 || got[0].Rule != "aws-access-token" || got[0].Fingerprint != "" || !strings.Contains(got[0].Shown(), "more than 50 matches") {
			t.Errorf("%d keys: %v: want those beyond the bound", n, got)
		}
		if got := allowed("[[allow]]\npath = \"/keys\"\nrule = \"aws-access-token\"\nreason = \"test\"\n"); len(got) != 0 {
			t.Errorf("%d keys, all accepted by path: %v", n, got)
		}
	}
}
