package block

import (
	"encoding/binary"
	"fmt"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/kldload/kldload/zfs/internal/ondisk"
)

// Method is a compression with its level; the level is zstd's.
type Method struct {
	Compression ondisk.Compression
	Level       int // 1 to 19, for zstd
}

// zstdVersion is libzstd's in OpenZFS 2.1 and later, as its headers carry it:
// 1.4.5.
const zstdVersion = 10405

// An Encoder compresses blocks. It is not safe for concurrent use.
type Encoder struct {
	lz4  lz4.Compressor
	zstd map[zstd.EncoderLevel]*zstd.Encoder
}

// Compress appends src's compressed form to dst[:0] and returns it, framed as
// the pool wants it and not padded; nil when it does not save an eighth, which
// is OpenZFS's bound (zio_compress_data).
func (e *Encoder) Compress(dst, src []byte, m Method) ([]byte, error) {
	limit := len(src) - len(src)/8
	switch m.Compression {
	case ondisk.CompressOff:
		return nil, nil
	case ondisk.CompressLZ4:
		return e.compressLZ4(dst, src, limit)
	case ondisk.CompressZSTD:
		return e.compressZSTD(dst, src, limit, m.Level)
	}
	return nil, fmt.Errorf("compressing with %v: want off, lz4 or zstd", m.Compression)
}

// lz4's frame is the length, big-endian, and the block.
func (e *Encoder) compressLZ4(dst, src []byte, limit int) ([]byte, error) {
	if limit <= 4 {
		return nil, nil
	}
	dst = grow(dst, limit)
	n, err := e.lz4.CompressBlock(src, dst[4:limit])
	if err != nil || n == 0 { // an error here is a destination that is too small
		return nil, nil
	}
	binary.BigEndian.PutUint32(dst, uint32(n))
	return dst[:4+n], nil
}

// zstd's frame is the length, a word of version and level, and the zstd frame
// without its magic number (zfs_zstdhdr_t). Blocks that lz4 finds nothing in
// are not tried, as OpenZFS 2.2 does (zstd early abort).
func (e *Encoder) compressZSTD(dst, src []byte, limit, level int) ([]byte, error) {
	if limit <= 8 {
		return nil, nil
	}
	dst = grow(dst, len(src)+64)
	if n, err := e.lz4.CompressBlock(src, dst[:len(src)-len(src)/64]); err != nil || n == 0 {
		return nil, nil
	}
	enc, err := e.zstdEncoder(level)
	if err != nil {
		return nil, err
	}
	const magic = 4
	frame := enc.EncodeAll(src, dst[:4]) // the magic's place is the header's second word
	if len(frame)-4-magic+8 > limit {
		return nil, nil
	}
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-8))
	binary.BigEndian.PutUint32(frame[4:], uint32(zstdVersion)|uint32(level)<<24)
	return frame, nil
}

func (e *Encoder) zstdEncoder(level int) (*zstd.Encoder, error) {
	l := zstd.EncoderLevelFromZstd(level)
	if enc := e.zstd[l]; enc != nil {
		return enc, nil
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(l), zstd.WithEncoderCRC(false), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("preparing zstd level %d: %w", level, err)
	}
	if e.zstd == nil {
		e.zstd = map[zstd.EncoderLevel]*zstd.Encoder{}
	}
	e.zstd[l] = enc
	return enc, nil
}

func grow(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}

// Fletcher4 sums b, whose length is a multiple of 4.
func Fletcher4(p []byte) (sum [4]uint64) {
	var a, b, c, d uint64
	for len(p) >= 16 {
		w, x := binary.LittleEndian.Uint64(p), binary.LittleEndian.Uint64(p[8:])
		a += w & 0xffffffff
		b += a
		c += b
		d += c
		a += w >> 32
		b += a
		c += b
		d += c
		a += x & 0xffffffff
		b += a
		c += b
		d += c
		a += x >> 32
		b += a
		c += b
		d += c
		p = p[16:]
	}
	for ; len(p) >= 4; p = p[4:] {
		a += uint64(binary.LittleEndian.Uint32(p))
		b += a
		c += b
		d += c
	}
	return [4]uint64{a, b, c, d}
}
