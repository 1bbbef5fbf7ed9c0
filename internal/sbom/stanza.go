package sbom

import (
	"bytes"
	"strings"
)

// stanza is one paragraph of a control file: field names in lower case to
// values, continuation lines joined by line breaks without their first blank
// (Debian Policy 5.1).
type stanza map[string]string

// eachStanza calls f with every paragraph of text, in order. Lines that are no
// field are left out; text may be anything.
func eachStanza(text []byte, f func(stanza)) {
	st, field := stanza{}, ""
	var value strings.Builder
	end := func() {
		if field != "" {
			st[field] = strings.TrimRight(value.String(), "\n")
		}
		field = ""
		value.Reset()
	}
	for len(text) > 0 {
		var line []byte
		line, text, _ = bytes.Cut(text, []byte("\n"))
		trimmed := bytes.TrimRight(line, " \t\r")
		switch {
		case len(trimmed) == 0:
			if end(); len(st) > 0 {
				f(st)
				st = stanza{}
			}
		case line[0] == ' ' || line[0] == '\t':
			value.WriteByte('\n')
			value.Write(trimmed[1:])
		case line[0] != '#':
			end()
			if name, rest, ok := bytes.Cut(trimmed, []byte(":")); ok {
				field = strings.ToLower(string(name))
				value.Write(bytes.TrimSpace(rest))
			}
		}
	}
	if end(); len(st) > 0 {
		f(st)
	}
}

// first is the first line of a value.
func first(value string) string {
	line, _, _ := strings.Cut(value, "\n")
	return line
}
