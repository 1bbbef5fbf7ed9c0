package darksite

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
)

// Darksite is an opened darksite: its lock is believed because its signature
// is good, its packages because apt checks them against the signed index.
type Darksite struct {
	Lock *Lock

	dir    string
	digest string
}

// Open reads a darksite, checks the signature over its index and lock with
// the key it holds, and that each package is there with its size. It does
// not hash the packages; Verify does.
func Open(dir string) (*Darksite, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	l, lockDigest, err := readLock(abs)
	if err != nil {
		return nil, err
	}
	d := &Darksite{Lock: l, dir: abs, digest: lockDigest}
	if err := d.checkIndex(); err != nil {
		return nil, fmt.Errorf("opening darksite %q: %w\nhint: kldload darksite create repairs it", dir, err)
	}
	var bad []error
	for _, p := range l.Packages {
		info, err := os.Lstat(filepath.Join(abs, p.Filename))
		switch {
		case os.IsNotExist(err):
			bad = append(bad, fmt.Errorf("package %s %s: %s is missing", p.Name, p.Version, p.Filename))
		case err != nil:
			bad = append(bad, err)
		case !info.Mode().IsRegular() || info.Size() != p.Size:
			bad = append(bad, fmt.Errorf("package %s %s: %s is damaged: %d bytes, want %d", p.Name, p.Version, p.Filename, info.Size(), p.Size))
		}
	}
	if len(bad) > 0 {
		return nil, fmt.Errorf("opening darksite %q: %w\nhint: kldload darksite create repairs it", dir, errors.Join(bad...))
	}
	return d, nil
}

// checkIndex checks the chain from the key to the lock and the index.
func (d *Darksite) checkIndex() error {
	key, err := os.ReadFile(d.KeyPath())
	if err != nil {
		return err
	}
	name := indexDir(d.Lock.Release) + "/InRelease"
	signed, err := os.ReadFile(filepath.Join(d.dir, name))
	if err != nil {
		return err
	}
	text, signer, err := checkSigned(signed, key)
	if err != nil {
		return fmt.Errorf("signature of %s: %w", name, err)
	}
	if signer != d.Lock.KeyFingerprint {
		return fmt.Errorf("signature of %s: by key %s, want %s", name, signer, d.Lock.KeyFingerprint)
	}
	sts := parseStanzas(text)
	if len(sts) != 1 {
		return fmt.Errorf("%s: not one Release stanza", name)
	}
	if got := sts[0].get(lockField); got != d.digest {
		return fmt.Errorf("%s is not the signed one: digest %s, want %s", lockName, d.digest, got)
	}
	return d.checkListed(sts[0].get("SHA256"))
}

// checkListed checks the files that the Release file lists by digest.
func (d *Darksite) checkListed(list string) error {
	seen := map[string]bool{}
	for _, line := range strings.Split(strings.TrimSpace(list), "\n") {
		f := strings.Fields(line)
		if len(f) != 3 || !filepath.IsLocal(f[2]) {
			return fmt.Errorf("InRelease: SHA256: %q: want DIGEST SIZE NAME", line)
		}
		name := path.Join(indexDir(d.Lock.Release), f[2])
		data, err := os.ReadFile(filepath.Join(d.dir, name))
		if err != nil {
			return err
		}
		if sum := sha256.Sum256(data); fmt.Sprintf("%x", sum) != f[0] {
			return fmt.Errorf("%s is damaged: SHA-256 %x, want %s", name, sum, f[0])
		}
		seen[name] = true
		if name == packagesName(d.Lock) {
			if err := sameAsLock(data, d.Lock); err != nil {
				return err
			}
		}
	}
	if !seen[packagesName(d.Lock)] {
		return fmt.Errorf("InRelease does not list %s", packagesName(d.Lock))
	}
	return nil
}

// sameAsLock makes sure that apt's index and the lock name the same packages.
func sameAsLock(index []byte, l *Lock) error {
	sts := parseStanzas(index)
	if len(sts) != len(l.Packages) {
		return fmt.Errorf("the index has %d packages, the lock %d", len(sts), len(l.Packages))
	}
	for i, st := range sts {
		p := l.Packages[i]
		if st.get("Package") != p.Name || st.get("Version") != p.Version || st.get("SHA256") != p.SHA256 || st.get("Filename") != p.Filename {
			return fmt.Errorf("the index has %s %s where the lock has %s %s", st.get("Package"), st.get("Version"), p.Name, p.Version)
		}
	}
	return nil
}

// Digest is the darksite's identity: "sha256:" and the digest of its lock.
func (d *Darksite) Digest() string { return d.digest }

// RepoDir is the folder that holds dists and pool.
func (d *Darksite) RepoDir() string { return d.dir }

// KeyPath is the public key that signed the repository, for apt's Signed-By.
func (d *Darksite) KeyPath() string { return filepath.Join(d.dir, keyName) }

// AptSource is the darksite as one line of sources.list(5) for this host.
// uri is where it is reached; "" is its folder.
func (d *Darksite) AptSource(uri string) string {
	s := d.source()
	if uri != "" {
		s.uri = strings.TrimRight(uri, "/")
	}
	return fmt.Sprintf("deb [arch=%s signed-by=%s] %s %s %s", d.Lock.Arch, s.signedBy, s.uri, s.suite, strings.Join(s.components, " "))
}

// AptSources is the same in deb822 form, for a .sources file; key is the
// public key's path as apt will see it, "" puts the key itself into the text.
func (d *Darksite) AptSources(uri, key string) (string, error) {
	s := d.source()
	if uri != "" {
		s.uri = strings.TrimRight(uri, "/")
	}
	s.signedBy = key
	if key == "" {
		armoured, err := armouredKey(d.KeyPath())
		if err != nil {
			return "", err
		}
		s.signedBy = armoured
	}
	return s.stanza(), nil
}

func (d *Darksite) source() source {
	uri := url.URL{Path: d.dir}
	return source{uri: "file:" + uri.EscapedPath(), suite: d.Lock.Release, components: []string{"main"}, signedBy: d.KeyPath()}
}

// armouredKey gives a public key as deb822's Signed-By wants it inside the
// file: armoured, each line indented, an empty one as ".".
func armouredKey(name string) (string, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	w, err := armor.Encode(&b, openpgp.PublicKeyType, nil)
	if err != nil {
		return "", err
	}
	if _, err := w.Write(data); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	var out strings.Builder
	for _, line := range strings.Split(strings.TrimSpace(b.String()), "\n") {
		if line == "" {
			line = "."
		}
		out.WriteString("\n " + line)
	}
	return out.String(), nil
}
