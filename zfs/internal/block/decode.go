package block

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/kldload/kldload/zfs/internal/ondisk"
)

// Decode unpacks a block as stored, src, into dst, whose length is the block's
// size (the pointer's LSize). src may have padding behind the packed bytes where
// the form tells its own length. The payload of an embedded pointer has the
// same form. src is not changed and not kept.
//
// It is an error when src is damaged or gives another number of bytes; dst then
// holds rubbish.
func Decode(dst, src []byte, c ondisk.Compression) error {
	if err := decode(dst, src, c); err != nil {
		return fmt.Errorf("unpacking %d bytes of %s into %d: %w", len(src), c, len(dst), err)
	}
	return nil
}

func decode(dst, src []byte, c ondisk.Compression) error {
	switch {
	case c == ondisk.CompressOff:
		if len(src) != len(dst) {
			return errors.New("the sizes differ")
		}
		copy(dst, src)
		return nil
	case c == ondisk.CompressLZ4:
		return decodeLZ4(dst, src)
	case c == ondisk.CompressZSTD:
		return decodeZstd(dst, src)
	case c == ondisk.CompressLZJB:
		return decodeLZJB(dst, src)
	case c == ondisk.CompressZLE:
		return decodeZLE(dst, src)
	case c >= ondisk.CompressGzip1 && c <= ondisk.CompressGzip9:
		return decodeGzip(dst, src)
	case c == ondisk.CompressEmpty:
		clear(dst)
		return nil
	}
	return errors.New("no block is stored so")
}

// framed cuts what a big-endian length at the start of src speaks for
// (lz4_zfs.c, zfs_zstd.c); head is the size of the whole header.
func framed(src []byte, head int) ([]byte, error) {
	if len(src) < head {
		return nil, fmt.Errorf("no room for a header of %d bytes", head)
	}
	n := binary.BigEndian.Uint32(src)
	if uint64(n) > uint64(len(src)-head) {
		return nil, fmt.Errorf("its length is %d, behind the header are %d", n, len(src)-head)
	}
	return src[head : head+int(n)], nil
}

func decodeLZ4(dst, src []byte) error {
	packed, err := framed(src, 4)
	if err != nil {
		return err
	}
	n, err := lz4.UncompressBlock(packed, dst)
	if err != nil {
		return err
	}
	return whole(dst, n)
}

// whole says that a block gave all of its n bytes.
func whole(dst []byte, n int) error {
	if n != len(dst) {
		return fmt.Errorf("it has %d", n)
	}
	return nil
}

const (
	zstdHead  = 8          // length; level and version of the library
	zstdMagic = 0xFD2FB528 // of a frame (RFC 8878), left out on disk
)

var zstdDecoder = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(2*ondisk.MaxBlockSize),
		zstd.WithDecoderMaxWindow(2*ondisk.MaxBlockSize), zstd.WithDecodeAllCapLimit(true))
})

func decodeZstd(dst, src []byte) error {
	packed, err := framed(src, zstdHead)
	if err != nil {
		return err
	}
	d, err := zstdDecoder()
	if err != nil {
		return err
	}
	frame := binary.LittleEndian.AppendUint32(make([]byte, 0, 4+len(packed)), zstdMagic)
	out, err := d.DecodeAll(append(frame, packed...), dst[:0:len(dst)])
	if err != nil {
		return err
	}
	return whole(dst, len(out))
}

// decodeGzip reads what ZFS calls gzip: a zlib stream (RFC 1950), padded.
func decodeGzip(dst, src []byte) error {
	z, err := zlib.NewReader(bytes.NewReader(src))
	if err != nil {
		return err
	}
	if n, err := io.ReadFull(z, dst); err != nil {
		return errors.Join(whole(dst, n), err)
	}
	switch n, err := z.Read(make([]byte, 1)); { // the sum behind the data
	case n != 0:
		return errors.New("it has more")
	case err != io.EOF:
		return err
	}
	return nil
}

const (
	lzjbMatchBits = 6 // of the length; the rest of 16 is the distance
	lzjbMatchMin  = 3
	lzjbDistance  = 1<<(16-lzjbMatchBits) - 1
)

// decodeLZJB reads groups of a byte of flags and eight items: a literal, or a
// length and a distance back, in two bytes (lzjb.c).
func decodeLZJB(dst, src []byte) error {
	out, in := 0, 0
	for out < len(dst) {
		if in >= len(src) {
			return fmt.Errorf("it ends after %d", out)
		}
		flags := src[in]
		in++
		for bit := 0; bit < 8 && out < len(dst); bit++ {
			if flags>>bit&1 == 0 {
				if in >= len(src) {
					return fmt.Errorf("it ends after %d", out)
				}
				dst[out] = src[in]
				out, in = out+1, in+1
				continue
			}
			if in+2 > len(src) {
				return fmt.Errorf("it ends after %d", out)
			}
			word := int(src[in])<<8 | int(src[in+1])
			in += 2
			back := word & lzjbDistance
			if back == 0 || back > out {
				return fmt.Errorf("at %d it goes back by %d", out, back)
			}
			for n := word>>(16-lzjbMatchBits) + lzjbMatchMin; n > 0 && out < len(dst); n-- {
				dst[out] = dst[out-back]
				out++
			}
		}
	}
	return nil
}

// zleLevel is the longest run of literals (zio_compress_table of zio_compress.c).
const zleLevel = 64

// decodeZLE reads runs: a byte up to 63 announces as many literals and one, a
// greater one zeros (zle.c).
func decodeZLE(dst, src []byte) error {
	out, in := 0, 0
	for in < len(src) && out < len(dst) {
		n := int(src[in]) + 1
		in++
		literal := n <= zleLevel
		if !literal {
			n -= zleLevel
		}
		if n > len(dst)-out || literal && n > len(src)-in {
			return fmt.Errorf("a run of %d at %d", n, out)
		}
		if literal {
			copy(dst[out:out+n], src[in:])
			in += n
		} else {
			clear(dst[out : out+n])
		}
		out += n
	}
	return whole(dst, out)
}
