package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/kldload/kldload/internal/ui"
)

func TestSecretsAreMaskedLineByLine(t *testing.T) {
	var out bytes.Buffer
	u := ui.New(&out, ui.Plain)
	u.Mask(secrets([]string{"token", "token-long", "-----BEGIN KEY-----\nfirst-line\nAAAA\n-----END KEY-----\n"})...)
	s := u.Stage("provision")
	for _, line := range []string{"-----BEGIN KEY-----", "first-line", "AAAA", "a token-long", "a token"} {
		s.Log(line)
	}
	for _, leak := range []string{"BEGIN", "first", "AAAA", "long", "token"} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("%q is printed:\n%s", leak, out.String())
		}
	}
}
