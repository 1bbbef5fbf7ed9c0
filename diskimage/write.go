package diskimage

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
)

const (
	// minBlock is the size of a block unless a sink wants a larger one: large
	// enough to make system calls cheap, small enough to spread over cores.
	minBlock = 512 << 10

	// maxInFlight bounds the disk bytes held at once. Each sink's compressed
	// form can add as much again.
	maxInFlight = 16 << 20
)

type counter = atomic.Int32

// WriteOptions are the options of Write.
type WriteOptions struct {
	// Jobs is the number of goroutines that read and compress; 0 means one
	// for each processor. It has no influence on the output.
	Jobs int
	// Progress, when set, is told how far into the disk all sinks have got,
	// in bytes. Calls come one at a time and never go back; the last one,
	// with done == total, comes when the outputs are complete.
	Progress func(done, total int64)
}

// Write reads d once, from start to end and leaving out its holes, and feeds
// every sink. The results are in the order of the sinks. After an error, or
// when ctx is cancelled, the targets hold unusable parts of images.
func Write(ctx context.Context, d Disk, opts WriteOptions, sinks ...Sink) ([]Result, error) {
	defer release(sinks)
	e, err := newEngine(d, opts, sinks)
	if err != nil {
		return nil, err
	}
	if e.digest = newDiskDigest(sinks); e.digest != nil {
		e.add(e.digest)
	}
	identity := newDiskIdentity(sinks)
	if identity != nil {
		e.add(identity)
	}
	if err := e.begin(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer func() { // no target is read once Write has returned
		cancel(nil)
		if e.digest != nil {
			<-e.digest.ended
		}
	}()
	if e.digest != nil {
		go func() {
			if err := e.digest.follow(ctx, e.report); err != nil {
				cancel(err)
			}
		}()
	}
	if err := e.run(ctx); err != nil {
		return nil, err
	}
	if e.digest != nil {
		e.digest.noMore()
	}
	if identity != nil {
		identity.give()
	}
	results, err := e.finish(ctx, sinks)
	if err == nil && opts.Progress != nil {
		opts.Progress(e.size, e.size)
	}
	return results, err
}

// release frees what sinks still hold after an error, which is the one to tell.
func release(sinks []Sink) {
	for _, s := range sinks {
		if r, ok := s.(releaser); ok {
			_ = r.release()
		}
	}
}

// finish finishes all sinks at once. What a digest still has to hash is hashed
// meanwhile.
func (e *engine) finish(ctx context.Context, sinks []Sink) ([]Result, error) {
	results := make([]Result, len(sinks))
	errs := make([]error, len(sinks))
	var wg sync.WaitGroup
	for i, s := range sinks {
		wg.Go(func() {
			if e.digest != nil {
				if errs[i] = e.digest.give(ctx, s); errs[i] != nil {
					return
				}
			}
			results[i], errs[i] = s.Finish(ctx)
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return results, nil
}

// worker is what blocks are given to: a Sink, or what computes something that
// several sinks want to know.
type worker interface {
	Begin(size int64) error
	Encode(b *Block) (Commit, error)
}

// engine moves blocks through three stages: one goroutine walks the disk's
// extents and fills in what to read, workers read and encode, and one goroutine
// for each sink commits the blocks in order. A fixed set of blocks goes round,
// which bounds memory.
type engine struct {
	disk      Disk
	size      int64
	workers   []worker
	jobs      int
	blockSize int64
	progress  func(done, total int64)

	committed atomic.Int64 // how far all sinks are
	reporting sync.Mutex
	reported  int64

	digest *diskDigest // nil without one
	askers []int       // sinks with extents of their own

	free  chan *Block
	work  chan *Block
	order []chan *Block // one for each worker
}

func newEngine(d Disk, opts WriteOptions, sinks []Sink) (*engine, error) {
	if len(sinks) == 0 {
		return nil, errors.New("writing a disk: no sink given")
	}
	e := &engine{disk: d, size: d.Size(), jobs: opts.Jobs, blockSize: minBlock, progress: opts.Progress}
	if e.jobs <= 0 {
		e.jobs = runtime.GOMAXPROCS(0)
	}
	for _, s := range sinks {
		if b, ok := s.(BlockSizer); ok {
			n := b.BlockSize()
			if n <= 0 || n&(n-1) != 0 || n > maxClusterSize {
				return nil, fmt.Errorf("writing a disk: block size %d, want a power of two up to %d", n, maxClusterSize)
			}
			e.blockSize = max(e.blockSize, int64(n))
		}
	}
	n := int(max(2, min(int64(4*e.jobs), maxInFlight/e.blockSize)))
	e.free = make(chan *Block, n)
	e.work = make(chan *Block, n)
	for range n {
		e.free <- &Block{packed: map[packing]*packedClusters{}}
	}
	for _, s := range sinks {
		e.add(s)
	}
	return e, nil
}

// add adds a worker with a queue that has room for all blocks there are.
func (e *engine) add(w worker) {
	e.workers = append(e.workers, w)
	e.order = append(e.order, make(chan *Block, cap(e.free)))
}

func (e *engine) begin() error {
	for _, w := range e.workers {
		if err := w.Begin(e.size); err != nil {
			return err
		}
	}
	return nil
}

func (e *engine) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	start := func(stage func() error) {
		wg.Go(func() {
			if err := stage(); err != nil {
				cancel(err)
			}
		})
	}
	start(func() error { return e.dispatch(ctx) })
	for range e.jobs {
		start(func() error { return e.encode(ctx) })
	}
	for i := range e.workers {
		start(func() error { return e.commit(ctx, i) })
	}
	wg.Wait()
	return context.Cause(ctx)
}

// dispatch walks the extents and sends a block for each piece of the disk that
// has any.
func (e *engine) dispatch(ctx context.Context) error {
	defer func() {
		close(e.work)
		for _, c := range e.order {
			close(c)
		}
	}()
	walk := e.walk()
	for {
		base, ok, err := walk.nextPiece()
		if err != nil || !ok {
			return err
		}
		b, err := e.take(ctx, base)
		if err != nil {
			return err
		}
		err = walk.each(0, base, func(x extent) { b.extents = append(b.extents, x) })
		for i := 1; i < len(walk.sources) && err == nil; i++ {
			err = walk.each(i, base, func(extent) { b.asked[e.askers[i-1]] = true })
		}
		if err != nil {
			return err
		}
		e.send(b)
	}
}

// walk returns the walk over the disk's data and the extents that sinks have of
// their own; which sinks those are is noted in askers.
func (e *engine) walk() *extentWalk {
	w := &extentWalk{size: e.size, piece: e.blockSize}
	w.add("data", e.disk.NextData)
	for i, s := range e.workers {
		if u, ok := s.(extentUser); ok {
			w.add("what an output has to replace", u.nextExtent)
			e.askers = append(e.askers, i)
		}
	}
	return w
}

// take waits for a free block and makes it the one at base.
func (e *engine) take(ctx context.Context, base int64) (*Block, error) {
	var b *Block
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case b = <-e.free:
	}
	if b.buf == nil {
		b.buf = make([]byte, e.blockSize)
	}
	b.Offset = base
	b.Data = b.buf[:min(e.blockSize, e.size-base)]
	b.extents, b.arena, b.commits = b.extents[:0], b.arena[:0], b.commits[:0]
	clear(b.packed)
	b.grains = nil
	b.asked = append(b.asked[:0], make([]bool, len(e.workers))...)
	b.ready = make(chan struct{})
	b.left.Store(int32(len(e.workers)))
	return b, nil
}

// send never waits: the channels have room for all blocks there are.
func (e *engine) send(b *Block) {
	for _, c := range e.order {
		c <- b
	}
	e.work <- b
}

// encode reads blocks and has the sinks encode them.
func (e *engine) encode(ctx context.Context) error {
	codec := newCompressor()
	for b := range e.work {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := e.read(b); err != nil {
			return err
		}
		b.codec = codec
		if err := e.encodeBlock(b); err != nil {
			return err
		}
		b.codec = nil
		close(b.ready)
	}
	return nil
}

// encodeBlock gives the block to all sinks, or to those that asked for it when
// it is zero.
func (e *engine) encodeBlock(b *Block) error {
	zero := isZero(b.Data)
	for i, s := range e.workers {
		if zero && !b.asked[i] {
			b.commits = append(b.commits, nil)
			continue
		}
		commit, err := s.Encode(b)
		if err != nil {
			return err
		}
		b.commits = append(b.commits, commit)
	}
	return nil
}

// read fills the block's buffer.
func (e *engine) read(b *Block) error {
	if err := readExtents(e.disk, b.buf, b.Offset, b.extents); err != nil {
		return fmt.Errorf("disk: %w", err)
	}
	return nil
}

// commit runs the commits of one sink in the order of the blocks.
func (e *engine) commit(ctx context.Context, sink int) error {
	for b := range e.order[sink] {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-b.ready:
		}
		if b.commits[sink] != nil {
			if err := b.commits[sink](ctx); err != nil {
				return err
			}
		}
		if b.left.Add(-1) == 0 {
			// Only the sink that is last with this block comes here, before
			// it turns to the next one: so calls are in order.
			e.committed.Store(b.Offset + int64(len(b.Data)))
			e.report()
			e.free <- b
		}
	}
	return ctx.Err()
}

// report tells the caller how far all is.
func (e *engine) report() {
	if e.progress == nil {
		return
	}
	e.reporting.Lock()
	defer e.reporting.Unlock()
	done := e.committed.Load()
	if e.digest != nil {
		done = min(done, e.digest.done.Load())
	}
	if done > e.reported {
		e.reported = done
		e.progress(done, e.size)
	}
}
