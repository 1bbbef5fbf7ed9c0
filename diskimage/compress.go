package diskimage

import (
	"bytes"

	"github.com/klauspost/compress/zstd"

	"github.com/kldload/kldload/internal/deflate"
)

// compressor is one worker's codecs. The bytes it makes depend on the input
// alone, not on what it compressed before. Deflate streams have a window of
// 4 KiB, which is what QEMU inflates with (windowBits -12 in
// block/qcow2-threads.c); a longer distance may be unreadable for it.
type compressor struct {
	deflate deflate.Encoder
	zstd    map[int]*zstd.Encoder // by size of the input
}

func newCompressor() *compressor { return &compressor{zstd: map[int]*zstd.Encoder{}} }

// compress appends the packed src to dst.
func (c *compressor) compress(dst, src []byte, useZstd bool) ([]byte, error) {
	if useZstd {
		return c.compressZstd(dst, src)
	}
	return c.deflate.Append(dst, src), nil
}

func (c *compressor) compressZstd(dst, src []byte) ([]byte, error) {
	z := c.zstd[len(src)]
	if z == nil {
		var err error
		z, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false),
			zstd.WithWindowSize(max(zstd.MinWindowSize, len(src))), zstd.WithEncoderLevel(zstd.SpeedDefault))
		if err != nil {
			return nil, err
		}
		c.zstd[len(src)] = z
	}
	return z.EncodeAll(src, dst), nil
}

var zeros [64 << 10]byte

// isZero tells whether p holds nothing but zeros.
func isZero(p []byte) bool {
	for len(p) > len(zeros) {
		if !bytes.Equal(p[:len(zeros)], zeros[:]) {
			return false
		}
		p = p[len(zeros):]
	}
	return bytes.Equal(p, zeros[:len(p)])
}
