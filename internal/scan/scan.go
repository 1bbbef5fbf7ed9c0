// Package scan finds secrets in what an image ships: keys, tokens, password
// hashes, provisioning leftovers, by the rules of gitleaks and by rules of our
// own, in files, in what files hold (archives, initramfs, databases, logs,
// encodings) and in bytes that belong to no file.
//
// It prints no secret: a finding shows at most the first characters of one.
// What it does not look into (a depth or a size that is too large, a format it
// does not read, an encrypted archive) is in the report, never dropped.
//
// It does not ask whether a key is still valid, and reads no password-protected
// archive. Spec: the issue on seal, scan and evidence; docs/scan.md is the
// user's view.
package scan

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"sync"
)

// Options of a scan. The zero value looks with every rule.
type Options struct {
	// Allow are the findings that the user accepts.
	Allow *AllowList
	// Literals are values that must not be in the image whatever their form,
	// with the names that reports call them by. Short ones are passed over.
	Literals []Literal
	// Declared are strings that the template put there on purpose: SSH public
	// keys of its users.
	Declared []string
	// AllFiles looks at files of packages with every rule, too.
	AllFiles bool
	// MaxExpanded bounds the bytes that one file may unpack to; 0 is 1 GiB.
	MaxExpanded int64
	// Clean remembers files that earlier scans found nothing in; nil looks at
	// all. It is not asked where Literals are looked for.
	Clean Clean
}

// Location says where a finding is.
type Location struct {
	Volume  string `json:"volume,omitempty"`
	Dataset string `json:"dataset,omitempty"`
	// Path has a leading slash; "" for bytes of no file.
	Path string `json:"path,omitempty"`
	// Where is "" for the file's own bytes; else "xattr user.x", "slack", "free
	// space", "snapshot @golden", "member a/b of gzip".
	Where string `json:"where,omitempty"`
}

// Engine looks at files and bytes. Its methods may be used from several
// goroutines at once, Report after all of them.
type Engine struct {
	opts     Options
	rules    *ruleSet
	pristine *pristine
	buffers  sync.Pool // of *[]byte, chunkSize long

	scope [sha256.Size]byte // what a verdict depends on beside the file: see scopeOf

	mu        sync.Mutex
	found     []candidate
	notes     []Note
	files     int64
	known     int64
	unchanged int64
	bytes     int64
	expanded  int64
}

// New compiles the rules. An error is a rule that does not compile or a
// literal that is too long.
func New(opts Options) (*Engine, error) {
	if opts.MaxExpanded == 0 {
		opts.MaxExpanded = 1 << 30
	}
	rules, err := newRuleSet(opts)
	if err != nil {
		return nil, err
	}
	e := &Engine{opts: opts, rules: rules, pristine: newPristine()}
	e.buffers.New = func() any { b := make([]byte, chunkSize); return &b }
	if len(opts.Literals) > 0 {
		e.opts.Clean = nil
	}
	e.setScope()
	return e, nil
}

// Packages learns which contents belong to installed packages, from the
// databases in a root file system. Call it before File for the files of that
// root. A root without a database is no error.
func (e *Engine) Packages(root fs.FS) error {
	err := e.pristine.learn(root)
	e.setScope()
	return err
}

// File looks at one regular file of size bytes. Open is called at most twice,
// and not again before what it gave is closed.
// An error is one of reading, or ctx's; what the content does wrong is noted in
// the report.
func (e *Engine) File(ctx context.Context, loc Location, size int64, mode fs.FileMode, open func() (io.ReadCloser, error)) error {
	e.count(1, size)
	if size == 0 || !mode.IsRegular() {
		return ctx.Err()
	}
	u := e.unit(ctx, loc)
	u.verdict = e.verdictOn(u.path, size)
	same, err := u.sameLarge(open)
	if err == nil && !same {
		err = opened(open, func(r io.Reader) error { return u.stream(r, size) })
	}
	if err != nil {
		return fmt.Errorf("scanning %q: %w", loc.Path, err)
	}
	found := u.finish()
	u.verdict.remember(u, found)
	e.keep(found)
	return nil
}

// opened hands an open file to use, and closes it.
func opened(open func() (io.ReadCloser, error), use func(io.Reader) error) error {
	r, err := open()
	if err != nil {
		return err
	}
	err = use(r)
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	return err
}

// Raw looks at bytes that are no file: free space, slack, the value of an
// extended attribute. Offsets of findings are base and up.
func (e *Engine) Raw(ctx context.Context, loc Location, base int64, r io.Reader) error {
	u := e.unit(ctx, loc)
	u.raw = true
	n, err := u.chunks(r, base)
	e.count(0, n)
	if err != nil {
		return fmt.Errorf("scanning %s %q: %w", loc.Where, loc.Path, err)
	}
	e.keep(u.finish())
	return nil
}

// bytesAt scans what is in memory.
func (u *unit) bytesAt(b []byte) error {
	_, err := u.chunks(bytes.NewReader(b), 0)
	return err
}

// Note records something that was not looked into.
func (e *Engine) Note(loc Location, what string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.notes = append(e.notes, Note{Location: loc, Text: what})
}

// unread records something that could not be read, for which the report is not
// the whole truth.
func (e *Engine) unread(loc Location, what string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.notes = append(e.notes, Note{Location: loc, Text: what, Unread: true})
}

func (e *Engine) count(files, n int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.files, e.bytes = e.files+files, e.bytes+n
}

func (e *Engine) keep(found []candidate) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.found = append(e.found, found...)
}
