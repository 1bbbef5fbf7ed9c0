package export

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/kldload/kldload/diskimage"
)

// input is the open disk and every file it is made of.
type input struct {
	*diskimage.File
	files []os.FileInfo
}

// openInput opens what the request names.
func (r *Request) openInput(ctx context.Context) (*input, error) {
	in := &input{}
	opts := diskimage.OpenOptions{Format: r.InputFormat, Backing: true, TempDir: r.spoolDir(), Check: func(f *os.File) error { return in.admit(f, r.Force) }}
	st, err := r.stat()
	if err != nil {
		return nil, err
	}
	seekable := st.Mode().IsRegular() || st.Mode()&os.ModeType == os.ModeDevice
	if r.Input != "-" && (seekable || st.IsDir()) {
		in.File, err = Open(ctx, r.Input, opts)
		return in, err
	}
	opts.Backing = false // a stream has no folder, and may come from anyone
	f, err := r.stream(ctx, seekable)
	if err == nil {
		in.File, err = Open(ctx, descriptorPath(f), opts)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", r.streamName(), err)
	}
	return in, nil
}

// Open is diskimage.Open that does not hold back an interrupt: images of some
// formats are unpacked when they are opened.
func Open(ctx context.Context, path string, opts diskimage.OpenOptions) (*diskimage.File, error) {
	var f *diskimage.File
	err := interruptible(ctx, func() (err error) {
		f, err = diskimage.Open(path, opts)
		return err
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// streamName is what people call the input that is a stream.
func (r *Request) streamName() string {
	if r.Input == "-" {
		return "standard input"
	}
	return fmt.Sprintf("%q", r.Input)
}

func (r *Request) stat() (os.FileInfo, error) {
	if r.Input == "-" {
		return r.Stdin.Stat()
	}
	st, err := os.Stat(r.Input)
	var path *fs.PathError
	if errors.As(err, &path) {
		err = fmt.Errorf("input %q: %w", r.Input, path.Err)
	}
	return st, err
}

// admit notes a file of the input and refuses one that is in use.
func (in *input) admit(f *os.File, force bool) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	in.files = append(in.files, st)
	if force {
		return nil
	}
	reason, err := diskimage.InUse(f)
	if err != nil {
		return err
	}
	if reason != "" {
		return fmt.Errorf("%s\nhint: what is written to while it is read gives a broken image; --force reads it all the same", reason)
	}
	return nil
}

// is tells whether path is a file the input is made of.
func (in *input) is(path string) bool {
	st, err := os.Stat(path)
	if err != nil {
		return false
	}
	for _, have := range in.files {
		if os.SameFile(st, have) {
			return true
		}
	}
	return false
}

// stream gives the request's stream as a file that can be read anywhere: the
// file that standard input is, or what comes out of a pipe in a temporary file
// that has no name.
func (r *Request) stream(ctx context.Context, seekable bool) (*os.File, error) {
	from := r.Stdin
	if r.Input != "-" {
		var f *os.File
		if err := interruptible(ctx, func() (err error) { f, err = os.Open(r.Input); return err }); err != nil {
			return nil, err
		}
		defer f.Close()
		from = f
	}
	if seekable {
		return os.Open(descriptorPath(from))
	}
	if st, err := from.Stat(); err != nil || st.Mode()&os.ModeCharDevice != 0 {
		return nil, errors.Join(err, errors.New("is a character device or terminal, want a file, a block device or a pipe"))
	}
	to, err := unnamed(r.spoolDir())
	if err != nil {
		return nil, err
	}
	stage := r.UI.Stage("spool")
	err = interruptible(ctx, func() error {
		return spool(ctx, to, from, func(done int64) { stage.Progress(done, 0, "") })
	})
	if err != nil {
		stage.Fail()
		return nil, errors.Join(err, to.Close())
	}
	stage.Done("read from the stream")
	return to, nil
}

// unnamed makes a temporary file that is gone with its last descriptor.
func unnamed(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, ".kexport-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// interruptible runs work that may take long or wait for the other end of a
// pipe, and cannot be told to stop: when the context ends, it is left to itself.
func interruptible(ctx context.Context, work func() error) error {
	done := make(chan error, 1)
	go func() { done <- work() }()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case err := <-done:
		return err
	}
}

// spoolPiece is the unit in which zeros of a stream become holes.
const spoolPiece = 64 << 10

// spool copies a stream and leaves its zeros out.
func spool(ctx context.Context, to *os.File, from io.Reader, progress func(done int64)) error {
	buf, zeros := make([]byte, spoolPiece), make([]byte, spoolPiece)
	for size := int64(0); ; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := io.ReadFull(from, buf)
		if n > 0 && !bytes.Equal(buf[:n], zeros[:n]) {
			if _, err := to.WriteAt(buf[:n], size); err != nil {
				return fmt.Errorf("spooling at offset %#x: %w", size, err)
			}
		}
		size += int64(n)
		progress(size)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return to.Truncate(size)
		}
		if err != nil {
			return err
		}
	}
}

// sameFile tells whether two names are of one file that exists.
func sameFile(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}
