package scan

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
)

// bytesOf is the bytes of a volume on its disk.
type bytesOf struct {
	r          io.ReaderAt
	base, size int64
}

func (b *bytesOf) readFull(p []byte, off int64) error {
	n, err := b.r.ReadAt(p, b.base+off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("reading %d bytes at %d: %w", len(p), off, err)
}

// dataFinder is what disk images say of their holes (diskimage.Disk).
type dataFinder interface {
	NextData(off int64) (start, end int64, err error)
}

// nextData finds the first run of [off, end) that may not be all zeros; an empty one at
// end where there is none.
func (b *bytesOf) nextData(off, end int64) (start, stop int64, err error) {
	d, ok := b.r.(dataFinder)
	if !ok {
		return off, end, nil
	}
	start, stop, err = d.NextData(b.base + off)
	if err == io.EOF || err == nil && stop <= b.base+off {
		return end, end, nil
	}
	if err != nil {
		return 0, 0, fmt.Errorf("finding data behind %d: %w", off, err)
	}
	start, stop = max(start-b.base, off), min(stop-b.base, end)
	if start >= stop {
		return end, end, nil
	}
	return start, stop, nil
}

var zeroPiece [piece]byte

func zeros(b []byte) bool { return bytes.Equal(b, zeroPiece[:len(b)]) }

// crew does pieces of work on a few goroutines.
type crew struct {
	work chan func()
	wg   sync.WaitGroup
	ctx  context.Context
}

// newCrew starts it; the context ends with the given one.
func newCrew(ctx context.Context, workers int) (*crew, context.Context) {
	c := &crew{work: make(chan func(), 4*workers), ctx: ctx}
	for range workers {
		c.wg.Go(func() {
			for f := range c.work {
				if ctx.Err() == nil {
					f()
				}
			}
		})
	}
	return c, ctx
}

// do hands over a piece of work, and waits for a place in the queue.
func (c *crew) do(f func()) {
	select {
	case c.work <- f:
	case <-c.ctx.Done():
	}
}

// wait ends the crew when all is done.
func (c *crew) wait() error {
	close(c.work)
	c.wg.Wait()
	return c.ctx.Err()
}
