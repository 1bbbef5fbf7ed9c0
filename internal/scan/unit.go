package scan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
)

// chunkSize is how much of a stream is looked at at once; margin is what two
// neighbours share on each side of their border, so that a match of spanLong
// bytes is whole in one of them.
const (
	chunkSize = 1 << 20
	margin    = 32 << 10
	// maxPerRule bounds what one rule may report of one file.
	maxPerRule = 50
)

// candidate is a match before it is told: it still holds the secret.
type candidate struct {
	loc        Location
	rule       *rule
	secret     string
	name       string // what the line calls it: `password = "`
	line       int    // from 1; 0 in binary content
	start, end int64  // of the secret, in the stream it was found in
	packaged   bool   // an installed package ships the content
	rest       bool   // stands for the matches of a rule that are not told
	path       string // the member's, in an archive
}

// unit is one stream of bytes while it is looked at: a file, a member of an
// archive, free space.
type unit struct {
	e   *Engine
	ctx context.Context
	loc Location
	// path is what path rules and lists see, without a leading slash: the
	// file's, or the member's.
	path  string
	known bool // the content is a package's: certain rules alone
	raw   bool // no file: no lines, text or not is asked anew for each window
	depth int
	left  *int64 // bytes that the file may still unpack to
	// noted says that there is a note about the file or what it holds.
	noted   *bool
	verdict *verdict // of a file that may be as an earlier scan saw it; else nil

	lines  int // newlines before the chunk
	found  []candidate
	spans  []span
	opened []uint16
	more   map[*rule]int
	cut    map[*rule]bool // of rules with secrets that are not among found
	paths  map[*rule]bool // of rules for certain paths: whether this is one
}

// span is where a rule's expression is to be run.
type span struct{ lo, hi int }

func (e *Engine) unit(ctx context.Context, loc Location) *unit {
	left := e.opts.MaxExpanded
	return &unit{e: e, ctx: ctx, loc: loc, path: trimSlash(loc.Path), left: &left, noted: new(bool), spans: make([]span, len(e.rules.rules)), more: map[*rule]int{}, cut: map[*rule]bool{}}
}

// child is a unit for something that u's content holds.
func (u *unit) child(where, path string) *unit {
	c := u.e.unit(u.ctx, u.loc)
	if c.loc.Where != "" {
		where = c.loc.Where + " > " + where
	}
	c.loc.Where = where
	c.depth, c.left, c.noted, c.known, c.raw = u.depth+1, u.left, u.noted, u.known, false
	c.path = trimSlash(path)
	return c
}

// adopt takes over what a child found.
func (u *unit) adopt(c *unit) {
	u.found = append(u.found, c.finish()...)
}

// note records what of the unit was not looked into.
func (u *unit) note(what string) {
	*u.noted = true
	u.e.Note(u.loc, what)
}

func trimSlash(path string) string {
	for len(path) > 0 && (path[0] == '/' || len(path) > 1 && path[:2] == "./") {
		path = path[1:]
	}
	return path
}

// chunks looks at a stream from start to end. It returns its length.
func (u *unit) chunks(r io.Reader, base int64) (int64, error) {
	pooled := u.e.buffers.Get().(*[]byte)
	defer u.e.buffers.Put(pooled)
	buf := *pooled
	kept, lo, start := 0, 0, base
	u.lines = 0
	for {
		if err := u.ctx.Err(); err != nil {
			return 0, err
		}
		n, err := io.ReadFull(r, buf[kept:])
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			u.chunk(buf[:kept+n], base, lo, kept+n) // what was read is looked at
			return 0, err
		}
		b := buf[:kept+n]
		if last {
			u.chunk(b, base, lo, len(b))
			return base + int64(len(b)) - start, nil
		}
		u.chunk(b, base, lo, len(b)-margin)
		cut := len(b) - 2*margin
		u.lines += bytes.Count(b[:cut], []byte{'\n'})
		kept, lo = copy(buf, b[cut:]), margin
		base += int64(cut)
	}
}

// chunk runs the rules whose keyword ends in b[lo:hi].
func (u *unit) chunk(b []byte, base int64, lo, hi int) {
	words, starts := u.e.rules.words, u.e.rules.starts
	if u.known {
		words, starts = u.e.rules.certain, u.e.rules.certainStarts
	}
	binary := u.raw || bytes.IndexByte(b, 0) >= 0
	words.find(b, func(word uint16, end int) {
		if end <= lo || end > hi {
			return
		}
		for _, id := range starts[word] {
			u.open(b, base, id, end, binary)
		}
	})
	for _, id := range u.opened {
		u.run(b, base, id, binary)
	}
	u.opened = u.opened[:0]
	if !binary && !u.known {
		u.encoded(b, lo, hi)
	}
}

// open notes that a rule is to be run around end; windows that touch become
// one.
func (u *unit) open(b []byte, base int64, id uint16, end int, binary bool) {
	r := u.e.rules.rules[id]
	if r.literal != nil {
		u.literal(b, base, r, end, binary)
		return
	}
	if r.path != nil && !u.about(r) {
		return
	}
	s := &u.spans[id]
	if s.hi > 0 && end+r.after <= s.hi {
		return
	}
	if r.loose && binary && !inText(b, end) || r.short && !inToken(b, end) {
		return
	}
	lo := extendLeft(b, max(0, end-before), end, binary)
	hi := extendRight(b, end, min(len(b), end+r.after), binary)
	switch {
	case s.hi == 0:
		u.opened = append(u.opened, id)
	case lo <= s.hi:
		s.hi = max(s.hi, hi)
		return
	default:
		u.run(b, base, id, binary)
	}
	*s = span{lo, hi}
}

