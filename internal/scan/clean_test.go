package scan

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// memoryClean is a Clean that lasts as long as a test.
type memoryClean struct {
	mu   sync.Mutex
	keys map[[sha256.Size]byte]bool
}

func (m *memoryClean) Has(key [sha256.Size]byte) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.keys[key]
}

func (m *memoryClean) Add(key [sha256.Size]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keys[key] = true
}

func newMemoryClean() *memoryClean { return &memoryClean{keys: map[[sha256.Size]byte]bool{}} }

// cleanRoot has files of each kind: clean ones in memory and large, a package's, a
// finding, a note. It returns a large one.
func cleanRoot(t *testing.T) (p *placer, large []byte) {
	m := newMaker(t)
	p = &placer{t: t, m: m, dir: t.TempDir()}
	large = bytes.Repeat([]byte("a line of a large file\n"), maxMemory/16)
	loose := []byte("api_to" + "ken = " + m.chars(alnum, 24) + "\n")
	p.file("srv/plain", []byte("nothing here\n"))
	p.file("srv/large", large)
	p.file("usr/lib/app/defaults", loose)
	p.file("srv/copy.tar", p.tar("defaults", string(loose)))
	p.file("var/lib/dpkg/info/app.md5sums", fmt.Appendf(nil, "%x  usr/lib/app/defaults\n", md5.Sum(loose)))
	p.file("srv/key", []byte(m.openSSH()))
	p.file("srv/disk.squashfs", []byte("hsqs and more"))
	return p, large
}

func TestWarmScanTellsTheSame(t *testing.T) {
	p, large := cleanRoot(t)
	opts := Options{Clean: newMemoryClean()}
	cold, warm := scanned(t, p.dir, opts), scanned(t, p.dir, opts)
	if cold.Unchanged != 0 || len(cold.Findings) != 1 || len(cold.Notes) != 1 {
		t.Fatalf("the first scan: %d unchanged, %v, %v", cold.Unchanged, cold.Findings, cold.Notes)
	}
	if warm.Unchanged != warm.Files-2 { // the key and the squashfs are looked at
		t.Errorf("the second scan: %d unchanged of %d, want all but 2", warm.Unchanged, warm.Files)
	}
	warm.Unchanged, warm.Expanded = 0, cold.Expanded
	if diff := cmp.Diff(cold, warm); diff != "" {
		t.Errorf("the second scan's report differs (-first +second):\n%s", diff)
	}

	// Secrets planted in what was clean, in the large file without a change of its size.
	key := []byte(p.m.openSSH())
	p.file("srv/plain", append([]byte("nothing here\n"), key...))
	copy(large[len(large)-len(key):], key)
	p.file("srv/large", large)
	r := scanned(t, p.dir, opts)
	for _, path := range []string{"srv/plain", "srv/large", "srv/key"} {
		if len(rulesAt(r, path)) == 0 {
			t.Errorf("%s: a secret planted after a scan is not found", path)
		}
	}
}

// TestVerdictsAreOfOneScope changes what a verdict depends on beside the file.
func TestVerdictsAreOfOneScope(t *testing.T) {
	p, _ := cleanRoot(t)
	public := "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + p.m.chars(alnum, 43) + " someone@example"
	p.file("root/.ssh/authorized_keys", []byte(public+"\n"))
	opts := Options{Clean: newMemoryClean(), Declared: []string{public}}
	scanned(t, p.dir, opts)
	if r := scanned(t, p.dir, opts); len(rulesAt(r, "root/.ssh/authorized_keys")) != 0 || r.Unchanged == 0 {
		t.Fatalf("before: %d unchanged, %v", r.Unchanged, r.Findings)
	}

	changed := opts
	changed.Declared = nil
	if r := scanned(t, p.dir, changed); len(rulesAt(r, "root/.ssh/authorized_keys")) == 0 {
		t.Error("a key that is no longer declared is not found")
	}
	changed = opts
	changed.AllFiles = true
	if r := scanned(t, p.dir, changed); len(rulesAt(r, "usr/lib/app/defaults")) == 0 {
		t.Error("with AllFiles: what is in a package's file is not found")
	}
	changed = opts
	changed.Literals = []Literal{{Name: "word", Value: "nothing here"}}
	if r := scanned(t, p.dir, changed); len(rulesAt(r, "srv/plain")) == 0 || r.Unchanged != 0 {
		t.Errorf("with a literal: %d unchanged, %v", r.Unchanged, r.Findings)
	}

	p.file("var/lib/dpkg/info/app.md5sums", fmt.Appendf(nil, "%x  usr/lib/other\n", md5.Sum([]byte("other"))))
	r := scanned(t, p.dir, opts)
	for _, path := range []string{"usr/lib/app/defaults", "srv/copy.tar"} {
		if len(rulesAt(r, path)) == 0 {
			t.Errorf("%s: no package ships it now, and what is in it is not found", path)
		}
	}
}

// TestRulesHaveADigest wants any change of a rule to make verdicts void.
func TestRulesHaveADigest(t *testing.T) {
	fresh := func() *ruleSet {
		s, err := newRuleSet(Options{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	want := fresh().digest()
	if fresh().digest() != want {
		t.Fatal("the same rules have two digests")
	}
	for name, change := range map[string]func(*ruleSet){
		"expression": func(s *ruleSet) { s.rules[0].re = re("other") },
		"keyword":    func(s *ruleSet) { s.rules[1].keywords = []string{"other"} },
		"entropy":    func(s *ruleSet) { s.rules[2].entropy += 0.5 },
		"path":       func(s *ruleSet) { s.rules[3].path = re("other") },
		"one less":   func(s *ruleSet) { s.rules = s.rules[1:] },
		"built-in":   func(s *ruleSet) { s.builtins[0].path = "other" },
	} {
		s := fresh()
		change(s)
		if s.digest() == want {
			t.Errorf("%s: the digest does not change", name)
		}
	}
}

// TestFingerprintsWhereNeeded wants none of findings that are allowed without.
func TestFingerprintsWhereNeeded(t *testing.T) {
	p, _ := cleanRoot(t)
	fingerprint := scanned(t, p.dir, Options{}).Findings[0].Fingerprint
	if !fingerprintForm.MatchString(fingerprint) {
		t.Fatalf("a finding has the fingerprint %q", fingerprint)
	}
	for entry, want := range map[string]string{`path = "/srv/key"`: "", fmt.Sprintf("fingerprint = %q", fingerprint): fingerprint} {
		list, err := ParseAllowList("allow.toml", []byte("[[allow]]\nreason = \"a test\"\n"+entry), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		r := scanned(t, p.dir, Options{Allow: list})
		if len(r.Findings) != 0 || len(r.Allowed) != 1 || r.Allowed[0].Fingerprint != want {
			t.Errorf("%s: findings %v, allowed %v", entry, r.Findings, r.Allowed)
		}
	}
}
