package diskimage

import (
	"context"
	"errors"
	"io"
	"sync"
)

// WriteOptions are the options of Write.
type WriteOptions struct {
	// Jobs is the number of goroutines that read and compress; 0 means one
	// for each processor. It has no influence on the output.
	Jobs int
	// Progress, when set, is told how much of the work is done, in bytes of
	// the disk. Calls come one at a time and never go back; the last one,
	// with done == total, comes when the outputs are complete.
	Progress func(done, total int64)
}

// Write reads d once, from start to end and leaving out its holes, and feeds
// every sink. The results are in the order of the sinks. After an error, or
// when ctx is cancelled, the targets hold unusable parts of images.
func Write(ctx context.Context, d Disk, opts WriteOptions, sinks ...Sink) ([]Result, error) {
	defer release(sinks)
	if len(sinks) == 0 {
		return nil, errors.New("writing a disk: no sink given")
	}
	p, err := newPass(d, opts, sinks)
	if err != nil {
		return nil, err
	}
	return p.run(ctx)
}

// release frees what sinks still hold after an error, which is the one to tell.
func release(sinks []Sink) {
	for _, s := range sinks {
		if r, ok := s.(releaser); ok {
			_ = r.release()
		}
	}
}

// packer is a Sink that compresses, which takes many times as long as writing.
type packer interface {
	packs() bool
}

// diskHolder is a Sink whose file may begin with the whole disk.
type diskHolder interface {
	// diskTarget holds the disk from its first byte on, or is nil. When
	// Encode returns, the block is there.
	diskTarget() io.ReaderAt
}

// pass is one Write. When a sink holds the disk as it is, such as a raw file,
// there are two stages: the disk is read for all sinks that only write, and
// those that compress read that sink's file. So the disk's digest, which can
// only be made from its start to its end, is made while the rest compresses.
type pass struct {
	size     int64
	sinks    []Sink
	results  []Result
	digest   *diskDigest   // nil when nobody wants one
	identity *diskIdentity // likewise
	stages   []stage

	progress  func(done, total int64)
	reporting sync.Mutex
	reported  int64
}

// stage is an engine and the indices of the sinks it feeds.
type stage struct {
	*engine
	sinks []int
}

func newPass(d Disk, opts WriteOptions, sinks []Sink) (*pass, error) {
	p := &pass{size: d.Size(), sinks: sinks, results: make([]Result, len(sinks)), progress: opts.Progress,
		digest: newDiskDigest(sinks), identity: newDiskIdentity(sinks)}
	first, second, held := split(sinks)
	var written *writtenDisk
	var helpers []worker
	if len(second) > 0 {
		written = &writtenDisk{ReaderAt: held, size: p.size}
		helpers = append(helpers, written)
	}
	if p.digest != nil {
		helpers = append(helpers, p.digest)
	}
	if p.identity != nil {
		helpers = append(helpers, p.identity)
	}
	if err := p.add(d, opts, first, helpers); err != nil {
		return nil, err
	}
	if len(second) > 0 {
		return p, p.add(written, opts, second, nil)
	}
	return p, nil
}

// split returns the indices of the sinks of each stage, and what the second
// one reads.
func split(sinks []Sink) (first, second []int, held io.ReaderAt) {
	for i, s := range sinks {
		if h, ok := s.(diskHolder); ok && held == nil {
			held = h.diskTarget()
		}
		if p, ok := s.(packer); ok && p.packs() {
			second = append(second, i)
		} else {
			first = append(first, i)
		}
	}
	if held == nil {
		return append(first, second...), nil, nil
	}
	return first, second, held
}

// add adds a stage that reads d.
func (p *pass) add(d Disk, opts WriteOptions, sinks []int, helpers []worker) error {
	var workers []worker
	for _, i := range sinks {
		workers = append(workers, p.sinks[i])
	}
	e, err := newEngine(d, opts.Jobs, append(workers, helpers...))
	if err != nil {
		return err
	}
	e.report = p.report
	p.stages = append(p.stages, stage{e, sinks})
	return nil
}

// run runs the stages one after the other. The sinks of a stage finish while
// the next one runs.
func (p *pass) run(ctx context.Context) ([]Result, error) {
	for _, s := range p.stages {
		for _, w := range s.workers {
			if err := w.Begin(p.size); err != nil {
				return nil, err
			}
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup // no target is touched once Write has returned
	start := func(work func() error) {
		wg.Go(func() {
			if err := work(); err != nil {
				cancel(err)
			}
		})
	}
	if p.digest != nil {
		start(func() error { return p.digest.follow(ctx, p.report) })
	}
	for n, s := range p.stages {
		if err := s.run(ctx); err != nil {
			cancel(err)
			break
		}
		if n == 0 {
			p.give()
		}
		for _, i := range s.sinks {
			start(func() error { return p.finish(ctx, i) })
		}
	}
	wg.Wait()
	err := context.Cause(ctx)
	cancel(nil)
	if err != nil {
		return nil, err
	}
	if p.progress != nil {
		p.progress(p.size, p.size)
	}
	return p.results, nil
}

// give tells the helpers that they have seen the whole disk.
func (p *pass) give() {
	if p.digest != nil {
		p.digest.noMore()
	}
	if p.identity != nil {
		p.identity.give()
	}
}

// finish finishes a sink, when its digest is there.
func (p *pass) finish(ctx context.Context, i int) (err error) {
	if p.digest != nil {
		if err := p.digest.give(ctx, p.sinks[i]); err != nil {
			return err
		}
	}
	p.results[i], err = p.sinks[i].Finish(ctx)
	return err
}

// report tells the caller how far all is. Of two stages the first, which only
// writes, counts for an eighth.
func (p *pass) report() {
	if p.progress == nil {
		return
	}
	p.reporting.Lock()
	defer p.reporting.Unlock()
	done := p.stages[0].committed.Load()
	if len(p.stages) > 1 {
		done = done/8 + p.stages[1].committed.Load()/8*7
	}
	if p.digest != nil {
		done = min(done, p.digest.done.Load())
	}
	if done > p.reported {
		p.reported = done
		p.progress(done, p.size)
	}
}

// writtenDisk is a disk that a sink of the first stage has written, whose data
// is where blocks were.
type writtenDisk struct {
	io.ReaderAt
	size int64
	data []extent
}

// Begin implements worker.
func (d *writtenDisk) Begin(int64) error { return nil }

// Encode implements worker.
func (d *writtenDisk) Encode(b *Block) (Commit, error) {
	return func(context.Context) error {
		d.data = appendExtent(d.data, extent{b.Offset, b.Offset + int64(len(b.Data))})
		return nil
	}, nil
}

// Size implements Disk.
func (d *writtenDisk) Size() int64 { return d.size }

// NextData implements Disk.
func (d *writtenDisk) NextData(off int64) (start, end int64, err error) {
	for len(d.data) > 0 && d.data[0].end <= off {
		d.data = d.data[1:] // the stage goes over the disk once
	}
	if len(d.data) == 0 {
		return d.size, d.size, nil
	}
	return max(off, d.data[0].start), d.data[0].end, nil
}
