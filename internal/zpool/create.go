package zpool

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kldload/kldload/internal/atomicfile"
	"github.com/kldload/kldload/internal/tree"
	"github.com/kldload/kldload/zfs"
)

// Request is a pool to make from a tree.
type Request struct {
	Layout *Layout
	// Root is where the tree's "." lies among the mountpoints; "" follows from
	// the layout.
	Root string
	// From is a folder, a tar archive, or "-" for an archive on Stdin.
	From  string
	Stdin io.Reader
	// OneFileSystem leaves out what is mounted in the folder.
	OneFileSystem bool

	Output string
	Force  bool // replace Output
	// Convert, when set, writes the image in another format.
	Convert func(ctx context.Context, raw, out *os.File) error

	Size     int64 // of the pool, in bytes
	Snapshot string
	Seed     string // "" derives one from the request
	// Epoch is the time of creation; zero takes From's time of change, and for
	// Stdin Now.
	Epoch   time.Time
	Now     func() time.Time
	Workers int
	// Progress is told files and bytes read, and the file at hand.
	Progress func(files, bytes int64, name string)
}

// Result is what Create made.
type Result struct {
	Output    string   `json:"output"`
	Pool      string   `json:"pool"`
	Size      int64    `json:"size"`
	Datasets  []string `json:"datasets"`
	Snapshot  string   `json:"snapshot,omitempty"`
	Root      string   `json:"root"` // where the tree lies among the mountpoints
	Files     int64    `json:"files"`
	Content   int64    `json:"content_bytes"` // of files, as read
	Logical   int64    `json:"logical_bytes"` // of files, without holes
	Allocated int64    `json:"allocated_bytes"`
	Seed      string   `json:"seed"`
	Epoch     int64    `json:"source_date_epoch"`
}

// Create makes the pool's image, whole or not at all.
func Create(ctx context.Context, r Request) (*Result, error) {
	src, err := r.open()
	if err != nil {
		return nil, err
	}
	defer src.Close()
	if err := r.settle(src); err != nil {
		return nil, err
	}
	if err := r.checkOutput(src); err != nil {
		return nil, err
	}
	if err := atomicfile.Sweep(r.Output); err != nil { // what a killed run left
		return nil, err
	}
	out, err := atomicfile.Create(r.Output, 0o644)
	if err != nil {
		return nil, err
	}
	result, err := r.write(ctx, src, out.File)
	if err != nil {
		return nil, errors.Join(err, out.Abort())
	}
	if r.Force {
		return result, out.Commit()
	}
	return result, out.CommitNew()
}

// source is where the tree comes from.
type source struct {
	file *os.File  // nil for standard input
	in   io.Reader // of an archive
	dir  string    // of a folder, with no links in it
	time time.Time // of its last change
}

func (s *source) Close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

func (r *Request) open() (*source, error) {
	if r.From == "-" {
		return &source{in: r.Stdin, time: r.Now()}, nil
	}
	f, err := os.Open(r.From)
	if err != nil {
		return nil, fmt.Errorf("reading the tree: %w", err)
	}
	st, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	src := &source{file: f, in: f, time: st.ModTime()}
	if st.IsDir() {
		if src.dir, err = filepath.EvalSymlinks(r.From); err == nil {
			src.dir, err = filepath.Abs(src.dir)
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return src, nil
}

// settle fills in what was left open.
func (r *Request) settle(src *source) error {
	if r.Epoch.IsZero() {
		r.Epoch = time.Unix(src.time.Unix(), 0)
	}
	if r.Root == "" {
		r.Root = r.Layout.treeRoot()
	}
	if r.Seed == "" {
		name, err := filepath.Abs(r.From)
		if err != nil {
			return err
		}
		parts := append(r.Layout.Names(), r.Layout.Pool, filepath.Base(name), fmt.Sprint(r.Size), fmt.Sprint(r.Epoch.Unix()))
		sum := sha256.Sum256([]byte(strings.Join(parts, "\n")))
		r.Seed = hex.EncodeToString(sum[:8])
	}
	return nil
}

// checkOutput refuses an output that is there, or would be read itself.
func (r *Request) checkOutput(src *source) error {
	if _, err := os.Lstat(r.Output); !errors.Is(err, fs.ErrNotExist) && !r.Force {
		return errors.Join(err, fmt.Errorf("output %q exists\nhint: --force replaces it when the new one is complete; until then it stays", r.Output))
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(r.Output))
	if err == nil {
		dir, err = filepath.Abs(dir)
	}
	if err != nil {
		return fmt.Errorf("creating %q: %w", r.Output, err)
	}
	if src.dir != "" && (dir+"/" == src.dir || strings.HasPrefix(dir+"/", strings.TrimSuffix(src.dir, "/")+"/")) {
		return fmt.Errorf("output %q is inside the tree %q\nhint: write it elsewhere", r.Output, r.From)
	}
	return nil
}

// write makes the raw image, in out or on the way to it.
func (r *Request) write(ctx context.Context, src *source, out *os.File) (*Result, error) {
	if r.Convert == nil {
		return r.pool(ctx, src, out)
	}
	raw, err := os.CreateTemp(filepath.Dir(r.Output), "."+filepath.Base(r.Output)+".*.raw")
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	if err := os.Remove(raw.Name()); err != nil { // it goes with its last user
		return nil, err
	}
	result, err := r.pool(ctx, src, raw)
	if err != nil {
		return nil, err
	}
	return result, r.Convert(ctx, raw, out)
}

func (r *Request) pool(ctx context.Context, src *source, out *os.File) (*Result, error) {
	if err := out.Truncate(r.Size); err != nil {
		return nil, err
	}
	opts := r.Layout.Options()
	opts.Size, opts.Seed, opts.Epoch, opts.Snapshot, opts.Workers, opts.Root = r.Size, r.Seed, r.Epoch, r.Snapshot, r.Workers, r.Root
	w, err := zfs.NewWriter(interrupted{ctx, out}, opts)
	if err != nil {
		return nil, err
	}
	f := &filler{w: w, progress: r.Progress}
	if err := r.fill(ctx, src, f); err != nil {
		_ = w.Close() // ends its goroutines; the error is known
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	stats := w.Stats()
	result := &Result{
		Output: r.Output, Pool: r.Layout.Pool, Size: r.Size, Snapshot: r.Snapshot, Root: opts.Root, Files: f.files, Content: f.bytes,
		Logical: stats.Logical, Allocated: stats.Allocated, Seed: r.Seed, Epoch: r.Epoch.Unix(),
	}
	for _, d := range opts.Datasets {
		result.Datasets = append(result.Datasets, d.Name)
	}
	return result, nil
}

func (r *Request) fill(ctx context.Context, src *source, f *filler) error {
	if src.dir != "" {
		return tree.Walk(src.dir, tree.WalkOptions{OneFileSystem: r.OneFileSystem}, stopping(ctx, f.entry))
	}
	return tree.ReadArchive(stream{ctx, src.in}, stopping(ctx, f.entry))
}
