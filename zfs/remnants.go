package zfs

import (
	"context"
	"fmt"
	"io"

	"github.com/kldload/kldload/zfs/internal/block"
	"github.com/kldload/kldload/zfs/internal/ondisk"
)

// Remnant is a block of the past that lies in free space.
type Remnant struct {
	// Offset on the device in bytes, of the block or of what it was found in.
	Offset int64
	// Form is lz4, zstd or gzip, and "embedded" for a small block that was kept in
	// a pointer.
	Form string
	// Data is the unpacked block, valid until the call returns; at most 16 MiB.
	Data []byte
	// Partial tells that the rest of it has been written over.
	Partial bool
}

// remnantWindow is the bytes that are read at once; a block that ends behind is
// read again.
const remnantWindow = 4 << 20

// Remnants unpacks the compressed blocks that begin in size bytes at off of the
// device, which [Pool.Unused] gave as free space: contents of files, directories
// and attributes that were deleted or replaced, as far as nothing was written over
// them. Bytes stored without compression are not among them: read those from the
// device. Nor are blocks compressed by lzjb or zle, which nothing tells from
// other bytes, nor encrypted ones.
//
// What looks like a block and is none gives bytes of no meaning; a checksum that
// would tell is in no block itself. The error is one of reading, of ctx, or yield's.
func (p *Pool) Remnants(ctx context.Context, off, size int64, yield func(Remnant) error) error {
	if off < 0 || size < 0 || off > p.size-size {
		return fmt.Errorf("zfs: looking for blocks: %d bytes at %d are not within the device's %d", size, off, p.size)
	}
	w := &remnantWalk{p: p, sector: p.SectorSize(), end: off + size, yield: yield}
	for at := off; at < w.end; {
		if err := ctx.Err(); err != nil {
			return err
		}
		used, err := w.next(at)
		if err != nil {
			return fmt.Errorf("zfs: looking for blocks at %d of the device: %w", at, err)
		}
		at += used
	}
	return nil
}

// remnantWalk goes from sector to sector with a window of the device in memory.
type remnantWalk struct {
	p      *Pool
	sector int
	end    int64
	yield  func(Remnant) error

	window []byte
	base   int64 // of window
	out    []byte
}

// bytesAt gives the bytes from at on, want of them where there are so many.
func (w *remnantWalk) bytesAt(at int64, want int) ([]byte, error) {
	want = int(min(int64(want), w.end-at))
	if skip := at - w.base; skip >= 0 && skip+int64(want) <= int64(len(w.window)) {
		return w.window[skip:], nil
	}
	n := int(min(int64(max(want, remnantWindow)), w.end-at))
	if cap(w.window) < n {
		w.window = make([]byte, n)
	}
	w.window, w.base = w.window[:n], at
	if got, err := w.p.r.ReadAt(w.window, at); got < n {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		w.window = w.window[:0]
		return nil, err
	}
	return w.window, nil
}

// next looks at the sector at at, and tells how many bytes are done with.
func (w *remnantWalk) next(at int64) (int64, error) {
	b, err := w.bytesAt(at, w.sector)
	if err != nil {
		return 0, err
	}
	first := b[:min(w.sector, len(b))]
	if allZero(first) {
		return int64(len(first)), nil
	}
	if n := block.SalvageSize(first); n > len(b) {
		if b, err = w.bytesAt(at, n); err != nil {
			return 0, err
		}
	}
	s, ok := block.Salvage(w.out, b, w.sector/2)
	w.out = s.Data
	if !ok {
		return int64(len(first)), w.embedded(at, first)
	}
	if err := w.yield(Remnant{at, s.Form, s.Data, !s.Whole}); err != nil {
		return 0, err
	}
	sectors := s.Used / w.sector
	if s.Whole {
		sectors = (s.Used + w.sector - 1) / w.sector
	}
	return int64(max(1, sectors) * w.sector), w.embedded(at, s.Data)
}

// embedded goes over the pointers in a block of dnodes or of pointers that hold
// a small block themselves.
func (w *remnantWalk) embedded(at int64, b []byte) error {
	for i := 0; i+ondisk.BlockPtrSize <= len(b); i += dnodeCore {
		bp := (*ondisk.BlockPtr)(b[i : i+ondisk.BlockPtrSize])
		if !bp.IsEmbedded() || !bp.LittleEndian() || bp.EmbeddedType() != 0 || bp.Level() != 0 ||
			bp.PSize() > ondisk.EmbeddedMax || bp.LSize() > ondisk.MaxBlockSize || bp.Type() == ondisk.TypeNone {
			continue
		}
		data, err := unpackEmbedded(bp)
		if err != nil || allZero(data) {
			continue
		}
		if err := w.yield(Remnant{at, "embedded", data, false}); err != nil {
			return err
		}
	}
	return nil
}

// dnodeCore is where the first pointer of a dnode lies, and what pointers are
// aligned to in dnodes and in indirect blocks.
const dnodeCore = 64
