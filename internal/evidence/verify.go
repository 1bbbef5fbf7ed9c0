package evidence

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// maxSigned bounds a file with a detached signature, which Ed25519 needs whole
// in memory; an image is vouched for by its provenance.
const maxSigned = 256 << 20

// Verified is a file that is as its signature says.
type Verified struct {
	File string `json:"file"`
	By   string `json:"by"` // the file with the signature
	// Subjects are the files beside an envelope that its statements name, with
	// the right digest; Absent those that are not there.
	Subjects []string `json:"subjects,omitempty"`
	Absent   []string `json:"absent,omitempty"`
}

// VerifyFile checks name against name.sig, or, when it is a file of envelopes,
// every one of them and the files beside it that they name.
func (p Public) VerifyFile(name string) (Verified, error) {
	v := Verified{File: name, By: name + SignatureSuffix}
	if strings.HasSuffix(name, EnvelopeSuffix) {
		v.By = name
		return v, p.verifyEnvelopes(name, &v)
	}
	signature, err := readBounded(v.By, maxKey)
	if errors.Is(err, fs.ErrNotExist) {
		return v, fmt.Errorf("verifying %q: no signature %q beside it\nhint: an image is vouched for by its provenance: name the %s file", name, filepath.Base(v.By), EnvelopeSuffix)
	}
	if err != nil {
		return v, fmt.Errorf("verifying %q: %w", name, err)
	}
	data, err := readBounded(name, maxSigned)
	if err == nil {
		err = p.Verify(data, signature)
	}
	if err != nil {
		return v, fmt.Errorf("verifying %q: %w", name, err)
	}
	return v, nil
}

// verifyMinisigned checks name against name.minisig.
func (p Public) verifyMinisigned(name string) (Verified, error) {
	v := Verified{File: name, By: name + MinisignSuffix}
	if err := p.verifyMinisign(name); err != nil {
		return v, fmt.Errorf("verifying %q: %w", name, err)
	}
	return v, nil
}

// open does not wait for the writer of a FIFO.
func open(name string) (*os.File, error) { return os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0) }

func readBounded(name string, limit int64) ([]byte, error) {
	f, err := open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%q has more than %d KiB", name, limit>>10)
	}
	return data, err
}

// SignFile gives the detached signature of a file.
func (k *Key) SignFile(name string) ([]byte, error) {
	data, err := readBounded(name, maxSigned)
	if err != nil {
		return nil, err
	}
	return k.Sign(data), nil
}

// VerifyDir verifies every signature in a folder, by name, minisign's too. A
// file that none of them vouches for is an error, a public key (.pub) is not, and
// folders are left out.
func (p Public) VerifyDir(dir string) ([]Verified, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []Verified
	vouched := map[string]bool{}
	for _, e := range entries {
		name, signature := strings.CutSuffix(e.Name(), SignatureSuffix)
		minisigned, minisign := strings.CutSuffix(e.Name(), MinisignSuffix)
		if !signature && !minisign && !strings.HasSuffix(name, EnvelopeSuffix) {
			continue
		}
		verify := p.VerifyFile
		if minisign {
			name, verify = minisigned, p.verifyMinisigned
		}
		v, err := verify(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		all = append(all, v)
		for _, file := range append(v.Subjects, v.File, v.By) {
			vouched[filepath.Base(file)] = true
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("verifying %q: no signature in it", dir)
	}
	for _, e := range entries {
		if !vouched[e.Name()] && !e.IsDir() && !strings.HasSuffix(e.Name(), ".pub") {
			return nil, fmt.Errorf("verifying %q: nothing vouches for %q", dir, e.Name())
		}
	}
	return all, nil
}

func (p Public) verifyEnvelopes(name string, v *Verified) error {
	data, err := readBounded(name, maxSigned)
	if err != nil {
		return fmt.Errorf("verifying %q: %w", name, err)
	}
	statements := 0
	for line := range bytes.Lines(data) {
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		s, err := p.OpenStatement(line)
		if err != nil {
			return fmt.Errorf("verifying %q: %w", name, err)
		}
		if s.PredicateType != provenanceType {
			return fmt.Errorf("verifying %q: a signed statement of type %q: want a provenance, %q", name, s.PredicateType, provenanceType)
		}
		statements++
		for _, subject := range s.Subject {
			if err := v.subject(subject); err != nil {
				return fmt.Errorf("verifying %q: %w", name, err)
			}
		}
	}
	if statements == 0 {
		return fmt.Errorf("verifying %q: no statement in it", name)
	}
	if len(v.Subjects) == 0 {
		return fmt.Errorf("verifying %q: it is signed, and none of the files that it names is beside it (wants %s)", name, strings.Join(v.Absent, ", "))
	}
	return nil
}

// subject compares a file beside the envelope with its digest in a statement.
func (v *Verified) subject(r Resource) error {
	want := r.Digest["sha256"]
	if want == "" || r.Name == "" || r.Name != filepath.Base(r.Name) {
		return fmt.Errorf("subject %q: want a file's name and its sha256", r.Name)
	}
	path := filepath.Join(filepath.Dir(v.File), r.Name)
	got, err := Digest(path)
	if errors.Is(err, fs.ErrNotExist) {
		if !slices.Contains(v.Absent, r.Name) {
			v.Absent = append(v.Absent, r.Name)
		}
		return nil
	}
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%q is not what was built: its SHA-256 is %s, the provenance says %s", path, got, want)
	}
	if !slices.Contains(v.Subjects, path) {
		v.Subjects = append(v.Subjects, path)
	}
	return nil
}

// Digest is the SHA-256 of a regular file, in hex.
func Digest(name string) (string, error) {
	f, err := open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%q: not a regular file", name)
	}
	if err != nil {
		return "", err
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("hashing %q: %w", name, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
