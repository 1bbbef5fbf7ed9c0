package diskimage

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"math"
	"os"
	"time"

	"github.com/kldload/kldload/internal/deflate"
)

const (
	// gcpCluster is the unit that is deflated by itself and, when zero, left
	// out: the one of qcow2, so that both can share the work.
	gcpCluster = 64 << 10

	// gcpUnit is what Google wants the disk to be a multiple of.
	gcpUnit = 1 << 30
)

// GCPOptions are the options of NewGCPWriter.
type GCPOptions struct {
	// TempDir is where the deflated data waits for the end of the disk, as
	// long as the output; empty means os.TempDir().
	TempDir string
	// Timestamp is the time of disk.raw and of the gzip header, from 1970 to
	// 2106; zero means 1970.
	Timestamp time.Time
	// NoDigest leaves the SHA-256 out.
	NoDigest bool
}

// GCPWriter is a Sink that writes the archive Google Compute Engine imports: a
// gzipped old GNU tar with one sparse file, disk.raw, of whole GiB. It is one
// gzip member. The layout is described in docs/design/gcp.md.
type GCPWriter struct {
	t     Target
	opts  GCPOptions
	mtime int64
	size  int64 // of disk.raw

	// The sparse map comes before the data in a tar, and is known only after
	// it, so the data's part of the deflate stream waits in a file.
	spool  *os.File
	out    bufferedTarget // to spool
	packed int64          // bytes in it
	stored int64          // bytes of the disk they stand for
	crc    uint32         // of those
	runs   []extent
}

// NewGCPWriter returns a sink for a GCP archive. The options are checked when
// writing begins.
func NewGCPWriter(t Target, opts GCPOptions) *GCPWriter {
	return &GCPWriter{t: t, opts: opts}
}

// packs implements packer.
func (w *GCPWriter) packs() bool { return true }

// Begin implements Sink.
func (w *GCPWriter) Begin(size int64) error {
	if !w.opts.Timestamp.IsZero() {
		w.mtime = w.opts.Timestamp.Unix()
	}
	if w.mtime < 0 || w.mtime > math.MaxUint32 {
		return fmt.Errorf("gcp time stamp %s: want one from 1970 to 2106", w.opts.Timestamp.UTC().Format(time.RFC3339))
	}
	w.size = max(1, ceilDiv(size, gcpUnit)) * gcpUnit
	if err := w.t.Truncate(0); err != nil {
		return fmt.Errorf("emptying gcp target: %w", err)
	}
	var err error
	if w.spool, err = unlinkedTemp(w.opts.TempDir); err != nil {
		return fmt.Errorf("making a spool file for gcp: %w", err)
	}
	w.out.t = w.spool
	return nil
}

