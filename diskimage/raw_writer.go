package diskimage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
)

// holeUnit is the size of the smallest hole left in a raw file, the page of
// every common file system.
const holeUnit = 4096

// RawOptions are the options of NewRawWriter.
type RawOptions struct {
	// NoDigest leaves the SHA-256 out. Unlike other formats' it is computed
	// over the whole disk size, holes included, about 0.7 s for each GiB.
	NoDigest bool
}

// RawWriter is a Sink that writes a sparse raw file.
type RawWriter struct {
	t    Target
	size int64
	sum  hash.Hash // nil without a digest
	done int64     // bytes hashed
}

// NewRawWriter returns a sink for a raw file. The target must be a file that
// Truncate can make sparse, not a block device.
func NewRawWriter(t Target, opts RawOptions) *RawWriter {
	w := &RawWriter{t: t}
	if !opts.NoDigest {
		w.sum = sha256.New()
	}
	return w
}

// Begin implements Sink.
func (w *RawWriter) Begin(size int64) error {
	w.size = size
	if err := w.t.Truncate(0); err != nil {
		return fmt.Errorf("emptying raw target: %w", err)
	}
	if err := w.t.Truncate(size); err != nil {
		return fmt.Errorf("sizing raw target to %d bytes: %w", size, err)
	}
	return nil
}

// Encode implements Sink. The place of a block is known, so it is written
// here, out of order; what is left for later is hashing.
func (w *RawWriter) Encode(b *Block) (Commit, error) {
	for at := 0; at < len(b.Data); {
		end := at
		for end < len(b.Data) && !isZero(b.Data[end:min(end+holeUnit, len(b.Data))]) {
			end = min(end+holeUnit, len(b.Data))
		}
		if end > at {
			if _, err := w.t.WriteAt(b.Data[at:end], b.Offset+int64(at)); err != nil {
				return nil, fmt.Errorf("writing raw data at offset %#x: %w", b.Offset+int64(at), err)
			}
		}
		at = min(end+holeUnit, len(b.Data)) // the unit at end is zero
	}
	if w.sum == nil {
		return nil, nil
	}
	return func(ctx context.Context) error { return w.hash(ctx, b) }, nil
}

func (w *RawWriter) hash(ctx context.Context, b *Block) error {
	if err := hashZeros(ctx, w.sum, b.Offset-w.done); err != nil {
		return err
	}
	w.sum.Write(b.Data)
	w.done = b.Offset + int64(len(b.Data))
	return nil
}

// Finish implements Sink.
func (w *RawWriter) Finish(ctx context.Context) (Result, error) {
	r := Result{Format: Raw, Size: w.size}
	if w.sum == nil {
		return r, nil
	}
	if err := hashZeros(ctx, w.sum, w.size-w.done); err != nil {
		return Result{}, err
	}
	r.SHA256 = hex.EncodeToString(w.sum.Sum(nil))
	return r, nil
}
