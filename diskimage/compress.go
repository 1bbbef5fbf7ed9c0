package diskimage

import (
	"bytes"
	"io"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
)

// deflateWindow is the window QEMU inflates with (windowBits -12 in
// block/qcow2-threads.c); a longer distance is unreadable for it.
const deflateWindow = 4096

// compressor is one worker's codecs. The bytes it makes depend on the input
// alone, not on what it compressed before.
//
// For deflate there is one encoder with a custom window in klauspost/compress,
// of the quality of its level 5; on Debian's files its output is 3 % larger
// than zlib's level 6 (what QEMU uses) at three times the speed. The numbered
// levels compress better but have a window of 32 KiB.
type compressor struct {
	flate *flate.Writer
	zstd  map[int]*zstd.Encoder // by size of the input
}

func newCompressor() (*compressor, error) {
	f, err := flate.NewWriterWindow(io.Discard, deflateWindow)
	return &compressor{flate: f, zstd: map[int]*zstd.Encoder{}}, err
}

// compress appends the packed src to dst.
func (c *compressor) compress(dst, src []byte, useZstd bool) ([]byte, error) {
	if useZstd {
		return c.compressZstd(dst, src)
	}
	out := bytes.NewBuffer(dst)
	c.flate.Reset(out)
	if _, err := c.flate.Write(src); err != nil {
		return nil, err
	}
	if err := c.flate.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
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
