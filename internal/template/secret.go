package template

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// masked stands for a sensitive value wherever one would be shown; the
// wording is Packer's.
const masked = "<sensitive>"

// shown is a value in a message. It is marked until the report is finished,
// as a sensitive local may be known only then; the fixed words of a message
// are never masked (the masterclass's password is "kldload").
type shown string

const markOpen, markClose = "\x00(", "\x00)"

// Format marks the value, quoted or not.
func (s shown) Format(f fmt.State, verb rune) {
	text := string(s)
	if verb == 'q' {
		text = fmt.Sprintf("%q", text)
	}
	fmt.Fprint(f, markOpen+text+markClose)
}

// mask takes the values of sensitive variables out of the report: where a
// value is shown, and in the lines where one is written. Shorter than three
// characters is no secret, and would garble every line.
func (l *loader) mask() {
	hide := distinctStrings(append(l.hidden, l.secrets...))
	hide = slices.DeleteFunc(hide, func(s string) bool { return len(s) < 3 })
	for _, e := range l.diags {
		e.Summary = unmark(e.Summary, hide)
		e.Hint = unmark(e.Hint, hide)
		if l.secretLines[secretLine{e.Range.File, e.Range.Line}] {
			line := e.Line
			if e.Line = cover(line, hide); e.Line == line {
				e.Line = "" // a part of a secret of many lines, or one that does not parse
			}
		}
	}
}

func cover(text string, hide []string) string {
	for _, secret := range hide {
		text = strings.ReplaceAll(text, secret, masked)
		if quoted := fmt.Sprintf("%q", secret); quoted != `"`+secret+`"` { // as %q shows it
			text = strings.ReplaceAll(text, quoted[1:len(quoted)-1], masked)
		}
	}
	return text
}

// unmark covers the marked parts of text and removes the marks.
func unmark(text string, hide []string) string {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, markOpen)
		b.WriteString(before)
		if !found {
			return b.String()
		}
		value, after, _ := strings.Cut(rest, markClose)
		b.WriteString(shorten(cover(value, hide)))
		text = after
	}
}

// shorten cuts a long value, a key or a script, after it is covered: its start
// tells which it is.
func shorten(value string) string {
	if len(value) <= 200 {
		return value
	}
	end := "…"
	if value[0] == '"' {
		end = `…"`
	}
	return strings.ToValidUTF8(value[:160], "") + end
}

// secretLine is a line of a file in which a sensitive value is written.
type secretLine struct {
	file string
	line int
}

// secret keeps the text of a sensitive value, as written at rng, out of the
// errors about it. true and false are no secrets.
func (l *loader) secret(rng hcl.Range) {
	text := string(rng.SliceBytes(l.text[rng.Filename]))
	if text == "true" || text == "false" || text == "null" {
		return
	}
	l.hidden = append(l.hidden, text)
	for line := rng.Start.Line; line <= rng.End.Line; line++ {
		l.secretLines[secretLine{rng.Filename, line}] = true
	}
}

// keepSecret notes the strings in a sensitive value.
func (l *loader) keepSecret(name string, v cty.Value) {
	from := len(l.secrets)
	l.secrets = appendStrings(l.secrets, v)
	for _, s := range l.secrets[from:] {
		l.named = append(l.named, Secret{name, s})
	}
}

// appendStrings adds the strings inside v to list, numbers as they print.
func appendStrings(list []string, v cty.Value) []string {
	if v.IsNull() || !v.IsKnown() {
		return list
	}
	switch ty := v.Type(); {
	case ty == cty.String:
		list = append(list, v.AsString())
	case ty == cty.Number:
		if s := v.AsBigFloat().Text('f', -1); len(s) > 2 {
			list = append(list, s)
		}
	case ty.IsCollectionType() || ty.IsTupleType() || ty.IsObjectType():
		for it := v.ElementIterator(); it.Next(); {
			_, elem := it.Element()
			list = appendStrings(list, elem)
		}
	}
	return list
}

// distinctStrings sorts list by length, longest first, so that masking one
// value never breaks another that holds it; empty ones go.
func distinctStrings(list []string) []string {
	slices.SortFunc(list, func(a, b string) int {
		return cmp.Or(cmp.Compare(len(b), len(a)), strings.Compare(a, b))
	})
	list = slices.Compact(list)
	return slices.DeleteFunc(list, func(s string) bool { return s == "" })
}
