package template

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
)

// Range is a stretch of a file. Lines and columns count from 1, columns in
// characters; End is exclusive. A zero Line means that there is no place.
type Range struct {
	File      string `json:"file,omitempty"`
	Line      int    `json:"line,omitempty"`
	Column    int    `json:"column,omitempty"`
	EndLine   int    `json:"end_line,omitempty"`
	EndColumn int    `json:"end_column,omitempty"`
}

// String gives file:line:column, or what of it there is.
func (r Range) String() string {
	if r.Line == 0 {
		return r.File
	}
	return fmt.Sprintf("%s:%d:%d", r.File, r.Line, r.Column)
}

// Error is one mistake in a template or in what was given with it.
type Error struct {
	Range   Range  `json:"range"`
	Summary string `json:"summary"`
	Hint    string `json:"hint,omitempty"` // may have several lines
	Line    string `json:"line,omitempty"` // the source line, masked
}

// Error gives the place and summary, the line with the mistake underlined,
// and the hint. It has no "error: " in front and no newline at the end.
func (e *Error) Error() string {
	var b strings.Builder
	if at := e.Range.String(); at != "" {
		b.WriteString(at + ": ")
	}
	b.WriteString(e.Summary)
	if e.Range.Line > 0 && e.Line != "" {
		b.WriteString(e.snippet())
	}
	if e.Hint != "" {
		b.WriteString("\nhint: " + strings.ReplaceAll(e.Hint, "\n", "\n      "))
	}
	return b.String()
}

// lineWidth is how much of a source line is shown; a longer line is cut
// around the mistake.
const lineWidth = 120

func (e *Error) snippet() string {
	line := []rune(e.Line)
	from := min(max(e.Range.Column-1, 0), len(line))
	to := len(line)
	if e.Range.EndLine == e.Range.Line {
		to = min(e.Range.EndColumn-1, len(line))
	}
	to = max(to, from+1)
	if len(line) > lineWidth {
		cut := max(0, min(from-lineWidth/3, len(line)-lineWidth))
		line = line[cut:min(cut+lineWidth, len(line))]
		from, to = from-cut, min(to-cut, lineWidth)
	}
	pad := strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, string(line[:min(from, len(line))]))
	number := fmt.Sprintf("%5d", e.Range.Line)
	gutter := strings.Repeat(" ", len(number))
	return fmt.Sprintf("\n%s | %s\n%s | %s%s", number, string(line), gutter, pad, strings.Repeat("^", max(to-from, 1)))
}

// Diagnostics are the mistakes of one template, sorted by file and position,
// those without a place first. [Load] returns it as its error.
type Diagnostics []*Error

// maxShown bounds the text of one report, not the list.
const maxShown = 20

// Error joins the mistakes. The caller prints "error: " in front of the
// first; the others carry it.
func (d Diagnostics) Error() string {
	var b strings.Builder
	for i, e := range d {
		if i == maxShown {
			fmt.Fprintf(&b, "\nerror: %d more errors not shown", len(d)-i)
			break
		}
		if i > 0 {
			b.WriteString("\nerror: ")
		}
		b.WriteString(e.Error())
	}
	return b.String()
}

// Unwrap gives the single mistakes to errors.As.
func (d Diagnostics) Unwrap() []error {
	errs := make([]error, len(d))
	for i, e := range d {
		errs[i] = e
	}
	return errs
}

// sorted gives d in order of position without repetitions: the same block is
// read once for each source that uses it.
func (d Diagnostics) sorted() Diagnostics {
	slices.SortStableFunc(d, func(a, b *Error) int {
		return cmp.Or(
			cmp.Compare(min(a.Range.Line, 1), min(b.Range.Line, 1)),
			strings.Compare(a.Range.File, b.Range.File),
			cmp.Compare(a.Range.Line, b.Range.Line),
			cmp.Compare(a.Range.Column, b.Range.Column),
		)
	})
	return slices.CompactFunc(d, func(a, b *Error) bool {
		return a.Range == b.Range && a.Summary == b.Summary
	})
}

// maxDiags stops collecting; one typo in a huge file can make very many.
const maxDiags = 1000

// errorf records a mistake at rng. hint may be empty.
func (l *loader) errorf(rng hcl.Range, hint, format string, args ...any) {
	if len(l.diags) >= maxDiags {
		return
	}
	l.diags = append(l.diags, &Error{
		Range:   l.position(rng),
		Summary: fmt.Sprintf(format, args...),
		Hint:    hint,
		Line:    l.line(rng),
	})
}

// position counts columns in runes; hcl counts grapheme clusters, which no
// editor and no terminal agrees on.
func (l *loader) position(rng hcl.Range) Range {
	r := Range{File: rng.Filename, Line: rng.Start.Line, Column: rng.Start.Column,
		EndLine: rng.End.Line, EndColumn: rng.End.Column}
	src, ok := l.text[rng.Filename]
	if !ok || rng.Start.Byte > len(src) || rng.End.Byte > len(src) || r.Line == 0 {
		return r
	}
	r.Column = 1 + utf8.RuneCount(src[lineStart(src, rng.Start.Byte):rng.Start.Byte])
	r.EndColumn = 1 + utf8.RuneCount(src[lineStart(src, rng.End.Byte):rng.End.Byte])
	return r
}

func (l *loader) line(rng hcl.Range) string {
	src, ok := l.text[rng.Filename]
	if !ok || rng.Start.Byte > len(src) {
		return ""
	}
	line := src[lineStart(src, rng.Start.Byte):]
	if i := slices.Index(line, '\n'); i >= 0 {
		line = line[:i]
	}
	return strings.ToValidUTF8(strings.TrimRight(string(line), "\r"), "�")
}

func lineStart(src []byte, at int) int {
	for at > 0 && src[at-1] != '\n' {
		at--
	}
	return at
}

// syntax takes over what the HCL parser found: its detail says how to write it.
func (l *loader) syntax(diags hcl.Diagnostics) {
	for _, d := range diags {
		if d.Severity == hcl.DiagError && d.Subject != nil {
			l.errorf(*d.Subject, plain(d.Detail), "%s", plain(d.Summary))
		}
	}
}

// evaluation takes over what evaluating an expression found: its detail says
// what is wrong.
func (l *loader) evaluation(at hcl.Range, diags hcl.Diagnostics) {
	for _, d := range diags {
		if d.Severity != hcl.DiagError {
			continue
		}
		rng := at
		if d.Subject != nil {
			rng = *d.Subject
		}
		text := plain(d.Summary)
		switch {
		case d.Summary == "Error in function call":
			text = plain(d.Detail)
		case d.Detail != "":
			text += ": " + plain(d.Detail)
		}
		l.errorf(rng, "", "%v", shown(text))
	}
}

// plain gives a sentence of hcl's in the style of ours: lower case in front,
// no full stop at the end.
func plain(s string) string {
	s = strings.TrimRight(strings.TrimSpace(s), ".")
	first, size := utf8.DecodeRuneInString(s)
	rest := s[min(size, len(s)):]
	next, _ := utf8.DecodeRuneInString(rest)
	if first >= 'A' && first <= 'Z' && (next < 'A' || next > 'Z') {
		return strings.ToLower(string(first)) + rest
	}
	return s
}
