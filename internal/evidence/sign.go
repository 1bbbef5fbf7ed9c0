package evidence

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
)

// SignatureSuffix ends the name of a detached signature, EnvelopeSuffix that
// of a file with signed statements.
const (
	SignatureSuffix = ".sig"
	EnvelopeSuffix  = ".intoto.jsonl"
)

// ErrSignature says that a signature is not of this key and these bytes.
var ErrSignature = errors.New("the signature is wrong")

// Sign gives the detached signature of data: 64 bytes (RFC 8032, pure).
func (k *Key) Sign(data []byte) []byte { return ed25519.Sign(k.secret, data) }

// Verify checks a detached signature, in its 64 bytes or in base64.
func (p Public) Verify(data, signature []byte) error {
	if len(signature) != ed25519.SignatureSize {
		if raw, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(signature))); err == nil {
			signature = raw
		}
	}
	if len(signature) != ed25519.SignatureSize {
		return fmt.Errorf("%w: %d bytes: want the %d of Ed25519", ErrSignature, len(signature), ed25519.SignatureSize)
	}
	if !ed25519.Verify(p.key, data, signature) {
		return ErrSignature
	}
	return nil
}

// payloadType of in-toto statements in an envelope.
const payloadType = "application/vnd.in-toto+json"

// envelope is DSSE's JSON form.
type envelope struct {
	PayloadType string              `json:"payloadType"`
	Payload     []byte              `json:"payload"` // base64
	Signatures  []envelopeSignature `json:"signatures"`
}

type envelopeSignature struct {
	// KeyID stays empty, as cosign's does: tools agree on no way to name a key
	// and skip a signature with a name that is not theirs.
	KeyID string `json:"keyid"`
	Sig   []byte `json:"sig"`
}

// preAuth is what is signed: DSSE's pre-authentication encoding, PAE.
func preAuth(kind string, payload []byte) []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(kind), kind, len(payload), payload)
}

// SignStatement gives a statement in a signed envelope, on one line.
func (k *Key) SignStatement(s *Statement) ([]byte, error) {
	payload, err := marshal(s)
	if err != nil {
		return nil, err
	}
	line, err := marshal(envelope{payloadType, payload, []envelopeSignature{{Sig: k.Sign(preAuth(payloadType, payload))}}})
	return append(line, '\n'), err
}

// marshal is JSON without escapes for HTML and without a line break.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// OpenStatement gives the statement of an envelope that this key signed.
func (p Public) OpenStatement(line []byte) (*Statement, error) {
	var e envelope
	if err := json.Unmarshal(line, &e); err != nil {
		return nil, fmt.Errorf("not a DSSE envelope: %w", err)
	}
	if e.PayloadType != payloadType {
		return nil, fmt.Errorf("envelope of %q: want %q", e.PayloadType, payloadType)
	}
	signed := false
	for _, s := range e.Signatures {
		signed = signed || p.Verify(preAuth(e.PayloadType, e.Payload), s.Sig) == nil
	}
	if !signed {
		return nil, fmt.Errorf("%w: none of %d in the envelope is by key %s", ErrSignature, len(e.Signatures), p.Fingerprint())
	}
	var s Statement
	if err := json.Unmarshal(e.Payload, &s); err != nil {
		return nil, fmt.Errorf("reading the statement: %w", err)
	}
	if s.Type != statementType {
		return nil, fmt.Errorf("statement of %q: want %q", s.Type, statementType)
	}
	return &s, nil
}