// about tells whether a rule for certain paths is for this one.
func (u *unit) about(r *rule) bool {
	is, known := u.paths[r]
	if !known {
		if u.paths == nil {
			u.paths = map[*rule]bool{}
		}
		is = r.path.MatchString(u.path)
		u.paths[r] = is
	}
	return is
}

// printable are the bytes that text in a binary is made of.
func printable(c byte) bool { return c >= 0x20 && c < 0x7f || c == '\n' || c == '\t' || c == '\r' }

// inText says whether the line around at is one of text: it ends with a
// newline, or where printable bytes do in the middle of nothing else.
func inText(b []byte, at int) bool {
	const longest = 512
	lo, hi := at, at
	for lo > 0 && at-lo < longest && printable(b[lo-1]) && b[lo-1] != '\n' {
		lo--
	}
	for hi < len(b) && hi-at < longest && printable(b[hi]) && b[hi] != '\n' {
		hi++
	}
	return (lo == 0 || b[lo-1] == '\n') && (hi == len(b) || b[hi] == '\n' || b[hi] == 0)
}

// inToken says whether the word around at is long enough to be a token: short
// keywords ("ey", "sk") are in every text.
func inToken(b []byte, at int) bool {
	const shortest = 20
	lo, hi := at-1, at
	for lo > 0 && at-lo < shortest && tokenByte[b[lo-1]] {
		lo--
	}
	for hi < len(b) && hi-at < shortest && tokenByte[b[hi]] {
		hi++
	}
	return hi-lo >= shortest
}

var tokenByte = func() (t [256]bool) {
	for c, v := range base64Value {
		t[c] = v != 0 || c == '.' || c == '=' || c == '~'
	}
	return t
}()

// extendLeft moves lo to the last byte of b[:end] that no text holds, or back
// to the start of a word.
func extendLeft(b []byte, lo, end int, binary bool) int {
	for i := end - 1; i >= lo; i-- {
		if !texty(b[i], binary) {
			return i + 1
		}
	}
	for stop := max(0, lo-maxToken); lo > stop && texty(b[lo-1], binary) && b[lo-1] > ' '; {
		lo--
	}
	return lo
}

func extendRight(b []byte, end, hi int, binary bool) int {
	for i := end; i < hi; i++ {
		if !texty(b[i], binary) {
			return i
		}
	}
	for stop := min(len(b), hi+maxToken); hi < stop && texty(b[hi], binary) && b[hi] > ' '; {
		hi++
	}
	return hi
}

func texty(c byte, binary bool) bool {
	return printable(c) || !binary && c >= 0x80 || c == 0x1b || c == '\f' || c == '\v'
}

// run looks for a rule's matches in its window.
func (u *unit) run(b []byte, base int64, id uint16, binary bool) {
	r, s := u.e.rules.rules[id], u.spans[id]
	u.spans[id] = span{}
	w := b[s.lo:s.hi]
	for done, most := 0, maxPerRule; !u.cut[r]; most *= 4 {
		all := r.re.FindAllSubmatchIndex(w, most)
		for _, m := range all[done:] {
			lo, hi := r.secretOf(w, m)
			if hi <= lo || !u.e.rules.accepts(r, []byte(u.path), w[lo:hi], w[m[0]:m[1]], lineAt(w, m[0], m[1])) {
				continue
			}
			u.add(b, base, r, s.lo+lo, s.lo+hi, binary)
		}
		if done = len(all); done < most {
			return
		}
	}
}

// lineAt are the whole lines that w[lo:hi] is on.
func lineAt(w []byte, lo, hi int) []byte {
	start := bytes.LastIndexByte(w[:lo], '\n') + 1
	if n := bytes.IndexByte(w[hi:], '\n'); n >= 0 {
		return w[start : hi+n]
	}
	return w[start:]
}

// add notes a match at b[lo:hi].
func (u *unit) add(b []byte, base int64, r *rule, lo, hi int, binary bool) {
	if u.e.rules.declared[string(bytes.TrimSpace(b[lo:hi]))] {
		return
	}
	if u.more[r]++; u.more[r] > maxPerRule {
		u.cut[r] = u.cut[r] || !u.has(r, b[lo:hi])
		return
	}
	c := candidate{loc: u.loc, rule: r, secret: string(b[lo:hi]), name: nameBefore(b[:lo]), path: u.path, start: base + int64(lo), end: base + int64(hi)}
	if !binary {
		c.line = u.lines + bytes.Count(b[:lo], []byte{'\n'}) + 1
	}
	u.found = append(u.found, c)
}

// has tells whether a secret is among those that were found by the rule.
func (u *unit) has(r *rule, secret []byte) bool {
	return slices.ContainsFunc(u.found, func(c candidate) bool { return c.rule == r && c.secret == string(secret) })
}

// finish gives what is left when one secret is told once. Matches beyond the
// bound are one finding more, which no fingerprint accepts: nobody has seen
// them.
func (u *unit) finish() []candidate {
	for r := range u.cut {
		if u.cut[r] {
			rest := &rule{id: r.id, description: fmt.Sprintf("more than %d matches: the others are not told", maxPerRule), anywhere: r.anywhere, rank: r.rank}
			u.found = append(u.found, candidate{loc: u.loc, rule: rest, path: u.path, start: -1, end: -1, rest: true})
		}
	}
	clear(u.cut)
	found := u.found
	if u.known {
		found = nil
		for _, c := range u.found {
			if c.packaged = true; c.rule.anywhere {
				found = append(found, c)
			}
		}
	}
	u.found = nil
	return distinct(found)
}
