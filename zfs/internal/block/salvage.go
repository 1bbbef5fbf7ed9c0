package block

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/kldload/kldload/zfs/internal/ondisk"
)

// Salvaged is what was made of bytes that a compressed block may begin at.
type Salvaged struct {
	Data []byte
	// Form is lz4, zstd or gzip.
	Form string
	// Used is the bytes that were taken, with the header.
	Used int
	// Whole tells that all of the block was there.
	Whole bool
}

// SalvageSize is how many bytes Salvage can make use of where src are the first
// of them.
func SalvageSize(src []byte) int {
	switch {
	case len(src) < 16:
		return 0
	case src[0] == 0:
		return min(zstdHead+int(binary.BigEndian.Uint32(src)), ondisk.MaxBlockSize)
	case src[0] == 0x78 && binary.BigEndian.Uint16(src)%31 == 0:
		return 1 << 20
	}
	return 0
}

// Salvage unpacks a block that nothing points to any more, as far as it has not
// been written over: src begins with its header, and may end before the block
// does. ok is false where no compressed block begins, or less of one is left
// than least bytes of src. Data is in dst's memory where that suffices, and has
// at most 16 MiB.
//
// Known are the forms with a header: lz4, zstd and gzip. lzjb and zle begin with
// the data.
func Salvage(dst, src []byte, least int) (s Salvaged, ok bool) {
	if len(src) < 16 {
		return s, false
	}
	if src[0] == 0x78 && binary.BigEndian.Uint16(src)%31 == 0 { // RFC 1950, section 2.2
		s = salvageGzip(dst, src)
		return s, s.Whole || len(s.Data) >= least
	}
	n := int(binary.BigEndian.Uint32(src))
	if src[0] != 0 || n < 8 {
		return s, false
	}
	if v := binary.BigEndian.Uint32(src[4:]) & (1<<24 - 1); v > 10000 && v < 20000 { // ZSTD_VERSION_NUMBER, behind the level
		if s, ok = salvageZstd(dst, src, n, least); ok {
			return s, true
		}
	}
	packed := src[4:min(len(src), 4+n)]
	data, used := unpackLZ4(dst[:0], packed)
	s = Salvaged{data, "lz4", 4 + used, used == n}
	if s.Whole {
		return s, len(data)%ondisk.SectorSize == 0 && len(data) > n
	}
	return s, s.Used >= least && len(data) > used
}

// unpackLZ4 appends what a block of LZ4 says until it ends or makes no sense,
// and tells how many bytes of it were good. The library's decoder does not say
// what it had before an error, which is what counts here.
// Format: https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md
func unpackLZ4(out, in []byte) ([]byte, int) {
	at := 0
	length := func(n int) (int, bool) { // 15 goes on in bytes, until one is not 255
		if n < 15 {
			return n, true
		}
		for at < len(in) && n < ondisk.MaxBlockSize {
			b := in[at]
			at++
			if n += int(b); b != 255 {
				return n, true
			}
		}
		return 0, false
	}
	for good := 0; ; good = at {
		if at >= len(in) {
			return out, good
		}
		token := in[at]
		at++
		literals, ok := length(int(token >> 4))
		if !ok || len(out)+literals > ondisk.MaxBlockSize {
			return out, good
		}
		out = append(out, in[at:min(at+literals, len(in))]...)
		if at += literals; at >= len(in) {
			return out, len(in)
		}
		if at+2 > len(in) {
			return out, good
		}
		back := int(binary.LittleEndian.Uint16(in[at:]))
		at += 2
		match, ok := length(int(token & 15))
		if match += 4; !ok || back == 0 || back > len(out) || len(out)+match > ondisk.MaxBlockSize {
			return out, good
		}
		for match > 0 {
			n := min(match, back)
			out = append(out, out[len(out)-back:len(out)-back+n]...)
			match -= n
		}
	}
}

func salvageZstd(dst, src []byte, n, least int) (Salvaged, bool) {
	frame := io.MultiReader(bytes.NewReader(binary.LittleEndian.AppendUint32(nil, zstdMagic)),
		bytes.NewReader(src[zstdHead:min(len(src), zstdHead+n)]))
	d, err := zstd.NewReader(frame, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(2*ondisk.MaxBlockSize), zstd.WithDecoderMaxWindow(2*ondisk.MaxBlockSize))
	if err != nil {
		return Salvaged{}, false
	}
	defer d.Close()
	data, err := readUpTo(dst, d)
	s := Salvaged{data, "zstd", min(len(src), zstdHead+n), err == nil}
	if !s.Whole { // where it broke is not known
		s.Used = least
	}
	return s, len(data) >= ondisk.SectorSize
}

func salvageGzip(dst, src []byte) Salvaged {
	in := bytes.NewReader(src)
	z, err := zlib.NewReader(in)
	if err != nil {
		return Salvaged{}
	}
	data, err := readUpTo(dst, z)
	return Salvaged{data, "gzip", len(src) - in.Len(), err == nil && len(data)%ondisk.SectorSize == 0 && len(data) > 0}
}

// readUpTo reads at most the largest block into dst.
func readUpTo(dst []byte, r io.Reader) ([]byte, error) {
	b := bytes.NewBuffer(dst[:0])
	_, err := io.Copy(b, io.LimitReader(r, ondisk.MaxBlockSize))
	return b.Bytes(), err
}
