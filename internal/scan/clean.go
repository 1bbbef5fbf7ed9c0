package scan

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/zricethezav/gitleaks/v8/config"
)

// Clean is a set of keys that outlives a scan: of files that were looked at
// whole, with nothing found and nothing noted. It may be used from several
// goroutines at once, and may forget.
type Clean interface {
	Has(key [sha256.Size]byte) bool
	Add(key [sha256.Size]byte)
}

// What a key says of a file, its first byte.
const (
	keyLoose    = 'l' // this content is clean by all rules
	keyPackaged = 'p' // this content is a package's, and clean by those for such
	keyLarge    = 's' // a large file of this path and size was clean: its digest is worth reading it for
)

// verdict is what is known of one file from earlier scans. A nil one knows
// nothing and learns nothing.
type verdict struct {
	e    *Engine
	path string
	size int64
	sum  [sha256.Size]byte // of the content, when it is all read
	hash hash.Hash         // it on the way, for a large file
	same bool
}

// verdictOn is nil where nothing is remembered.
func (e *Engine) verdictOn(path string, size int64) *verdict {
	if e.opts.Clean == nil {
		return nil
	}
	return &verdict{e: e, path: path, size: size}
}

func (v *verdict) key(kind byte) [sha256.Size]byte {
	b := make([]byte, 0, 256)
	b = append(append(b, kind), v.e.scope[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(v.size))
	if kind != keyLarge {
		b = append(b, v.sum[:]...)
	}
	return sha256.Sum256(append(b, v.path...))
}

// sameContent says whether the content of that digest needs no look, and
// counts it.
func (v *verdict) sameContent(u *unit, sum [sha256.Size]byte) bool {
	v.sum = sum
	u.known = v.e.opts.Clean.Has(v.key(keyPackaged))
	if v.same = u.known || v.e.opts.Clean.Has(v.key(keyLoose)); v.same {
		u.countKnown()
		v.e.mu.Lock()
		defer v.e.mu.Unlock()
		v.e.unchanged++
	}
	return v.same
}

// sameLarge is sameContent for a file that does not fit into memory, and that
// looks like one which was clean.
func (u *unit) sameLarge(open func() (io.ReadCloser, error)) (same bool, err error) {
	v := u.verdict
	if v == nil || v.size < maxMemory || !v.e.opts.Clean.Has(v.key(keyLarge)) {
		return false, nil
	}
	err = opened(open, func(r io.Reader) error {
		buf := v.e.buffers.Get().(*[]byte)
		defer v.e.buffers.Put(buf)
		h := sha256.New()
		if _, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{r}, *buf); err != nil {
			return err
		}
		same = v.sameContent(u, [sha256.Size]byte(h.Sum(nil)))
		return u.ctx.Err()
	})
	return same, err
}

// alongside adds the verdict's digest to another.
func (v *verdict) alongside(h hash.Hash) io.Writer {
	if v == nil {
		return h
	}
	v.hash = sha256.New()
	return io.MultiWriter(h, v.hash)
}

// remember keeps that a file was looked at whole, now or before, and is clean.
func (v *verdict) remember(u *unit, found []candidate) {
	if v == nil || len(found) > 0 || *u.noted {
		return
	}
	if v.hash != nil {
		v.sum = [sha256.Size]byte(v.hash.Sum(nil))
	}
	kind := byte(keyLoose)
	if u.known {
		kind = keyPackaged
	}
	v.e.opts.Clean.Add(v.key(kind))
	if v.size >= maxMemory {
		v.e.opts.Clean.Add(v.key(keyLarge))
	}
}

// setScope digests all that a verdict depends on beside the file: the program,
// as rules and containers are code, too, and which data does not tell; the
// rules; what the template declares; what packages ship, as a file may hold
// copies of it. A program that cannot read itself remembers nothing.
func (e *Engine) setScope() {
	if e.opts.Clean == nil {
		return
	}
	program, err := programDigest()
	if err != nil {
		e.opts.Clean = nil
		return
	}
	h := sha256.New()
	fmt.Fprintf(h, "%x\n%x\n%t %d\n", program, e.rules.digest(), e.opts.AllFiles, e.opts.MaxExpanded)
	declared := slices.Clone(e.opts.Declared)
	slices.Sort(declared)
	fmt.Fprintf(h, "%q\n", declared)
	e.pristine.digest(h)
	h.Sum(e.scope[:0])
}

// programDigest is of the file that runs, which may have another name by now.
var programDigest = sync.OnceValues(func() (sum [sha256.Size]byte, err error) {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	h.Sum(sum[:0])
	return sum, err
})

// digest is of the rules as data: gitleaks' as it writes them, ours, and what
// the built-in list accepts.
func (s *ruleSet) digest() (sum [sha256.Size]byte) {
	h := sha256.New()
	fmt.Fprintf(h, "%q\n", config.DefaultConfig)
	for _, r := range s.rules {
		fmt.Fprintf(h, "%q %q %v %d %v %v %t %t %t %d %t %d %q\n", r.id, r.keywords, r.re, r.group, r.entropy, r.path, r.anywhere, r.loose, r.short, r.after, r.library, r.rank, r.literal)
	}
	for _, p := range fileRules() {
		fmt.Fprintf(h, "%q %q\n", p.id, p.globs)
	}
	for _, b := range s.builtins {
		fmt.Fprintf(h, "%q %q %q\n", b.pkg, b.path, b.rule)
	}
	h.Sum(sum[:0])
	return sum
}

// digest writes all that is known to ship, in order.
func (p *pristine) digest(w io.Writer) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	all := slices.SortedFunc(maps.Keys(p.sums), func(a, b digest) int { return bytes.Compare(a[:], b[:]) })
	for _, d := range all {
		_, _ = w.Write(d[:]) // a digest has no error
	}
}
