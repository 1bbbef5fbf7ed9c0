package scan

import (
	"fmt"
	"strings"
	"text/tabwriter"
)

// maxTold bounds the findings of a text; JSON has them all.
const maxTold = 200

// Place is where a finding is, in one word or a few.
func (f *Finding) Place() string {
	var b strings.Builder
	for _, s := range []string{f.Volume, f.Dataset} {
		if s != "" {
			b.WriteString(s + ": ")
		}
	}
	b.WriteString(clean(f.Path))
	switch {
	case f.Line > 0:
		fmt.Fprintf(&b, ":%d", f.Line)
	case f.Offset > 0:
		fmt.Fprintf(&b, "@%d", f.Offset)
	}
	if f.Where != "" {
		b.WriteString(" (" + clean(f.Where) + ")")
	}
	return strings.TrimSuffix(strings.TrimSpace(b.String()), ":")
}

// Shown is the masked text, or what is wrong where there is none.
func (f *Finding) Shown() string {
	if f.Masked == "" {
		return f.Description
	}
	return f.Masked
}

// Text is the report for people: findings, notes, a line of what was done.
func (r *Report) Text() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	for i, f := range r.Findings {
		if i == maxTold {
			break
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", f.Rule, f.Place(), f.Shown(), f.Fingerprint)
	}
	_ = w.Flush() // into memory
	if more := len(r.Findings) - maxTold; more > 0 {
		fmt.Fprintf(&b, "… and %d more\n", more)
	}
	for i, n := range r.Notes {
		if i == maxTold {
			fmt.Fprintf(&b, "note: … and %d more\n", len(r.Notes)-maxTold)
			break
		}
		at := Finding{Location: n.Location}
		if place := at.Place(); place != "" {
			fmt.Fprintf(&b, "note: %s: %s\n", place, n.Text)
		} else {
			fmt.Fprintf(&b, "note: %s\n", n.Text)
		}
	}
	b.WriteString(r.Summary())
	return b.String()
}

// Summary is the report in one line.
func (r *Report) Summary() string {
	own := 0
	for _, f := range r.Allowed {
		if !strings.HasPrefix(f.Reason, builtinPrefix) {
			own++
		}
	}
	found := "no secret found"
	if len(r.Unread()) > 0 {
		found = "no secret found in what could be read,"
	}
	switch len(r.Findings) {
	case 0:
	case 1:
		found = "1 finding"
	default:
		found = fmt.Sprintf("%d findings", len(r.Findings))
	}
	unchanged := ""
	if r.Unchanged > 0 {
		unchanged = fmt.Sprintf(", %d unchanged since an earlier scan", r.Unchanged)
	}
	return fmt.Sprintf("%s in %d files (%d as packages ship them%s), %d allowed", found, r.Files, r.Packaged, unchanged, own)
}

// AllowHint tells how a finding is accepted.
func (r *Report) AllowHint() string {
	if len(r.Findings) == 0 {
		return ""
	}
	f := r.Findings[0]
	entry := fmt.Sprintf("path = %q", f.Path)
	if f.Fingerprint != "" {
		entry = fmt.Sprintf("fingerprint = %q", f.Fingerprint)
	}
	return fmt.Sprintf("[[allow]] rule = %q, %s, reason = \"…\", a key to a line", f.Rule, entry)
}
