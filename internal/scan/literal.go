package scan

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
)

// Literal is a value that must not be found.
type Literal struct {
	Name  string // what reports call it: a variable's name
	Value string
}

// Limits of a literal: a shorter one is in every image by chance.
const (
	MinLiteral = 6
	maxLiteral = margin / 2
)

// Short tells whether a value has too few bytes to be looked for.
func (l Literal) Short() bool { return len(strings.TrimSpace(l.Value)) < MinLiteral }

// literalRules looks for each value as it is, in base64 at the three offsets
// it may have in a longer text, and escaped for URLs.
func literalRules(list []Literal) ([]*rule, error) {
	var rules []*rule
	for _, l := range list {
		v := strings.TrimSpace(l.Value)
		if l.Short() {
			continue
		}
		if len(v) > maxLiteral {
			return nil, fmt.Errorf("looking for the value of %q: it has %d bytes, want at most %d", l.Name, len(v), maxLiteral)
		}
		for _, form := range literalForms(v) {
			rules = append(rules, &rule{
				id: "sensitive-value", description: "value of " + l.Name + ", which the template calls sensitive",
				keywords: []string{form[:min(len(form), 32)]}, literal: []byte(form), anywhere: len(v) >= 12, rank: rankLiteral,
			})
		}
	}
	return rules, nil
}

func literalForms(v string) []string {
	forms := []string{v}
	add := func(s string) {
		for _, f := range forms {
			if f == s {
				return
			}
		}
		if len(s) >= MinLiteral {
			forms = append(forms, s)
		}
	}
	for shift := range 3 { // the characters that depend on neighbours are cut off
		for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			s := enc.EncodeToString([]byte(strings.Repeat("\x00", shift) + v))
			s = s[[]int{0, 2, 3}[shift]:]
			if (len(v)+shift)%3 != 0 {
				s = s[:len(s)-1]
			}
			add(s)
		}
	}
	add(url.QueryEscape(v))
	add(url.PathEscape(v))
	add(strings.ReplaceAll(v, "\n", `\n`)) // as JSON and shells have it
	return forms
}

// literal checks the bytes around a literal's first ones, which end at end.
func (u *unit) literal(b []byte, base int64, r *rule, end int, binary bool) {
	lo := end - len(r.keywords[0])
	if lo >= 0 && bytes.HasPrefix(b[lo:], r.literal) {
		u.add(b, base, r, lo, lo+len(r.literal), binary)
	}
}
