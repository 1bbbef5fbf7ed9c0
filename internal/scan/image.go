package scan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"

	"github.com/kldload/kldload/internal/gpt"
	"github.com/kldload/kldload/internal/volume"
)

// Places that are no file's, as Location.Where calls them. The readers name the
// others.
const (
	outside  = "outside of partitions"
	rawBytes = "bytes of the volume"
)

// maxNested bounds the disks in volumes of pools in volumes of pools.
const maxNested = 2

// ImageOptions say how to look at a disk.
type ImageOptions struct {
	// Workers look at files at once; 0 is the processors there are.
	Workers int
	// Progress is told bytes as they are done with, from several goroutines at
	// once; nil is told nothing.
	Progress func(n int64)
}

// Image looks at all that a disk holds: the files of every volume, dataset
// and snapshot with their names, link targets and extended attributes, what is
// left of deleted ones, and the bytes outside of volumes. Holes of a reader that
// knows of them (NextData of diskimage.Disk) are passed over.
//
// An error is ctx's. What cannot be read is a note in the report.
func Image(ctx context.Context, e *Engine, d *volume.Disk, o ImageOptions) error {
	root, err := d.Root()
	switch {
	case err == nil:
		if err := e.Packages(root); err != nil {
			e.unread(Location{Volume: root.Volume.Name()}, err.Error())
		}
	case !errors.Is(err, volume.ErrNoRoot):
		return err
	}
	workers := o.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	s := &imageScan{e: e, progress: o.Progress}
	s.pool, s.ctx = newCrew(ctx, workers)
	s.disk(d, "", 0)
	return s.pool.wait()
}

// imageScan is a scan of a disk under way. Its methods walk and hand work to
// the pool; what they meet and cannot read they note.
type imageScan struct {
	e        *Engine
	ctx      context.Context
	pool     *crew
	progress func(int64)
}

func (s *imageScan) done(n int64) {
	if s.progress != nil {
		s.progress(n)
	}
}

// do hands a piece of work to the pool; an error of it is a note.
func (s *imageScan) do(loc Location, work func() error) {
	s.pool.do(func() { s.noted(loc, work()) })
}

// noted makes a note of an error of reading, unless that says that the scan has ended.
func (s *imageScan) noted(loc Location, err error) {
	if err != nil && s.ctx.Err() == nil {
		s.e.unread(loc, "not looked at: "+err.Error())
	}
}

// disk looks at a disk; in is what it lies in, depth counts those.
func (s *imageScan) disk(d *volume.Disk, in string, depth int) {
	for _, v := range d.Volumes {
		b := &bytesOf{r: d.Reader, base: v.Partition.Start, size: v.Partition.Size}
		loc := Location{Volume: within(in, v.Name())}
		switch {
		case v.Ext4 != nil && v.Err == nil:
			s.files(&walked{fsys: v.Ext4, loc: loc, bytes: b})
			s.unused(loc, b, v.Ext4.Unused)
		case v.FAT != nil && v.Err == nil:
			s.files(&walked{fsys: v.FAT, loc: loc, bytes: b})
			s.unused(loc, b, v.FAT.Unused)
		case v.Pool != nil && v.Err == nil:
			s.datasets(v.Pool, loc, depth)
			s.poolSpace(v.Pool, loc, b)
		default:
			s.unread(v, loc)
			loc.Where = rawBytes
			s.region(loc, b, 0, b.size)
		}
	}
	loc := Location{Volume: within(in, "the disk"), Where: outside}
	b := &bytesOf{r: d.Reader, size: d.Size}
	for _, g := range gaps(d) {
		s.region(loc, b, g.Start, g.Size)
	}
}

func within(in, name string) string {
	if in == "" {
		return name
	}
	return in + " > " + name
}

// unread says what it means that the files of a volume are not read.
func (s *imageScan) unread(v *volume.Volume, loc Location) {
	switch {
	case v.Err != nil:
		s.e.unread(loc, fmt.Sprintf("its files are not read, its bytes are looked at as they are: %v", v.Err))
	case v.Kind == volume.LUKS:
		s.e.Note(loc, "not looked into: it is encrypted")
	case v.Kind != volume.None && v.Kind != volume.Swap:
		s.e.Note(loc, fmt.Sprintf("the files of %s are not read, its bytes are looked at as they are", v.Kind))
	}
}

// gaps are the parts of a disk that no partition has.
func gaps(d *volume.Disk) []gpt.Partition {
	var taken []gpt.Partition
	for _, v := range d.Volumes {
		taken = append(taken, v.Partition)
	}
	slices.SortFunc(taken, func(a, b gpt.Partition) int { return cmp.Compare(a.Start, b.Start) })
	var out []gpt.Partition
	at := int64(0)
	for _, p := range append(taken, gpt.Partition{Start: d.Size}) {
		if p.Start > at {
			out = append(out, gpt.Partition{Start: at, Size: min(p.Start, d.Size) - at})
		}
		at = max(at, p.End())
	}
	return out
}

// unused looks at what a volume's reader says that no file has.
func (s *imageScan) unused(loc Location, b *bytesOf, each func(func(kind string, off, size int64) error) error) {
	err := each(func(kind string, off, size int64) error {
		l := loc
		l.Where = kind
		s.region(l, b, off, size)
		return s.ctx.Err()
	})
	s.noted(loc, err)
}

// piece is how much is taken at once of bytes that may be zeros, and the least
// that makes a piece of work.
const (
	piece    = 64 << 10
	workSize = 16 << 20
)

// region looks at the bytes of a region that are not zero; their offsets count
// from the start of the volume.
func (s *imageScan) region(loc Location, b *bytesOf, off, size int64) {
	end := min(off+size, b.size)
	for off < end && s.ctx.Err() == nil {
		start, stop, err := b.nextData(off, end)
		if err != nil {
			s.noted(loc, err)
			return
		}
		for at := start; at < stop; at += workSize {
			// Some of what follows goes with each, so that what is on a border is whole.
			to := min(at+workSize+margin, stop)
			s.do(loc, func() error { return s.nonZero(loc, b, at, to) })
		}
		off = stop
	}
}

// nonZero looks at runs of pieces that are not all zero.
func (s *imageScan) nonZero(loc Location, b *bytesOf, at, end int64) error {
	for at < end {
		run := &run{b: b, at: at, end: end}
		if !run.more() {
			if run.err != nil {
				return run.err
			}
			at = run.at
			continue
		}
		if err := s.e.Raw(s.ctx, loc, at, run); err != nil {
			return err
		}
		s.done(run.at - at)
		at = run.at
	}
	return nil
}

// run reads pieces up to one that is all zeros, or to the end.
type run struct {
	b       *bytesOf
	at, end int64 // of what is not in buf
	buf     []byte
	left    []byte
	err     error
}

// more reads the next piece; false is zeros, the end or an error.
func (r *run) more() bool {
	n := min(piece-r.at%piece, r.end-r.at)
	if n <= 0 {
		return false
	}
	if r.buf == nil {
		r.buf = make([]byte, piece)
	}
	if r.err = r.b.readFull(r.buf[:n], r.at); r.err != nil {
		return false
	}
	r.at += n
	if zeros(r.buf[:n]) {
		return false
	}
	r.left = r.buf[:n]
	return true
}

func (r *run) Read(p []byte) (int, error) {
	if len(r.left) == 0 && !r.more() {
		if r.err != nil {
			return 0, r.err
		}
		return 0, io.EOF
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}
