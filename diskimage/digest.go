package diskimage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
)

// digestUser is a sink whose file begins with the whole disk, so that the
// file's SHA-256 begins with the disk's. That is computed once, holes included,
// for all such sinks.
type digestUser interface {
	wantsDigest() bool
	// takeDigest is called before Finish with a hash the sink may go on with:
	// it has been given the disk, of exactly the size Begin was told.
	takeDigest(h hash.Hash)
}

// diskDigest is a Sink that hashes the disk and writes nothing.
type diskDigest struct {
	sum   hash.Hash
	size  int64
	done  int64 // bytes hashed
	users []digestUser
}

// newDiskDigest returns the sink that hashes for those that want it, nil when
// none does.
func newDiskDigest(sinks []Sink) *diskDigest {
	d := &diskDigest{sum: sha256.New()}
	for _, s := range sinks {
		if u, ok := s.(digestUser); ok && u.wantsDigest() {
			d.users = append(d.users, u)
		}
	}
	if len(d.users) == 0 {
		return nil
	}
	return d
}

// Begin implements Sink.
func (d *diskDigest) Begin(size int64) error {
	d.size = size
	return nil
}

// Encode implements Sink.
func (d *diskDigest) Encode(b *Block) (Commit, error) {
	return func(ctx context.Context) error {
		if err := hashZeros(ctx, d.sum, b.Offset-d.done); err != nil {
			return err
		}
		d.sum.Write(b.Data)
		d.done = b.Offset + int64(len(b.Data))
		return nil
	}, nil
}

// Finish implements Sink: it hands the digest out.
func (d *diskDigest) Finish(ctx context.Context) (Result, error) {
	if err := hashZeros(ctx, d.sum, d.size-d.done); err != nil {
		return Result{}, err
	}
	for _, u := range d.users {
		h, err := d.sum.(hash.Cloner).Clone()
		if err != nil {
			return Result{}, fmt.Errorf("copying a SHA-256 state: %w", err)
		}
		u.takeDigest(h)
	}
	return Result{}, nil
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
