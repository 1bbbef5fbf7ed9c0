package export

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/kldload/kldload/diskimage"
	"github.com/kldload/kldload/internal/ui"
)

// Request is what to make of which disk.
type Request struct {
	// Input is a file or block device; "-" is Stdin.
	Input string
	// InputFormat is taken as the input's format without looking; "" looks.
	InputFormat diskimage.Format
	Choices     []*Choice

	// Output is the file of the only choice, "-" for Stdout. OutputDir is the
	// folder of one file NAME.EXTENSION for each choice; it is made when it is
	// not there. With neither, Send gets the files and they are not kept.
	Output, OutputDir string
	// Name is NAME; "" takes the input's.
	Name string

	// Force replaces outputs that exist and reads a disk that is in use.
	Force bool
	// NoChecksum leaves out the SHA-256 and the files that hold it.
	NoChecksum bool
	Jobs       int
	Timestamp  time.Time // see WriteOptions

	// Remake, when set, makes another disk of the input in raw, an empty
	// temporary file, and that one is written in its place.
	Remake func(ctx context.Context, in diskimage.Disk, raw *os.File) error

	// Send copies a finished file to another host.
	Send Sender

	UI     *ui.UI
	Stdin  *os.File
	Stdout io.Writer
}

// Sender copies the file local, of that size and SHA-256, to where it shall be
// called name, whole or not at all. progress is told bytes done and in all. An
// error says what was being sent where.
type Sender func(ctx context.Context, local string, size int64, sha256, name string, progress func(done, total int64)) error

// Result is what Convert made, for people and for --json.
type Result struct {
	Input   Input    `json:"input"`
	Outputs []Output `json:"outputs"`
	// Files are the checksum files and the manifest.
	Files []string `json:"files"`
	// Read counts the bytes of the disk that were read: its data.
	Read    int64   `json:"read"`
	Written int64   `json:"written"` // length of all images together
	Seconds float64 `json:"seconds"` // of the pass that wrote them
	Sent    bool    `json:"sent,omitempty"`
}

// Convert writes all images in one pass and gives them, their checksum files
// and the manifest their names when all of them are complete. After an error
// nothing new stands under a final name.
func Convert(ctx context.Context, r Request) (result *Result, err error) {
	p, err := r.plan()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.remove()) }()
	in, err := r.openInput(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	if err := p.open(in); err != nil {
		return nil, err
	}
	disk, err := r.remade(ctx, in, p)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	result, err = r.write(ctx, in.Info(), disk, p)
	if err != nil {
		return nil, err
	}
	if p.stdout {
		return result, interruptible(ctx, func() error { return copyTo(ctx, r.Stdout, p.images[0].File, result.Outputs[0].Size) })
	}
	if err := p.beside(result, r.NoChecksum); err != nil {
		return nil, err
	}
	if err := p.commit(ctx); err != nil {
		return nil, err
	}
	if r.Send != nil {
		if err := r.send(ctx, p, result); err != nil {
			return nil, err
		}
	}
	return result, nil
}

// closingDisk is a disk and what it is read from.
type closingDisk interface {
	diskimage.Disk
	io.Closer
}

// shared is a disk that someone else closes.
type shared struct{ diskimage.Disk }

func (shared) Close() error { return nil }

// remade is the disk to write: the input, or what Remake makes of it.
func (r *Request) remade(ctx context.Context, in *input, p *plan) (closingDisk, error) {
	if r.Remake == nil {
		return shared{in}, nil
	}
	raw, err := unnamed(p.dir)
	if err != nil {
		return nil, fmt.Errorf("creating a temporary disk: %w", err)
	}
	if err := r.Remake(ctx, in, raw); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	disk, err := diskimage.OpenRaw(raw)
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return disk, nil
}

// write is the one pass.
func (r *Request) write(ctx context.Context, info diskimage.Info, from diskimage.Disk, p *plan) (*Result, error) {
	stage := r.UI.Stage("convert")
	disk := &meter{Disk: from}
	start := time.Now()
	outs, err := Write(ctx, disk, p.images, WriteOptions{
		Jobs: r.Jobs, Timestamp: r.Timestamp, NoDigest: r.NoChecksum,
		Progress: func(done, total int64) { stage.Progress(done, total, "") },
	})
	if err != nil {
		stage.Fail()
		return nil, err
	}
	result := &Result{Outputs: outs, Files: []string{}, Read: disk.read.Load(), Seconds: time.Since(start).Seconds(),
		Input: Input{File: r.inputName(), Format: info.Format, Size: info.FileSize, VirtualSize: info.VirtualSize}}
	for _, o := range outs {
		result.Written += o.Size
	}
	stage.Done(strings.ReplaceAll(formatList(p.images), ", ", " · "))
	return result, nil
}

// meter counts what is read of a disk.
type meter struct {
	diskimage.Disk
	read atomic.Int64
}

func (m *meter) ReadAt(p []byte, off int64) (int, error) {
	n, err := m.Disk.ReadAt(p, off)
	m.read.Add(int64(n))
	return n, err
}

// copyTo writes a finished image to a stream.
func copyTo(ctx context.Context, to io.Writer, f *os.File, size int64) error {
	from := io.NewSectionReader(f, 0, size)
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		_, err := io.CopyN(to, from, 1<<20)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("writing to standard output: %w", err)
		}
	}
}
