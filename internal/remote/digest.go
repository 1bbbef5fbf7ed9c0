package remote

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// digest gives the SHA-256 of a file of the host, in hex: computed there when
// the host runs commands for us without asking, else by reading it back.
func (s *Session) digest(ctx context.Context, name string) (sum string, err error) {
	if !s.noShell {
		if sum, ok := s.digestThere(ctx, name); ok {
			return sum, nil
		}
		s.noShell = true // not to ask in vain again: some hosts shut out who does
	}
	f, err := s.conn.sftp.Open(name)
	if err != nil {
		return "", fmt.Errorf("opening %q to read it back: %w", name, err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := f.WriteTo(h); err != nil {
		return "", fmt.Errorf("reading %q back: %w", name, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// sumMark begins the line of the digest, among whatever login files print.
const sumMark = "kldload-sha256 "

// digestThere has the host compute the digest. The login shell sees the word
// "sh" alone, whatever shell it is; the file's name goes in the script that
// this sh reads, where POSIX quoting is certain. openssl comes first since it
// uses the processor's SHA instructions, which sha256sum often does not.
func (s *Session) digestThere(ctx context.Context, name string) (string, bool) {
	script := fmt.Sprintf("f=%s\nprintf '\\n%%s' '%s'\n"+
		`openssl dgst -sha256 -r <"$f" || sha256sum <"$f" || shasum -a 256 <"$f"`+"\n", quote(name), sumMark)
	out, err := s.command(ctx, "sh", script)
	if err != nil {
		return "", false
	}
	for line := range bytes.Lines(out) {
		sum, ok := strings.CutPrefix(string(line), sumMark)
		if ok && len(sum) >= 2*sha256.Size && checkDigest(sum[:2*sha256.Size]) == nil {
			return sum[:2*sha256.Size], true
		}
	}
	return "", false
}

// checkDigest wants a SHA-256 in lower-case hex.
func checkDigest(s string) error {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != sha256.Size || strings.ToLower(s) != s {
		return fmt.Errorf("SHA-256 %q: want 64 lower-case hex digits", s)
	}
	return nil
}
