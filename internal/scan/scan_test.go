package scan

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// TestAgreesWithGitleaks holds our engine's use of the rules against the
// library's own program, on the corpus: what that finds, ours finds on the same
// line, by the same rule or by one that knows more.
func TestAgreesWithGitleaks(t *testing.T) {
	dir, m := t.TempDir(), newMaker(t)
	p := &placer{t: t, m: m, dir: dir}
	for _, c := range m.corpus() {
		p.file(c.path, []byte(c.content))
	}
	theirs := gitleaks(t, dir)
	if len(theirs) < 20 {
		t.Fatalf("gitleaks finds %d: want a corpus it knows, too", len(theirs))
	}
	ours := map[string]bool{}
	for _, f := range scanned(t, dir, Options{}).Findings {
		ours[fmt.Sprint(f.Path, ":", f.Line)] = true
		ours[f.Path] = true
	}
	for _, f := range theirs {
		if f.RuleID == "pkcs12-file" {
			continue // by its name alone
		}
		if path := "/" + f.File; !ours[fmt.Sprint(path, ":", f.StartLine)] && !ours[path] {
			t.Errorf("gitleaks finds %s in %s, line %d: ours does not", f.RuleID, f.File, f.StartLine)
		}
	}
}

type leak struct {
	RuleID, File string
	StartLine    int
}

// gitleaks runs the program that tools/go.mod pins.
func gitleaks(t *testing.T, dir string) []leak {
	t.Helper()
	c := exec.Command("go", "tool", "-C", "../../tools", "gitleaks", "dir", "--no-banner", "--log-level=error", "--exit-code=0",
		"--report-format=json", "--report-path=-", dir)
	var diag bytes.Buffer
	c.Stderr = &diag
	out, err := c.Output()
	if err != nil {
		t.Fatalf("gitleaks: %v\n%s", err, diag.String())
	}
	var list []leak
	if err := json.Unmarshal(out, &list); err != nil {
		t.Fatalf("gitleaks' report: %v\n%s", err, out)
	}
	for i := range list {
		rel, err := filepath.Rel(dir, list[i].File)
		if err != nil {
			t.Fatal(err)
		}
		list[i].File = rel
	}
	return list
}

// TestOurRepository wants neither scanner to trip on our own sources.
func TestOurRepository(t *testing.T) {
	for _, dir := range []string{".", "../../cmd/kldload/testdata/script", "../../docs"} {
		abs, err := filepath.Abs(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range gitleaks(t, abs) {
			t.Errorf("gitleaks finds %s in %s/%s, line %d", f.RuleID, dir, f.File, f.StartLine)
		}
		for _, f := range scanned(t, abs, Options{}).Findings {
			if f.Rule == "private-key" || f.Rule == "generic-api-key" || f.Rule == "password-hash" {
				t.Errorf("ours finds %s in %s%s:%d: %s", f.Rule, dir, f.Path, f.Line, f.Masked)
			}
		}
	}
}

// TestPackagesAreKnown plants the same loose secret in a package's file, in a
// copy of it in a tar, and in a file of nobody.
func TestPackagesAreKnown(t *testing.T) {
	dir, m := t.TempDir(), newMaker(t)
	p := &placer{t: t, m: m, dir: dir}
	loose := []byte("api_to" + "ken = " + m.chars(alnum, 24) + "\n")
	key := []byte(m.openSSH())
	p.file("usr/lib/app/defaults", loose)
	p.file("usr/lib/app/key", key)
	p.file("usr/lib/app/edited", append(loose, '#'))
	p.file("boot/copy.tar", p.tar("defaults", string(loose)))
	p.file("var/lib/dpkg/info/app.md5sums", fmt.Appendf(nil, "%x  usr/lib/app/defaults\n%x  usr/lib/app/key\n", md5.Sum(loose), md5.Sum(key)))
	r := scanned(t, dir, Options{})
	for _, want := range []string{"usr/lib/app/key", "usr/lib/app/edited"} {
		if len(rulesAt(r, want)) == 0 {
			t.Errorf("%s: not found", want)
		}
	}
	for _, not := range []string{"usr/lib/app/defaults", "boot/copy.tar"} {
		if rules := rulesAt(r, not); len(rules) > 0 {
			t.Errorf("%s, which a package ships: found %v", not, rules)
		}
	}
	if r := scanned(t, dir, Options{AllFiles: true}); len(rulesAt(r, "usr/lib/app/defaults")) == 0 {
		t.Error("with AllFiles: usr/lib/app/defaults is not found")
	}
	if r.Packaged != 2 {
		t.Errorf("files of packages: got %d, want 2", r.Packaged)
	}
}

func TestConffilesAreKnown(t *testing.T) {
	p := newPristine()
	sum := md5.Sum([]byte("x"))
	if err := p.learn(fstest.MapFS{
		"var/lib/dpkg/info/a.list": {Data: []byte("/.\n")},
		"var/lib/dpkg/status":      {Data: fmt.Appendf(nil, "Package: a\nConffiles:\n /etc/a %x\n /etc/b newconffile\nDescription: b\n", sum)},
	}); err != nil {
		t.Fatal(err)
	}
	if !p.has(sum) || len(p.sums) != 1 {
		t.Errorf("got %d digests, want the one of /etc/a", len(p.sums))
	}
}

// TestDeclaredKeys accepts the keys of the template and no other.
func TestDeclaredKeys(t *testing.T) {
	dir, m := t.TempDir(), newMaker(t)
	p := &placer{t: t, m: m, dir: dir}
	mine, other := "ssh-ed25519 "+m.base64(51)+" ops@x", "ssh-ed25519 "+m.base64(51)+" eve@x"
	p.file("home/ops/.ssh/authorized_keys", []byte(mine+"\n"+other+"\n"))
	r := scanned(t, dir, Options{Declared: []string{mine}})
	if len(r.Findings) != 1 || r.Findings[0].Line != 2 {
		t.Errorf("got %+v, want line 2 alone", r.Findings)
	}
}

// TestLiterals finds a value in every form, also in packages' files and across
// the border of two chunks, and shows nothing of it.
func TestLiterals(t *testing.T) {
	value := "correct horse+battery/" + newMaker(t).chars(alnum, 8)
	for i, form := range literalForms(value) {
		for _, pad := range []int{0, 1, 2, chunkSize - margin - len(form)/2} {
			e, err := New(Options{Literals: []Literal{{"variable pw", value}}})
			if err != nil {
				t.Fatal(err)
			}
			text := strings.Repeat("x", pad) + form + "x"
			if err := e.File(context.Background(), Location{Path: "/x"}, int64(len(text)), 0, opener(text)); err != nil {
				t.Fatal(err)
			}
			r := e.Report()
			if !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Rule == "sensitive-value" }) {
				t.Errorf("form %d after %d bytes: not found", i, pad)
			}
			if strings.Contains(r.Text(), value[:4]) {
				t.Error("the report shows a part of the value")
			}
		}
	}
	if _, err := New(Options{Literals: []Literal{{"variable big", strings.Repeat("x", maxLiteral+1)}}}); err == nil || !strings.Contains(err.Error(), "variable big") {
		t.Errorf("a literal that is too long: got %v", err)
	}
}

