package darksite

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/kldload/kldload/internal/atomicfile"
)

// pgpConfig is Ed25519 with SHA-512 in version 4 packets, which the gpgv of
// every supported release accepts.
func pgpConfig(now time.Time) *packet.Config {
	random := false // equal input gives equal signatures
	return &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, DefaultHash: crypto.SHA512,
		NonDeterministicSignaturesViaNotation: &random, Time: func() time.Time { return now }}
}

// keyPath is where the user's own signing key lies.
func keyPath() (string, error) {
	base := os.Getenv("XDG_DATA_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("finding the signing key: %w", err)
		}
		base = filepath.Join(home, ".local", "share")
	}
	return filepath.Join(base, "kldload", "keys", "darksite.key"), nil
}

// signingKey reads a private key, or the user's own when name is "", which
// is made on first use.
func signingKey(name string) (*openpgp.Entity, error) {
	own := name == ""
	if own {
		var err error
		if name, err = keyPath(); err != nil {
			return nil, err
		}
	}
	data, err := os.ReadFile(name)
	if own && os.IsNotExist(err) {
		return makeKey(name, time.Now().Truncate(time.Second))
	}
	if err != nil {
		return nil, fmt.Errorf("reading the signing key: %w", err)
	}
	info, err := os.Stat(name)
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("signing key %q: mode %04o lets others read it\nhint: chmod 600 %s", name, info.Mode().Perm(), name)
	}
	keys, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(data))
	if err != nil {
		keys, err = openpgp.ReadKeyRing(bytes.NewReader(data))
	}
	if err != nil || len(keys) != 1 || keys[0].PrivateKey == nil || keys[0].PrivateKey.Encrypted {
		return nil, errors.Join(fmt.Errorf("signing key %q: want one private OpenPGP key without a passphrase", name), err)
	}
	return keys[0], nil
}

func makeKey(name string, now time.Time) (*openpgp.Entity, error) {
	key, err := openpgp.NewEntity("kldload darksite", "", "", pgpConfig(now))
	if err != nil {
		return nil, fmt.Errorf("making the signing key: %w", err)
	}
	var b bytes.Buffer
	w, err := armor.Encode(&b, openpgp.PrivateKeyType, nil)
	if err == nil {
		err = errors.Join(key.SerializePrivate(w, pgpConfig(now)), w.Close())
	}
	if err == nil {
		err = os.MkdirAll(filepath.Dir(name), 0o700)
	}
	if err == nil {
		err = atomicfile.WriteFile(name, append(b.Bytes(), '\n'), 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("making the signing key: %w", err)
	}
	return key, nil
}

// fingerprint is the key's, in upper-case hexadecimal as gpg prints it.
func fingerprint(key *openpgp.Entity) string {
	return strings.ToUpper(hex.EncodeToString(key.PrimaryKey.Fingerprint))
}

func publicKey(key *openpgp.Entity) ([]byte, error) {
	var b bytes.Buffer
	err := key.Serialize(&b)
	return b.Bytes(), err
}

// clearSign signs text as of the later of epoch and the key's birth, so that
// the same text and key give the same bytes.
func clearSign(key *openpgp.Entity, text []byte, epoch int64) ([]byte, error) {
	at := time.Unix(epoch, 0)
	if born := key.PrimaryKey.CreationTime; at.Before(born) {
		at = born
	}
	cfg := pgpConfig(at)
	signer, ok := key.SigningKey(at)
	if !ok {
		return nil, fmt.Errorf("signing: key %s may not sign", fingerprint(key))
	}
	var b bytes.Buffer
	w, err := clearsign.Encode(&b, signer.PrivateKey, cfg)
	if err == nil {
		_, err = w.Write(text)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	return append(b.Bytes(), '\n'), nil
}

// checkSigned gives the text of a clear-signed file, and the fingerprint of
// the key among keyring that signed it.
func checkSigned(signed, keyring []byte) (text []byte, signer string, err error) {
	keys, err := openpgp.ReadKeyRing(bytes.NewReader(keyring))
	if err != nil {
		return nil, "", err
	}
	block, rest := clearsign.Decode(signed)
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		return nil, "", errors.New("not one clear-signed text")
	}
	key, err := block.VerifySignature(keys, nil)
	if err != nil {
		return nil, "", err
	}
	return block.Plaintext, fingerprint(key), nil
}
