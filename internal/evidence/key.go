package evidence

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/kldload/kldload/internal/atomicfile"
)

// PEM types of RFC 7468.
const (
	pemPrivate   = "PRIVATE KEY"
	pemEncrypted = "ENCRYPTED PRIVATE KEY"
	pemPublic    = "PUBLIC KEY"
)

// maxKey bounds a key's file.
const maxKey = 64 << 10

// Key is a private key; its public half is Public.
type Key struct {
	Public Public
	secret ed25519.PrivateKey
}

// Public is a public key.
type Public struct{ key ed25519.PublicKey }

// DefaultKeyPath is where the user's own key lies, beside the darksite's.
func DefaultKeyPath() (string, error) {
	base := os.Getenv("XDG_DATA_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("finding the signing key: %w", err)
		}
		base = filepath.Join(home, ".local", "share")
	}
	return filepath.Join(base, "kldload", "keys", "signing.key"), nil
}

// Generate makes a key and writes it to name, for its owner alone. A file that
// has the name stays: the error is fs.ErrExist.
func Generate(name string) (*Key, error) {
	public, secret, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(secret)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return nil, fmt.Errorf("making the signing key: %w", err)
	}
	f, err := atomicfile.Create(name, 0o600)
	if err != nil {
		return nil, fmt.Errorf("making the signing key: %w", err)
	}
	if err := pem.Encode(f, &pem.Block{Type: pemPrivate, Bytes: der}); err != nil {
		return nil, errors.Join(fmt.Errorf("making the signing key: %w", err), f.Abort())
	}
	if err := f.CommitNew(); err != nil {
		return nil, fmt.Errorf("making the signing key: %w", err)
	}
	return &Key{Public{public}, secret}, nil
}

// Load reads a private key. Others must not be able to read it, either.
func Load(name string) (*Key, error) {
	f, err := open(name)
	if err != nil {
		return nil, fmt.Errorf("reading the signing key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading the signing key: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("signing key %q: not a regular file", name)
	}
	data, err := readKey(f)
	if err != nil {
		return nil, fmt.Errorf("signing key %q: %w", name, err)
	}
	key, err := parsePrivate(data)
	if err != nil {
		return nil, fmt.Errorf("signing key %q: %w", name, err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("signing key %q: mode %04o lets others read it\nhint: chmod 600 %s; who may have read it can sign: kldload key generate makes a new one", name, info.Mode().Perm(), name)
	}
	return key, nil
}

func readKey(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxKey+1))
	if err == nil && len(data) > maxKey {
		err = fmt.Errorf("more than %d KiB: no key", maxKey>>10)
	}
	return data, err
}

func parsePrivate(data []byte) (*Key, error) {
	block, _ := pem.Decode(data)
	switch {
	case block == nil:
		return nil, errors.New("no PEM\nhint: want an Ed25519 key in PKCS#8, as kldload key generate and openssl genpkey -algorithm ed25519 write it")
	case block.Type == pemEncrypted || block.Headers["DEK-Info"] != "":
		return nil, errors.New("it has a passphrase, which a build could not ask for\nhint: keep a key without one on an encrypted disk: openssl pkey -in KEY -out PLAIN")
	case block.Type == pemPublic:
		return nil, errors.New("it is a public key: want the private one")
	case block.Type != pemPrivate:
		return nil, fmt.Errorf("PEM type %q: want %q\nhint: openssl genpkey -algorithm ed25519 and kldload key generate write it", block.Type, pemPrivate)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("PKCS#8: %w", err)
	}
	secret, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("a key of type %T: want Ed25519\nhint: kldload key generate makes one", parsed)
	}
	return &Key{Public{secret.Public().(ed25519.PublicKey)}, secret}, nil
}

// LoadPublic reads a public key, or the public half of a private one.
func LoadPublic(name string) (Public, error) {
	f, err := open(name)
	if err != nil {
		return Public{}, fmt.Errorf("reading the public key: %w", err)
	}
	defer f.Close()
	data, err := readKey(f)
	if err != nil {
		return Public{}, fmt.Errorf("public key %q: %w", name, err)
	}
	if block, _ := pem.Decode(data); block != nil && block.Type == pemPrivate {
		key, err := Load(name)
		if err != nil {
			return Public{}, err
		}
		return key.Public, nil
	}
	p, err := parsePublic(data)
	if err != nil {
		return Public{}, fmt.Errorf("public key %q: %w", name, err)
	}
	return p, nil
}

func parsePublic(data []byte) (Public, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != pemPublic {
		return Public{}, fmt.Errorf("no PEM of type %q\nhint: kldload key public and openssl pkey -pubout write it", pemPublic)
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return Public{}, fmt.Errorf("SPKI: %w", err)
	}
	key, ok := parsed.(ed25519.PublicKey)
	if !ok {
		return Public{}, fmt.Errorf("a key of type %T: want Ed25519", parsed)
	}
	return Public{key}, nil
}

// der is SubjectPublicKeyInfo, which an Ed25519 key always has.
func (p Public) der() []byte {
	der, err := x509.MarshalPKIXPublicKey(p.key)
	if err != nil {
		return nil
	}
	return der
}

// PEM is the public key as openssl reads it.
func (p Public) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemPublic, Bytes: p.der()})
}

// Fingerprint names the key: "sha256:" and the digest of its DER, as
// openssl pkey -pubin -outform DER | sha256sum shows it.
func (p Public) Fingerprint() string {
	sum := sha256.Sum256(p.der())
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Own gives the user's own key at [DefaultKeyPath], made when there is none;
// made tells.
func Own() (key *Key, name string, made bool, err error) {
	if name, err = DefaultKeyPath(); err != nil {
		return nil, "", false, err
	}
	key, err = Load(name)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, name, false, err
	}
	key, err = Generate(name)
	if errors.Is(err, fs.ErrExist) { // another build was faster
		key, err = Load(name)
		return key, name, false, err
	}
	return key, name, err == nil, err
}
