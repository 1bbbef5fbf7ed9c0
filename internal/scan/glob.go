package scan

import (
	"fmt"
	"regexp"
	"strings"
)

// globRegexp turns a path pattern into an expression for a path without its
// leading slash: "*" and "?" stop at "/", "**" does not, and "**/" may be empty.
func globRegexp(pattern string) (*regexp.Regexp, error) {
	p := strings.TrimPrefix(pattern, "/")
	if p == "" {
		return nil, fmt.Errorf("the path pattern is empty")
	}
	var b strings.Builder
	b.WriteString(`^(?s:`)
	for p != "" {
		switch {
		case strings.HasPrefix(p, "**/"):
			b.WriteString(`(?:.*/)?`)
			p = p[3:]
		case strings.HasPrefix(p, "**"):
			b.WriteString(`.*`)
			p = p[2:]
		case p[0] == '*':
			b.WriteString(`[^/]*`)
			p = p[1:]
		case p[0] == '?':
			b.WriteString(`[^/]`)
			p = p[1:]
		default:
			n := strings.IndexAny(p, "*?")
			if n < 0 {
				n = len(p)
			}
			b.WriteString(regexp.QuoteMeta(p[:n]))
			p = p[n:]
		}
	}
	b.WriteString(`)$`)
	return regexp.Compile(b.String())
}
