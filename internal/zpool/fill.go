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
