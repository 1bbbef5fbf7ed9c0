package sbom

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"slices"
	"strings"
)

// license gives the SPDX expression of a package's copyright file: all
// licences of its files joined by AND. "" where the file is not there or not
// machine-readable (https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/).
func (r *reader) license(name string) (string, error) {
	if strings.Contains(name, "/") {
		return "", nil // no name of a package
	}
	file, err := r.fsys.Resolve("usr/share/doc/" + name + "/copyright")
	if err == nil {
		if expr, ok := r.licences[file]; ok {
			return expr, nil
		}
		var text []byte
		if text, err = r.file(file, maxCopyright); err == nil {
			expr := r.expression(text)
			if r.licences == nil {
				r.licences = map[string]string{}
			}
			r.licences[file] = expr
			return expr, nil
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return "", err
}

// copyright is a machine-readable copyright file.
type copyright struct {
	formatted bool
	of        []string          // the licences of the Files paragraphs
	texts     map[string]string // by short name
	texted    func(id string, t Text)
}

func (r *reader) expression(text []byte) string {
	c := copyright{texts: map[string]string{}, texted: func(id string, t Text) { r.inv.Texts[id] = t }}
	eachStanza(text, c.paragraph)
	if !c.formatted {
		return ""
	}
	slices.Sort(c.of)
	var terms []string
	for _, name := range slices.Compact(c.of) {
		terms = append(terms, c.split(name)...)
	}
	slices.Sort(terms)
	terms = slices.Compact(terms)
	return join(terms, " AND ")
}

// maxName bounds the first line of a licence field.
const maxName = 1 << 10

// paragraph takes a header, a Files paragraph or a licence of its own.
func (c *copyright) paragraph(st stanza) {
	if strings.Contains(st["format"], "copyright-format") || strings.Contains(st["format"], "dep5") {
		c.formatted = true
		return
	}
	name, text, _ := strings.Cut(clean(st["license"]), "\n")
	if name = strings.Join(strings.Fields(name), " "); name == "" || len(name) > maxName {
		return
	}
	if st["files"] != "" {
		c.of = append(c.of, name)
	}
	if text != "" && c.texts[name] == "" {
		c.texts[name] = paragraphs(text)
	}
}

// paragraphs undoes the dots that stand for empty lines.
func paragraphs(text string) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if strings.TrimSpace(l) == "." {
			lines[i] = ""
		}
	}
	return strings.Join(lines, "\n")
}

// split gives the terms that AND joins of a licence field. "and" binds
// tighter than "or", unless a comma precedes it (copyright format, 7.1.1).
func (c *copyright) split(name string) []string {
	var terms []string
	for _, part := range words(name, ", and ") {
		var either []string
		for _, alternative := range words(strings.ReplaceAll(part, ", or ", " or "), " or ") {
			var all []string
			for _, one := range words(alternative, " and ") {
				all = append(all, c.id(strings.Trim(one, " ,")))
			}
			either = append(either, join(all, " AND "))
		}
		terms = append(terms, join(either, " OR "))
	}
	return terms
}

// words splits at a separator in any case.
func words(s, separator string) []string {
	var parts []string
	for {
		i := strings.Index(strings.ToLower(s), separator)
		if i < 0 || len(strings.ToLower(s)) != len(s) {
			return append(parts, s)
		}
		parts = append(parts, s[:i])
		s = s[i+len(separator):]
	}
}

// join joins expressions; those of several terms get parentheses.
func join(terms []string, operator string) string {
	if len(terms) == 1 {
		return terms[0]
	}
	quoted := make([]string, len(terms))
	for i, t := range terms {
		if quoted[i] = t; strings.Contains(t, " OR ") || strings.Contains(t, " AND ") {
			quoted[i] = "(" + t + ")"
		}
	}
	return strings.Join(quoted, operator)
}

// id is the SPDX name of a licence's short name, or a LicenseRef to its text.
// The text's digest is in the reference, so that one text has one.
func (c *copyright) id(name string) string {
	if id := spdxID(name); id != "" {
		return id
	}
	t := Text{Name: name, Text: c.texts[name]}
	if t.Text == "" {
		t.Text = "Named \"" + name + "\" in the package's copyright file, without a text of its own."
	}
	sum := sha256.Sum256([]byte(t.Name + "\x00" + t.Text))
	id := "LicenseRef-" + idString(name[:min(len(name), 64)]) + "-" + hex.EncodeToString(sum[:4])
	c.texted(id, t)
	return id
}

// idString makes an SPDX idstring: letters, digits, "." and "-" (SPDX 2.3
// clause 10.1).
func idString(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '-':
			return r
		}
		return '-'
	}, s)
}

// spdxID translates a short name: "" where there is no exact equal.
func spdxID(name string) string {
	base, exception, with := strings.Cut(strings.ToLower(name), " with ")
	id := known[base]
	if !with || id == "" {
		return id
	}
	exception = strings.TrimSuffix(strings.TrimSuffix(exception, " exception"), "-exception")
	if known := exceptions[exception]; known != "" {
		return id + " WITH " + known
	}
	return ""
}

// exceptions, as Debian writes them, that have one meaning.
var exceptions = map[string]string{
	"linux-syscall-note": "Linux-syscall-note", "classpath": "Classpath-exception-2.0",
	"font": "Font-exception-2.0", "libtool": "Libtool-exception",
}
