package diskimage

import (
	"context"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
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
	t      Target
	opts   RawOptions
	size   int64
	digest hash.Hash // of the whole disk
}

// NewRawWriter returns a sink for a raw file. The target must be a file that
// Truncate can make sparse, not a block device.
func NewRawWriter(t Target, opts RawOptions) *RawWriter {
	return &RawWriter{t: t, opts: opts}
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
// here, out of order.
func (w *RawWriter) Encode(b *Block) (Commit, error) {
	return nil, writeSparse(w.t, b, 0)
}

// writeSparse writes the pages of a block that are not zero to where they are
// on the disk, plus base.
func writeSparse(t io.WriterAt, b *Block, base int64) error {
	for at := 0; at < len(b.Data); {
		end := at
		for end < len(b.Data) && !isZero(b.Data[end:min(end+holeUnit, len(b.Data))]) {
			end = min(end+holeUnit, len(b.Data))
		}
		if end > at {
			if _, err := t.WriteAt(b.Data[at:end], base+b.Offset+int64(at)); err != nil {
				return fmt.Errorf("writing data at offset %#x: %w", base+b.Offset+int64(at), err)
			}
		}
		at = min(end+holeUnit, len(b.Data)) // the unit at end is zero
	}
	return nil
}

// wantsDigest implements digestUser.
func (w *RawWriter) wantsDigest() bool { return !w.opts.NoDigest }

// diskTarget implements diskHolder.
func (w *RawWriter) diskTarget() io.ReaderAt { return w.t }

// takeDigest implements digestUser.
func (w *RawWriter) takeDigest(h hash.Hash) { w.digest = h }

// Finish implements Sink.
func (w *RawWriter) Finish(context.Context) (Result, error) {
	r := Result{Format: Raw, Size: w.size}
	if w.digest != nil {
		r.SHA256 = hex.EncodeToString(w.digest.Sum(nil))
	}
	return r, nil
}
