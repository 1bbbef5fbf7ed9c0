// Package evidence proves where an image came from: Ed25519 keys, detached
// signatures, DSSE envelopes, and the in-toto statement with a SLSA v1
// provenance that a build makes of itself.
//
// Everything is a published form that other tools read: keys are PKCS#8 and
// SPKI in PEM (RFC 8410), signatures are the 64 bytes of RFC 8032, envelopes
// are DSSE v1 (https://github.com/secure-systems-lab/dsse/blob/master/protocol.md),
// statements are in-toto v1 (https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md).
// It supports no other algorithm, no key with a passphrase, no hardware key and
// no transparency log: none is needed offline.
//
// Ed25519 is deterministic: the same bytes and key give the same signature.
package evidence