// unlinkedTemp makes a file in dir that has no name, so that it goes away with
// whoever holds it.
func unlinkedTemp(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "diskimage-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Encode implements Sink.
func (w *GCPWriter) Encode(b *Block) (Commit, error) {
	clusters, err := b.compressed(packing{size: gcpCluster})
	if err != nil {
		return nil, err
	}
	pieces := make([]gcpPiece, len(clusters))
	crc, length := uint32(0), int64(0)
	for i, p := range clusters {
		if p == nil {
			continue
		}
		cluster := b.buf[i*gcpCluster : (i+1)*gcpCluster]
		crc = crc32.Update(crc, crc32.IEEETable, cluster)
		length += gcpCluster
		piece, ok := openEnd(p)
		if len(p) == gcpCluster || !ok {
			piece = storedPiece(cluster)
		}
		pieces[i] = piece
	}
	shift := crcShift(length)
	return func(context.Context) error {
		w.crc = crcMultiply(w.crc, shift) ^ crc
		w.stored += length
		return w.commit(b.Offset, pieces)
	}, nil
}

// commit appends the pieces to the spool and their places to the map.
func (w *GCPWriter) commit(off int64, pieces []gcpPiece) error {
	for i, p := range pieces {
		if p.body == nil {
			continue
		}
		for _, part := range [2][]byte{p.body, p.end} {
			if err := w.out.write(part, w.packed); err != nil {
				return fmt.Errorf("gcp spool: %w", err)
			}
			w.packed += int64(len(part))
		}
		start := off + int64(i)*gcpCluster
		if n := len(w.runs); n > 0 && w.runs[n-1].end == start {
			w.runs[n-1].end += gcpCluster
		} else {
			w.runs = append(w.runs, extent{start, start + gcpCluster})
		}
	}
	return nil
}

// gcpOutput writes to a target from its start and hashes what it writes.
type gcpOutput struct {
	t   Target
	h   hash.Hash // nil for no digest
	off int64
}

func (o *gcpOutput) Write(p []byte) (int, error) {
	n, err := o.t.WriteAt(p, o.off)
	if err != nil {
		return n, fmt.Errorf("writing %d bytes at offset %#x: %w", len(p), o.off, err)
	}
	if o.h != nil {
		o.h.Write(p)
	}
	o.off += int64(n)
	return n, nil
}

// Finish implements Sink: it joins the tar's head, the spool and the tar's end.
func (w *GCPWriter) Finish(ctx context.Context) (Result, error) {
	r, err := w.join(ctx)
	if err := errors.Join(err, w.release()); err != nil {
		return Result{}, err
	}
	return r, nil
}

// release implements releaser: it frees the spool.
func (w *GCPWriter) release() error {
	if w.spool == nil {
		return nil
	}
	f := w.spool
	w.spool, w.out = nil, bufferedTarget{}
	return f.Close()
}

func (w *GCPWriter) join(ctx context.Context) (Result, error) {
	if err := w.out.flush(); err != nil {
		return Result{}, fmt.Errorf("gcp spool: %w", err)
	}
	to := &gcpOutput{t: w.t}
	if !w.opts.NoDigest {
		to.h = sha256.New()
	}
	out := bufio.NewWriterSize(to, writeBuffer)
	if err := w.writeStream(ctx, out); err != nil {
		return Result{}, err
	}
	if err := out.Flush(); err != nil {
		return Result{}, err
	}
	r := Result{Format: GCP, Size: to.off}
	if to.h != nil {
		r.SHA256 = hex.EncodeToString(to.h.Sum(nil))
	}
	return r, nil
}

// writeStream writes the one gzip member (RFC 1952, section 2.3): its header,
// the parts of the deflate stream, CRC-32 and length.
func (w *GCPWriter) writeStream(ctx context.Context, out io.Writer) error {
	magic := [10]byte{0: 0x1f, 1: 0x8b, 2: 8, 9: 255} // deflate, no name, OS unknown
	binary.LittleEndian.PutUint32(magic[4:], uint32(w.mtime))
	if _, err := out.Write(magic[:]); err != nil {
		return err
	}
	head := gcpHead{out: out}
	buf := bufio.NewWriterSize(&head, gcpCluster)
	if err := writeTarHead(buf, w.runs, w.size, w.mtime); err != nil {
		return err
	}
	if err := buf.Flush(); err != nil {
		return err
	}
	if err := w.copySpool(ctx, out); err != nil {
		return err
	}
	total := head.n + w.stored
	end := make([]byte, ceilDiv(total+2*tarBlock, tarRecord)*tarRecord-total) // two zero blocks end a tar
	total += int64(len(end))
	sum := crcMultiply(head.crc, crcShift(w.stored)) ^ w.crc
	tail := head.codec.Append(nil, end)
	tail = binary.LittleEndian.AppendUint32(tail, crc32.Update(sum, crc32.IEEETable, end))
	_, err := out.Write(binary.LittleEndian.AppendUint32(tail, uint32(total)))
	return err
}

// gcpHead deflates the tar's head piece by piece, up to gcpCluster in each.
type gcpHead struct {
	out   io.Writer
	codec deflate.Encoder
	n     int64 // bytes taken
	crc   uint32
}

func (h *gcpHead) Write(p []byte) (int, error) {
	h.n += int64(len(p))
	h.crc = crc32.Update(h.crc, crc32.IEEETable, p)
	piece, ok := openEnd(h.codec.Append(nil, p))
	if !ok {
		piece = storedPiece(p)
	}
	if _, err := h.out.Write(piece.body); err != nil {
		return 0, err
	}
	if _, err := h.out.Write(piece.end); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (w *GCPWriter) copySpool(ctx context.Context, out io.Writer) error {
	buf := make([]byte, writeBuffer)
	for off := int64(0); off < w.packed; {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := buf[:min(int64(len(buf)), w.packed-off)]
		if err := readFull(w.spool, p, off); err != nil {
			return fmt.Errorf("reading gcp spool at offset %#x: %w", off, err)
		}
		if _, err := out.Write(p); err != nil {
			return err
		}
		off += int64(len(p))
	}
	return nil
}
