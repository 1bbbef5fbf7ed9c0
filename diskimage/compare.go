package diskimage

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
)

// CompareOptions are the options of Compare.
type CompareOptions struct {
	// Strict makes disks of different sizes different. Otherwise the longer
	// one may go on with zeros.
	Strict bool
	// Jobs is the number of goroutines that read; 0 means one for each
	// processor. It has no influence on the result.
	Jobs int
	// Progress, when set, is told how far into the disks the comparison has
	// got, in bytes. Calls come one at a time and never go back.
	Progress func(done, total int64)
}

// CompareResult is what Compare found.
type CompareResult struct {
	Identical bool `json:"identical"`
	// Offset is the first byte that differs, -1 when none does or when Strict
	// made it needless to look.
	Offset int64 `json:"offset"`
	// SizeA and SizeB are the sizes of the disks in bytes.
	SizeA int64 `json:"size_a"`
	SizeB int64 `json:"size_b"`
}

// Compare tells whether two disks hold the same. It reads where at least one
// has data; a hole and zeros are the same. An error means that it could not
// tell.
func Compare(ctx context.Context, a, b Disk, opts CompareOptions) (CompareResult, error) {
	r := CompareResult{Offset: -1, SizeA: a.Size(), SizeB: b.Size()}
	if opts.Strict && r.SizeA != r.SizeB {
		return r, nil
	}
	c := &comparison{disks: [2]Disk{a, b}, progress: opts.Progress}
	c.walk = extentWalk{size: max(r.SizeA, r.SizeB), piece: max(comparePiece(a), comparePiece(b))}
	c.walk.add("data of the first disk", a.NextData)
	c.walk.add("data of the second disk", b.NextData)
	c.first.Store(c.walk.size)
	jobs := opts.Jobs
	if jobs <= 0 {
		jobs = runtime.GOMAXPROCS(0)
	}
	if err := c.run(ctx, jobs); err != nil {
		return CompareResult{}, fmt.Errorf("comparing disks: %w", err)
	}
	if at := c.first.Load(); at < c.walk.size {
		r.Offset = at
		return r, nil
	}
	r.Identical = true
	if opts.Progress != nil {
		opts.Progress(c.walk.size, c.walk.size)
	}
	return r, nil
}

// comparePiece is how much to read of a disk at once: whole clusters where they
// are compressed, since half of one costs as much.
func comparePiece(d Disk) int64 {
	i, ok := d.(Image)
	if !ok {
		return minBlock
	}
	info := i.Info()
	if info.Compression == "" || info.BlockSize&(info.BlockSize-1) != 0 {
		return minBlock
	}
	return min(max(minBlock, info.BlockSize), maxClusterSize)
}

// comparison is one run of Compare.
type comparison struct {
	disks [2]Disk
	first atomic.Int64 // least offset known to differ; the size when none is

	mu       sync.Mutex // guards what follows
	walk     extentWalk
	progress func(done, total int64)
	failure  error // of the first piece that cannot be compared
	failedAt int64 // its offset
}

// pieceToCompare is a piece of the disks, and what data each has there.
type pieceToCompare struct {
	offset, end int64
	data        [2][]extent
}

// run has several goroutines take pieces until none is left before the first
// difference. Pieces are taken in order and what was taken is looked at, so all
// before a difference, or before what cannot be read, is known.
func (c *comparison) run(ctx context.Context, jobs int) error {
	var wg sync.WaitGroup
	for range jobs {
		wg.Go(func() { c.work(ctx) })
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.first.Load() < c.failedAt {
		return nil
	}
	return c.failure
}

func (c *comparison) work(ctx context.Context) {
	var bufs [2][]byte
	for i := range bufs {
		bufs[i] = make([]byte, c.walk.piece)
	}
	var p pieceToCompare
	for ctx.Err() == nil {
		ok, err := c.take(&p)
		if err != nil {
			c.fail(c.walk.size, err)
		}
		if err != nil || !ok {
			return
		}
		if err := c.compare(&p, bufs); err != nil {
			c.fail(p.offset, err)
			return
		}
	}
}

// fail notes that the piece at offset cannot be compared, and ends the work.
func (c *comparison) fail(offset int64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failure == nil || offset < c.failedAt {
		c.failure, c.failedAt = err, offset
	}
}

// take finds the next piece.
func (c *comparison) take(p *pieceToCompare) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failure != nil {
		return false, nil
	}
	base, ok, err := c.walk.nextPiece()
	if err != nil || !ok || base >= c.first.Load() {
		return false, err
	}
	p.offset, p.end = base, min(base+c.walk.piece, c.walk.size)
	for i := range p.data {
		p.data[i] = p.data[i][:0]
		if err := c.walk.each(i, base, func(x extent) { p.data[i] = append(p.data[i], x) }); err != nil {
			return false, err
		}
	}
	if c.progress != nil {
		c.progress(base, c.walk.size)
	}
	return true, nil
}

// compare reads a piece of both disks and looks for the first difference.
func (c *comparison) compare(p *pieceToCompare, bufs [2][]byte) error {
	for i, d := range c.disks {
		bufs[i] = bufs[i][:p.end-p.offset]
		if err := readExtents(d, bufs[i], p.offset, p.data[i]); err != nil {
			return fmt.Errorf("%s disk: %w", [...]string{"first", "second"}[i], err)
		}
	}
	if bytes.Equal(bufs[0], bufs[1]) {
		return nil
	}
	at := p.offset
	for i, x := range bufs[0] {
		if x != bufs[1][i] {
			at += int64(i)
			break
		}
	}
	for old := c.first.Load(); at < old && !c.first.CompareAndSwap(old, at); {
		old = c.first.Load()
	}
	return nil
}
