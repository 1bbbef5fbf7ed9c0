package scan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
)

// job is one file to look at.
type job struct {
	loc  Location
	size int64
	mode fs.FileMode
	open func() (io.ReadCloser, error)
}

// Dir looks at all files below a folder, with their names, link targets and
// extended attributes: a root file system or any other.
// Links are not followed; mount points are. A file that may not be read is a
// note.
func (e *Engine) Dir(ctx context.Context, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := e.Packages(root.FS()); err != nil {
		return err
	}
	return e.parallel(ctx, func(send func(job) error) error {
		return fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
			loc := Location{Path: pathOf(name)}
			if err != nil {
				if name == "." {
					return err
				}
				e.unread(loc, fmt.Sprintf("not looked into: %v", err))
				return nil
			}
			if err := e.around(ctx, root, name, d.Type()); err != nil {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				e.unread(loc, fmt.Sprintf("attributes and names not looked into: %v", err))
			}
			if !d.Type().IsRegular() {
				return nil
			}
			st, err := d.Info()
			if err != nil {
				return nil // gone in the meantime
			}
			return send(job{loc, st.Size(), st.Mode(), func() (io.ReadCloser, error) { return root.Open(name) }})
		})
	})
}

// pathOf is the path in a report of a name below a folder.
func pathOf(name string) string {
	if name == "." {
		return "/"
	}
	return "/" + filepath.ToSlash(name)
}

// parallel looks at the files that walk sends, two at a time at least. The
// first error ends it.
func (e *Engine) parallel(ctx context.Context, walk func(send func(job) error) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	jobs := make(chan job, 64)
	var wg sync.WaitGroup
	for range max(2, runtime.GOMAXPROCS(0)) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for j := range jobs {
				if err := e.one(ctx, j); err != nil {
					cancel(err)
				}
			}
		}()
	}
	err := walk(func(j job) error {
		select {
		case jobs <- j:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	close(jobs)
	wg.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// one looks at a file; one that may not be read, or is gone, is a note.
func (e *Engine) one(ctx context.Context, j job) error {
	if ctx.Err() != nil {
		return nil // the error is known already
	}
	err := e.File(ctx, j.loc, j.size, j.mode, j.open)
	if errors.Is(err, fs.ErrNotExist) {
		e.Note(j.loc, fmt.Sprintf("not looked into: %v", err))
		return nil
	}
	if errors.Is(err, fs.ErrPermission) {
		e.unread(j.loc, fmt.Sprintf("not looked into: %v", err))
		return nil
	}
	return err
}
