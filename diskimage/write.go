package diskimage

import (
	"context"
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
	askers    []int // sinks with extents of their own

	committed atomic.Int64 // how far all workers are
	report    func()       // called when that has changed

	free  chan *Block
	work  chan *Block
	order []chan *Block // one for each worker
}

// newEngine returns an engine for workers that have begun or will before it
// runs.
func newEngine(d Disk, jobs int, workers []worker) (*engine, error) {
	e := &engine{disk: d, size: d.Size(), jobs: jobs, blockSize: minBlock, report: func() {}}
	if e.jobs <= 0 {
		e.jobs = runtime.GOMAXPROCS(0)
	}
	for _, w := range workers {
		if b, ok := w.(BlockSizer); ok {
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
	for _, w := range workers {
		e.workers = append(e.workers, w)
		e.order = append(e.order, make(chan *Block, n)) // room for all blocks
	}
	return e, nil
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
