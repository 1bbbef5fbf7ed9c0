package zpool

import (
	"context"
	"fmt"
	"io"

	"github.com/kldload/kldload/internal/tree"
	"github.com/kldload/kldload/zfs"
)

// Header is an entry as the pool's writer takes it.
func Header(e *tree.Entry) zfs.Header {
	return zfs.Header{
		Path: e.Path, Mode: e.Mode, UID: e.UID, GID: e.GID, Size: e.Size,
		ModTime: e.ModTime, AccessTime: e.AccessTime, ChangeTime: e.ChangeTime,
		Major: e.Major, Minor: e.Minor, Linkname: e.Symlink, Xattrs: e.Xattrs,
	}
}

// filler puts a tree's entries into a pool.
type filler struct {
	w        *zfs.Writer
	progress func(files, bytes int64, name string)

	files, bytes int64
}

func (f *filler) entry(e *tree.Entry, body io.Reader) error {
	if f.files++; f.files%64 == 0 || e.Size > 1<<20 {
		f.progress(f.files, f.bytes, e.Path)
	}
	if e.HardLink != "" {
		return f.w.Link(e.Path, e.HardLink)
	}
	f.bytes += e.Size
	return f.w.Create(Header(e), body)
}

// interrupted ends a pool's writing with ctx.
type interrupted struct {
	ctx context.Context
	w   io.WriterAt
}

func (i interrupted) WriteAt(p []byte, off int64) (int, error) {
	if err := i.ctx.Err(); err != nil {
		return 0, context.Cause(i.ctx)
	}
	return i.w.WriteAt(p, off)
}

// stopping ends a source's reading with ctx: a tree of empty files writes
// little.
func stopping(ctx context.Context, f func(e *tree.Entry, body io.Reader) error) func(e *tree.Entry, body io.Reader) error {
	return func(e *tree.Entry, body io.Reader) error {
		if ctx.Err() != nil {
			return fmt.Errorf("before %q: %w", e.Path, context.Cause(ctx))
		}
		return f(e, body)
	}
}

// stream is a reader whose Read ends with ctx although nothing comes. The
// buffer of a Read that was given up is not to be used again.
type stream struct {
	ctx context.Context
	r   io.Reader
}

func (s stream) Read(p []byte) (int, error) {
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	go func() {
		n, err := s.r.Read(p)
		done <- result{n, err}
	}()
	select {
	case r := <-done:
		return r.n, r.err
	case <-s.ctx.Done():
		return 0, context.Cause(s.ctx)
	}
}
