package diskimage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"sync"
	"sync/atomic"
)

// digestUser is a sink whose file begins with the whole disk, so that the
// file's SHA-256 begins with the disk's. That is computed once, holes included,
// for all such sinks.
type digestUser interface {
	diskHolder
	wantsDigest() bool
	// takeDigest is called before Finish with a hash the sink may go on with:
	// it has been given the disk, of exactly the size Begin was told.
	takeDigest(h hash.Hash)
}

// diskDigest hashes the disk. A hole of a GiB takes most of a second, in which
// blocks must not be held up: as a worker it only notes where data is, and
// follow reads that back from a target at its own pace.
type diskDigest struct {
	from io.ReaderAt
	size int64
	sum  hash.Hash
	done atomic.Int64 // bytes hashed

	mu    sync.Mutex
	data  []extent // to hash, in order
	last  bool     // no more is to come
	more  chan struct{}
	ended chan struct{} // closed when follow has returned
}

// newDiskDigest returns the worker that hashes for those that want it, nil when
// none does.
func newDiskDigest(sinks []Sink) *diskDigest {
	for _, s := range sinks {
		if u, ok := s.(digestUser); ok && u.wantsDigest() {
			return &diskDigest{from: u.diskTarget(), sum: sha256.New(), more: make(chan struct{}, 1), ended: make(chan struct{})}
		}
	}
	return nil
}

// Begin implements worker.
func (d *diskDigest) Begin(size int64) error {
	d.size = size
	return nil
}

// Encode implements worker.
func (d *diskDigest) Encode(b *Block) (Commit, error) {
	return func(context.Context) error {
		d.note(extent{b.Offset, b.Offset + int64(len(b.Data))})
		return nil
	}, nil
}

// note hands an extent to follow.
func (d *diskDigest) note(x extent) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.data = appendExtent(d.data, x)
	d.wake()
}

// noMore tells follow that all data is noted.
func (d *diskDigest) noMore() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last = true
	d.wake()
}

func (d *diskDigest) wake() {
	select {
	case d.more <- struct{}{}:
	default:
	}
}

// follow hashes what note is told of until the last.
func (d *diskDigest) follow(ctx context.Context, progress func()) error {
	defer close(d.ended)
	buf := make([]byte, 1<<20)
	for last := false; !last; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-d.more:
		}
		var data []extent
		d.mu.Lock()
		data, last, d.data = d.data, d.last, nil
		d.mu.Unlock()
		for _, x := range data {
			if err := d.hash(ctx, x, buf, progress); err != nil {
				return err
			}
		}
	}
	return d.hash(ctx, extent{d.size, d.size}, buf, progress)
}

// hash hashes the hole up to x and the data in it.
func (d *diskDigest) hash(ctx context.Context, x extent, buf []byte, progress func()) error {
	for at := d.done.Load(); at < x.end; d.done.Store(at) {
		var err error
		var n int64
		if at < x.start {
			n = min(16<<20, x.start-at)
			err = hashZeros(ctx, d.sum, n)
		} else {
			n = min(int64(len(buf)), x.end-at)
			if err = readFull(d.from, buf[:n], at); err != nil {
				err = fmt.Errorf("reading back at offset %#x to hash it: %w", at, err)
			}
			d.sum.Write(buf[:n])
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		at += n
		progress()
	}
	return nil
}

// give waits for the digest and hands it to a sink that wants it.
func (d *diskDigest) give(ctx context.Context, s Sink) error {
	u, ok := s.(digestUser)
	if !ok || !u.wantsDigest() {
		return nil
	}
	<-d.ended
	if d.done.Load() < d.size {
		return context.Cause(ctx)
	}
	h, err := d.sum.(hash.Cloner).Clone()
	if err != nil {
		return fmt.Errorf("copying a SHA-256 state: %w", err)
	}
	u.takeDigest(h)
	return nil
}

// hashTarget reads the finished file once and returns its SHA-256 in hex.
func hashTarget(ctx context.Context, t io.ReaderAt, size int64) (string, error) {
	h := sha256.New()
	buf := make([]byte, 1<<20)
	for off := int64(0); off < size; {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		p := buf[:min(int64(len(buf)), size-off)]
		if err := readFull(t, p, off); err != nil {
			return "", fmt.Errorf("reading back at offset %#x: %w", off, err)
		}
		h.Write(p)
		off += int64(len(p))
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// hashZeros feeds h with n zero bytes.
func hashZeros(ctx context.Context, h hash.Hash, n int64) error {
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		k := min(n, int64(len(zeros)))
		h.Write(zeros[:k])
		n -= k
	}
	return nil
}
