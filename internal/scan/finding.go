package scan

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// Finding is one secret at one place, masked.
type Finding struct {
	Location
	Rule        string `json:"rule"`
	Description string `json:"description"`
	Line        int    `json:"line,omitempty"`   // from 1; 0 in binary content
	Offset      int64  `json:"offset,omitempty"` // of the secret in the bytes that Where names
	// Masked is the name that the line gives the secret, and at most a quarter
	// of the secret and four characters. "" where the file itself is the finding.
	Masked string `json:"masked,omitempty"`
	// Fingerprint names the finding in an allow-list. "" beyond the first
	// MaxFingerprints findings, and where the finding is allowed without it.
	Fingerprint string `json:"fingerprint,omitempty"`
	// Reason says why it is allowed; "" in Findings.
	Reason string `json:"reason,omitempty"`
}

// Note is something that was not looked into, or an entry of the allow-list
// that nothing used.
type Note struct {
	Location
	Text string `json:"text"`
	// Unread says that it should have been looked at and could not be read: no
	// finding there means nothing.
	Unread bool `json:"unread,omitempty"`
}

// Unread are the notes on what could not be read.
func (r *Report) Unread() []Note {
	var list []Note
	for _, n := range r.Notes {
		if n.Unread {
			list = append(list, n)
		}
	}
	return list
}

// Report is the result of a scan, in a stable order.
type Report struct {
	Findings []Finding `json:"findings"`
	Allowed  []Finding `json:"allowed"` // with Reason
	Notes    []Note    `json:"notes"`
	Files    int64     `json:"files"`
	// Packaged are the files whose content an installed package ships.
	Packaged int64 `json:"packaged"`
	// Unchanged are the files that an earlier scan looked at and found nothing
	// in, and that were not looked at again.
	Unchanged int64 `json:"unchanged"`
	Bytes     int64 `json:"bytes"`
	// Expanded counts what files unpacked to.
	Expanded int64 `json:"expanded"`
}

// Report gives what was found so far.
func (e *Engine) Report() *Report {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := &Report{Findings: []Finding{}, Allowed: []Finding{}, Notes: append([]Note{}, e.notes...), Files: e.files, Packaged: e.known, Unchanged: e.unchanged, Bytes: e.bytes, Expanded: e.expanded}
	found := slices.Clone(e.found)
	slices.SortStableFunc(found, compareCandidates)
	found = slices.CompactFunc(found, func(a, b candidate) bool { return compareCandidates(a, b) == 0 }) // of parts that overlap
	for _, f := range e.judged(found) {
		if f.Reason != "" {
			r.Allowed = append(r.Allowed, f)
		} else {
			r.Findings = append(r.Findings, f)
		}
	}
	r.Notes = append(r.Notes, e.opts.Allow.unused()...)
	slices.SortStableFunc(r.Notes, func(a, b Note) int {
		return cmp.Or(compareLocations(a.Location, b.Location), strings.Compare(a.Text, b.Text))
	})
	r.Notes = slices.Compact(r.Notes)
	return r
}

// judged turns matches into findings with the reasons why they are allowed.
// The built-in list is for files as their packages ship them. Fingerprints
// take long: they are for findings that are reported, and for those that the
// user's list knows by them.
func (e *Engine) judged(found []candidate) []Finding {
	list := make([]Finding, len(found))
	var open []int
	for i, c := range found {
		list[i] = Finding{
			Location: c.loc, Rule: c.rule.id, Description: c.rule.description, Line: c.line, Offset: max(0, c.start), Masked: c.masked(),
		}
		if c.packaged {
			list[i].Reason = e.rules.builtinReason(c.rule.id, c.path)
		}
		if list[i].Reason == "" {
			open = append(open, i)
		}
	}
	byPrint := e.opts.Allow.byFingerprint()
	if byPrint {
		setFingerprints(list, found, open)
	}
	var told []int
	for _, i := range open {
		if list[i].Reason = e.opts.Allow.reason(list[i]); list[i].Reason == "" {
			told = append(told, i)
		}
	}
	if !byPrint {
		setFingerprints(list, found, told)
	}
	return list
}

func setFingerprints(list []Finding, found []candidate, which []int) {
	for i, p := range fingerprints(found, which) {
		list[i].Fingerprint = p
	}
}

func compareLocations(a, b Location) int {
	return cmp.Or(strings.Compare(a.Volume, b.Volume), strings.Compare(a.Dataset, b.Dataset),
		strings.Compare(a.Path, b.Path), strings.Compare(a.Where, b.Where))
}

func compareCandidates(a, b candidate) int {
	return cmp.Or(compareLocations(a.loc, b.loc), cmp.Compare(a.start, b.start), strings.Compare(a.rule.id, b.rule.id), strings.Compare(a.secret, b.secret))
}

// distinct drops what is told already: the same secret by the same rule, and
// of two rules on the same bytes the one that knows less.
func distinct(found []candidate) []candidate {
	slices.SortStableFunc(found, func(a, b candidate) int {
		return cmp.Or(strings.Compare(a.loc.Where, b.loc.Where), cmp.Compare(a.start, b.start),
			cmp.Compare(b.rule.rank, a.rule.rank), cmp.Compare(b.end, a.end), strings.Compare(a.rule.id, b.rule.id))
	})
	type key struct{ rule, secret string }
	seen := map[key]bool{}
	var kept []candidate
	for i, c := range found {
		if k := (key{c.rule.id, c.secret}); !seen[k] && !covered(found, i) {
			seen[k] = true
			kept = append(kept, c)
		}
	}
	return kept
}

// covered says whether another match that knows more, or is longer, overlaps
// found[i]. Matches are sorted by place: only neighbours can.
func covered(found []candidate, i int) bool {
	c := found[i]
	const near = 64
	for j := max(0, i-near); j < min(len(found), i+near); j++ {
		o := found[j]
		if j == i || o.loc.Where != c.loc.Where || o.end <= c.start || o.start >= c.end {
			continue
		}
		if o.rule.rank > c.rule.rank || o.rule.rank == c.rule.rank && (o.end-o.start > c.end-c.start || o.end-o.start == c.end-c.start && j < i) {
			return true
		}
	}
	return false
}

// naming is the part of a line that names a secret: a key, then a separator.
// More is not shown, as it may be another secret.
var naming = regexp.MustCompile(`[A-Za-z_][A-Za-z0-9_.-]{0,31}["']?[ \t]{0,4}(?:=|:|=>|:=)[ \t]{0,4}["']?$`)

func nameBefore(b []byte) string {
	if len(b) > 48 {
		b = b[len(b)-48:]
	}
	return string(naming.Find(b))
}

// masked shows the name and the first characters.
func (c *candidate) masked() string {
	if c.secret == "" || c.rule.literal != nil {
		return ""
	}
	if head, _, found := strings.Cut(c.secret, "KEY"); found && strings.HasPrefix(head, "-----BEGIN ") && len(head) < 60 {
		return head + "KEY…"
	}
	shown := min(4, len(c.secret)/4)
	return c.name + clean(c.secret[:shown]) + "…"
}

// clean keeps terminals from obeying what a file says.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f {
			return '.'
		}
		return r
	}, s)
}
