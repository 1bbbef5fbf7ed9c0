package evidence

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/crypto/blake2b"
)

// MinisignSuffix ends the name of a signature in minisign's form.
const MinisignSuffix = ".minisig"

// Algorithms of minisign: a key, and a signature over a BLAKE2b-512
// (https://jedisct1.github.io/minisign/#signature-format).
const (
	minisignKey       = "Ed"
	minisignPrehashed = "ED"
)

// minisignID is minisign's name of a key: 8 bytes that it does not check.
func (p Public) minisignID() []byte {
	sum := sha256.Sum256(p.der())
	return sum[:8]
}

// Minisign is the public key as minisign reads it.
func (p Public) Minisign() []byte {
	id := p.minisignID()
	raw := append(append([]byte(minisignKey), id...), p.key...)
	return fmt.Appendf(nil, "untrusted comment: minisign public key %016X\n%s\n", binary.LittleEndian.Uint64(id), base64.StdEncoding.EncodeToString(raw))
}

// SignMinisign signs a stream of any length; name, of the file without its
// folder, is in the trusted comment.
func (k *Key) SignMinisign(r io.Reader, name string) ([]byte, error) {
	h, err := blake2b.New512(nil)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(h, r); err != nil {
		return nil, err
	}
	if strings.ContainsAny(name, "\r\n") {
		return nil, fmt.Errorf("file name %q: minisign's comment is one line", name)
	}
	sig, comment := ed25519.Sign(k.secret, h.Sum(nil)), "file:"+name+"\thashed"
	global := ed25519.Sign(k.secret, append(sig[:len(sig):len(sig)], comment...))
	raw := append(append([]byte(minisignPrehashed), k.Public.minisignID()...), sig...)
	return fmt.Appendf(nil, "untrusted comment: signature by kldload\n%s\ntrusted comment: %s\n%s\n",
		base64.StdEncoding.EncodeToString(raw), comment, base64.StdEncoding.EncodeToString(global)), nil
}

// verifyMinisign checks name against name.minisig: the file's digest, and the
// comment that is signed with it.
func (p Public) verifyMinisign(name string) error {
	text, err := readBounded(name+MinisignSuffix, maxKey)
	if err != nil {
		return err
	}
	sig, err := p.openMinisign(text)
	if err != nil {
		return err
	}
	f, err := open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	h, err := blake2b.New512(nil)
	if err != nil {
		return err
	}
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if !ed25519.Verify(p.key, h.Sum(nil), sig) {
		return fmt.Errorf("the minisign signature is not that of %s for this content", p.Fingerprint())
	}
	return nil
}

// openMinisign gives the signature of a file's digest out of minisign's four
// lines, when the trusted comment is as it was signed.
func (p Public) openMinisign(text []byte) ([]byte, error) {
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if len(lines) != 4 {
		return nil, fmt.Errorf("a minisign signature of %d lines: want 4", len(lines))
	}
	raw, err := base64.StdEncoding.DecodeString(lines[1])
	const head = len(minisignPrehashed) + 8
	if err != nil || len(raw) != head+ed25519.SignatureSize || string(raw[:2]) != minisignPrehashed {
		return nil, errors.New("the second line is no minisign signature of a digest, as kldload key sign --format minisign writes them")
	}
	global, err := base64.StdEncoding.DecodeString(lines[3])
	comment, ok := strings.CutPrefix(lines[2], "trusted comment: ")
	sig := raw[head:]
	if err != nil || !ok || !ed25519.Verify(p.key, append(sig[:len(sig):len(sig)], comment...), global) {
		return nil, fmt.Errorf("the minisign signature's trusted comment is not signed by %s", p.Fingerprint())
	}
	return sig, nil
}
