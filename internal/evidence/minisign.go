package evidence

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
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