func opener(text string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }
}

// TestBombs wants what unpacks to too much, or is nested too deep, to be
// noted and the rest to be scanned.
func TestBombs(t *testing.T) {
	dir, m := t.TempDir(), newMaker(t)
	p := &placer{t: t, m: m, dir: dir}
	p.file("bomb.gz", p.gzip(bytes.Repeat([]byte{'x'}, 3<<20)))
	deep := []byte(m.openSSH())
	for range maxDepth + 2 {
		deep = p.gzip(deep)
	}
	p.file("deep.gz", deep)
	p.file("torn.gz", p.gzip([]byte(m.chars(alnum, 4096)))[:500])
	p.file("torn.zip", p.zip("x", []byte("y"))[:40])
	p.file("key", []byte(m.openSSH()))
	r := scanned(t, dir, Options{MaxExpanded: 1 << 20})
	for path, want := range map[string]string{"/bomb.gz": "beyond 1048576 bytes", "/deep.gz": "a gzip in 8 others", "/torn.gz": "not looked into as gzip", "/torn.zip": "not looked into as zip"} {
		if !slices.ContainsFunc(r.Notes, func(n Note) bool { return n.Path == path && strings.Contains(n.Text, want) }) {
			t.Errorf("%s: no note with %q in %v", path, want, r.Notes)
		}
	}
	if !hasFinding(r, "key", "private-key") {
		t.Error("the key beside them is not found")
	}
}

// TestStable wants the same report from each run.
func TestStable(t *testing.T) {
	dir, m := t.TempDir(), newMaker(t)
	p := &placer{t: t, m: m, dir: dir}
	for _, c := range m.tokens() {
		p.file(c.path, []byte(c.content))
	}
	first := scanned(t, dir, Options{}).Text()
	if again := scanned(t, dir, Options{}).Text(); again != first {
		t.Errorf("two reports differ:\n%s\n%s", first, again)
	}
}

// TestAutomaton holds the table against a search word by word.
func TestAutomaton(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	letters := "abAB-c\x80"
	text := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = letters[r.IntN(len(letters))]
		}
		return string(b)
	}
	for range 200 {
		seen := map[string]bool{}
		var words []string
		for range 1 + r.IntN(8) {
			if w := strings.ToLower(text(1 + r.IntN(4))); !seen[w] && strings.ToValidUTF8(w, "") == w {
				seen[w] = true
				words = append(words, w)
			}
		}
		if len(words) == 0 {
			continue
		}
		b := text(200)
		got := map[string]int{}
		newAutomaton(words).find([]byte(b), func(w uint16, end int) {
			if s := b[end-len(words[w]) : end]; !strings.EqualFold(s, words[w]) {
				t.Fatalf("word %q found at %q", words[w], s)
			}
			got[words[w]]++
		})
		for _, w := range words {
			want := 0
			for i := range len(b) - len(w) + 1 {
				if strings.EqualFold(b[i:i+len(w)], w) {
					want++
				}
			}
			if got[w] != want {
				t.Fatalf("word %q of %q: found %d times, want %d", w, words, got[w], want)
			}
		}
	}
}

func TestAllowListErrors(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"[[allow]]\nreason = \"x\"\n":                                   "a:1: an [[allow]] entry has neither path nor fingerprint",
		"[[allow]]\npath = \"x\"\nreason = \"x\"\nexpires = \"soon\"\n": "a:1: expires \"soon\": want a day like",
		"\n[[allow]]\npath = \"/\"\nreason = \"x\"\n":                   "a:2: path \"/\": the path pattern is empty",
		"[[permit]]\n":                      "a:1: unknown key \"permit\"",
		"[[allow]]\npath = 7\n":             "a:2:",
		strings.Repeat("#", maxAllowList+1): "want at most",
		"[[allow]]\npath = \"a\"\nreason = \" \"\nexpires = 2026-01-01\n": "has no reason",
	} {
		if _, err := ParseAllowList("a", []byte(text), now); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: got %v, want %q", text, err, want)
		}
	}
	l, err := ParseAllowList("a", []byte("[[allow]]\npath = \"**\"\nreason = \"x\"\nexpires = 2026-01-01\n"), now)
	if err != nil || l.reason(Finding{Location: Location{Path: "/x"}}) != "x" {
		t.Errorf("on its last day: %v", err)
	}
}
