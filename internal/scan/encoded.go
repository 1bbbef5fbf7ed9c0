package scan

import (
	"bytes"
	"encoding/base64"
	"fmt"
)

// base64Value is not 0 for the letters of base64, both alphabets.
var base64Value = func() (t [256]uint8) {
	for i, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_") {
		t[c] = uint8(i + 1)
	}
	return t
}()

const (
	minEncoded = 32      // letters of a blob that is worth decoding
	wrapped    = 40      // letters of a line that goes on in the next
	maxEncoded = 1 << 20 // of one blob
)

// encoded looks into blobs of base64 that begin in b[lo:hi]: keys in YAML,
// files of cloud-init, mail. What decodes to no text and no container is left.
func (u *unit) encoded(b []byte, lo, hi int) {
	if u.depth >= maxDepth {
		return
	}
	for at := lo; at < hi; {
		if base64Value[b[at]] == 0 {
			at++
			continue
		}
		if at > 0 && at == lo && base64Value[b[at-1]] != 0 { // began before: the neighbour has it
			for at < hi && base64Value[b[at]] != 0 {
				at++
			}
			continue
		}
		letters, end := blob(b, at)
		if len(letters) >= minEncoded {
			u.decode(letters, u.lines+bytes.Count(b[:at], []byte{'\n'})+1)
		}
		at = end
	}
}

// blob collects letters from at on, over line ends where the lines are long.
func blob(b []byte, at int) (letters []byte, end int) {
	for {
		n := at
		for n < len(b) && base64Value[b[n]] != 0 {
			n++
		}
		line := n - at
		if letters == nil {
			letters = b[at:n:n]
		} else {
			letters = append(letters, b[at:n]...)
		}
		end = n
		if n == len(b) || line < wrapped || len(letters) > maxEncoded || b[n] != '\n' && b[n] != '\r' {
			return letters, end
		}
		for n < len(b) && (b[n] == '\n' || b[n] == '\r' || b[n] == ' ' || b[n] == '\t') {
			n++
		}
		if n == len(b) || base64Value[b[n]] == 0 {
			return letters, end
		}
		at = n
	}
}

func (u *unit) decode(letters []byte, line int) {
	enc := base64.RawStdEncoding
	if bytes.ContainsAny(letters, "-_") {
		enc = base64.RawURLEncoding
	}
	out := make([]byte, enc.DecodedLen(len(letters)))
	n, err := enc.Decode(out, letters)
	if out = out[:n]; n < minEncoded/2 || err != nil && n < len(letters)/2 || !u.e.worthwhile(out) {
		return
	}
	c := u.child(fmt.Sprintf("base64 of line %d", line), u.path)
	if c.content(out, bytes.NewReader(out), int64(len(out))) == nil {
		u.adopt(c)
	}
}

// worthwhile says whether decoded bytes are text, a container or a key.
func (e *Engine) worthwhile(b []byte) bool {
	if e.containerOf(b) != nil || binaryKey(b, "") != nil {
		return true
	}
	text := 0
	for _, c := range b {
		if printable(c) {
			text++
		}
	}
	return text*20 >= len(b)*19
}
