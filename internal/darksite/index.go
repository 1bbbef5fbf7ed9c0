package darksite

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"

	"github.com/kldload/kldload/internal/atomicfile"
	"github.com/kldload/kldload/internal/run"
)

// lockField, in the signed Release file, holds the digest of the lock: the
// signature covers the lock, too. apt ignores fields it does not know.
const lockField = "X-Kldload-Lock"

// indexDir is where a release's indexes lie.
func indexDir(release string) string { return path.Join("dists", release) }

func packagesName(l *Lock) string {
	return path.Join(indexDir(l.Release), "main", "binary-"+l.Arch, "Packages")
}

// entries gives the index entry of each package of want as upstream signed
// it, with the pool's file name.
func (u *upstream) entries(ctx context.Context, want []remote) (map[string]string, error) {
	args := []string{"apt-cache", "show"}
	for _, r := range want {
		args = append(args, r.Name+"="+r.Version)
	}
	out, err := u.output(ctx, "reading the index entries", args...)
	if err != nil {
		return nil, err
	}
	bySum := map[string]string{}
	for _, st := range parseStanzas(out) {
		bySum[st.get("SHA256")] = st.text
	}
	entries := map[string]string{}
	for _, r := range want {
		text, ok := bySum[r.SHA256]
		if !ok {
			return nil, fmt.Errorf("package %s %s: apt-cache shows no entry with SHA-256 %s", r.Name, r.Version, r.SHA256)
		}
		entries[r.Filename] = setField(text, "Filename", r.Filename)
	}
	return entries, nil
}

// setField replaces a one-line field of a stanza's text.
func setField(text, field, value string) string {
	lines := strings.SplitAfter(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, field+":") {
			lines[i] = field + ": " + value + "\n"
		}
	}
	return strings.Join(lines, "")
}

// addDeb puts a package of our own into the pool and gives its index entry.
func addDeb(ctx context.Context, staging, deb string) (Package, string, error) {
	control, err := run.Output(ctx, run.Cmd{Doing: "reading " + deb, Args: []string{"dpkg-deb", "--field", deb}})
	if err != nil {
		return Package{}, "", err
	}
	data, err := os.ReadFile(deb)
	if err != nil {
		return Package{}, "", err
	}
	sts := parseStanzas(control)
	if len(sts) != 1 {
		return Package{}, "", fmt.Errorf("reading %s: no control file", deb)
	}
	st := sts[0]
	sum := sha256.Sum256(data)
	p := Package{Name: st.get("Package"), Version: st.get("Version"), Architecture: st.get("Architecture"),
		Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:])}
	p.Filename = poolName(p.Name, fmt.Sprintf("%s_%s_%s.deb", p.Name, p.Version, p.Architecture))
	name := filepath.Join(staging, p.Filename)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return Package{}, "", err
	}
	if err := atomicfile.WriteFile(name, data, 0o644); err != nil {
		return Package{}, "", err
	}
	return p, st.text + fmt.Sprintf("Filename: %s\nSize: %d\nSHA256: %s\n", p.Filename, p.Size, p.SHA256), nil
}

// writeIndex writes the indexes, signed, the public key and, last, the lock.
func writeIndex(dir string, l *Lock, entries map[string]string, key *openpgp.Entity) error {
	l.KeyFingerprint = fingerprint(key)
	lock, err := l.marshal()
	if err != nil {
		return err
	}
	var packages bytes.Buffer
	for _, p := range l.Packages {
		packages.WriteString(entries[p.Filename] + "\n")
	}
	zipped, err := gzipped(packages.Bytes())
	if err != nil {
		return err
	}
	name := packagesName(l)
	release := releaseText(l, digest(lock), map[string][]byte{name: packages.Bytes(), name + ".gz": zipped})
	signed, err := clearSign(key, release, l.Epoch)
	if err != nil {
		return err
	}
	public, err := publicKey(key)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(dir, "dists")); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, path.Dir(name)), 0o755); err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		data []byte
	}{{name, packages.Bytes()}, {name + ".gz", zipped}, {indexDir(l.Release) + "/InRelease", signed}, {keyName, public}, {lockName, lock}} {
		if err := atomicfile.WriteFile(filepath.Join(dir, f.name), f.data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func gzipped(data []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	err = w.Close()
	return b.Bytes(), err
}

func releaseText(l *Lock, lockDigest string, files map[string][]byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "Origin: kldload\nLabel: kldload darksite\nSuite: %s\nCodename: %s\nDate: %s\nArchitectures: %s\nComponents: main\n%s: %s\nSHA256:\n",
		l.Release, l.Release, strings.Replace(time.Unix(l.Epoch, 0).UTC().Format(time.RFC1123), "UTC", "+0000", 1),
		l.Arch, lockField, lockDigest)
	for _, name := range sortedKeys(files) {
		sum := sha256.Sum256(files[name])
		fmt.Fprintf(&b, " %x %d %s\n", sum, len(files[name]), strings.TrimPrefix(name, indexDir(l.Release)+"/"))
	}
	return b.Bytes()
}

// prune removes from the pool what the lock does not name: packages of an
// older state.
func prune(dir string, l *Lock) error {
	keep := make([]string, 0, len(l.Packages))
	for _, p := range l.Packages {
		keep = append(keep, p.Filename)
	}
	slices.Sort(keep)
	err := filepath.WalkDir(filepath.Join(dir, "pool"), func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		if _, ok := slices.BinarySearch(keep, filepath.ToSlash(rel)); !ok {
			return os.Remove(name)
		}
		return nil
	})
	return err
}

// removeEmpty removes the empty folders below dir, which prune leaves.
func removeEmpty(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && name != dir {
			dirs = append(dirs, name)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, d := range slices.Backward(dirs) {
		if f, err := os.Open(d); err == nil {
			_, err = f.Readdirnames(1)
			f.Close()
			if err == io.EOF {
				if err := os.Remove(d); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
