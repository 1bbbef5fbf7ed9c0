package scan

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// Bounds of what is unpacked.
const (
	maxMemory = 4 << 20 // of one stream that is looked at in memory
	maxDepth  = 8       // containers in containers
)

// errExpanded says that a file unpacks to more than it may.
var errExpanded = errors.New("it unpacks to more than the limit")

// source remembers an error of the reader below, which is not the content's.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// expanding is what a container unpacks to, counted.
type expanding struct {
	r io.Reader
	u *unit
}

func (x *expanding) Read(p []byte) (int, error) {
	if *x.u.left <= 0 {
		return 0, errExpanded
	}
	if err := x.u.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := x.r.Read(p[:min(int64(len(p)), *x.u.left)])
	*x.u.left -= int64(n)
	x.u.e.mu.Lock()
	x.u.e.expanded += int64(n)
	x.u.e.mu.Unlock()
	return n, err
}

// member looks at what a container holds.
func (u *unit) member(where, path string, r io.Reader) error {
	c := u.child(where, path)
	err := c.stream(&expanding{r, u}, -1)
	u.adopt(c)
	return err
}

// stream looks at a file or member: by its path, as what it holds, as text.
// size is -1 when it is not known.
func (u *unit) stream(r io.Reader, size int64) error {
	head, whole, err := readHead(r, size)
	if err != nil {
		_ = u.bytesAt(head)
		return err
	}
	if whole {
		if u.verdict != nil && u.verdict.sameContent(u, sha256.Sum256(head)) {
			return nil
		}
		u.known = u.known || u.e.packaged(u.path, md5.Sum(head))
		u.countKnown()
		return u.content(head, bytes.NewReader(head), int64(len(head)))
	}
	h := md5.New()
	sums := u.verdict.alongside(h)
	_, _ = sums.Write(head) // a digest has no error
	rest := io.TeeReader(r, sums)
	src := &source{r: io.MultiReader(bytes.NewReader(head), rest)}
	if err := u.content(head, src, size); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, rest); err != nil {
		return err
	}
	u.known = u.known || u.e.packaged(u.path, digest(h.Sum(nil)))
	u.countKnown()
	return nil
}

func (u *unit) countKnown() {
	if u.known && u.depth == 0 {
		u.e.mu.Lock()
		defer u.e.mu.Unlock()
		u.e.known++
	}
}

// packaged says whether an installed package ships the content, or, for what
// Python's packages compile when they are installed, the source of it.
func (e *Engine) packaged(path string, d digest) bool {
	if e.opts.AllFiles || e.pristine.empty() {
		return false
	}
	return e.pristine.has(d) || strings.HasSuffix(path, ".pyc") && compiledPython.MatchString(path)
}

var compiledPython = regexp.MustCompile(`(?:^|/)usr/(?:lib|share)/(?:[^/]+/)*__pycache__/[^/]+\.pyc$`)

// readHead reads the first maxMemory bytes; whole says that there are no more.
func readHead(r io.Reader, size int64) (head []byte, whole bool, err error) {
	hint := int64(bytes.MinRead)
	if size > 0 {
		hint += min(size, maxMemory)
	}
	b := bytes.NewBuffer(make([]byte, 0, hint))
	n, err := io.Copy(b, io.LimitReader(r, maxMemory))
	if err != nil {
		return b.Bytes(), false, err
	}
	return b.Bytes(), n < maxMemory, nil
}

// content looks into r, whose first bytes are head.
func (u *unit) content(head []byte, r io.Reader, size int64) error {
	if !u.known {
		u.byPath(head, max(size, int64(len(head))))
	}
	k := u.e.containerOf(head)
	if k == nil {
		_, err := u.chunks(r, 0)
		return err
	}
	if u.depth >= maxDepth {
		u.note(fmt.Sprintf("not looked into: a %s in %d others", k.name, maxDepth))
	} else if err := u.unpack(k, r); err != nil {
		return err
	} else if !k.raw {
		return nil
	}
	_, err := u.chunks(rewound(r), 0)
	return err
}

// unpack walks a container. What is wrong with its content is a note, and the
// bytes are looked at as they are.
func (u *unit) unpack(k *container, r io.Reader) error {
	src := &source{r: r}
	var in io.Reader = src
	if b, ok := r.(*bytes.Reader); ok {
		in = b
	}
	err := k.walk(u, in)
	switch {
	case err == nil:
		return nil
	case u.ctx.Err() != nil:
		return u.ctx.Err()
	case src.err != nil:
		return src.err
	case errors.Is(err, errExpanded):
		if u.depth == 0 {
			u.note(fmt.Sprintf("not looked into beyond %d bytes: %v", u.e.opts.MaxExpanded, errExpanded))
			return nil
		}
		return err
	}
	u.note(fmt.Sprintf("not looked into as %s: %v", k.name, err))
	_, err = u.chunks(rewound(r), 0)
	return err
}

// rewound gives what is left of r, all of it where it is in memory.
func rewound(r io.Reader) io.Reader {
	if b, ok := r.(*bytes.Reader); ok {
		_, _ = b.Seek(0, io.SeekStart) // it has no error at 0
	}
	return r
}
