package diskimage

import "math/bits"

// crcPolynomial is that of CRC-32 in gzip, bits reversed (RFC 1952, section 8).
const crcPolynomial = 0xedb88320

// crcMultiply multiplies two polynomials over GF(2) modulo the CRC's. The
// highest bit stands for x^0.
func crcMultiply(a, b uint32) uint32 {
	product := uint32(0)
	for ; a != 0; a <<= 1 {
		if a>>31 != 0 {
			product ^= b
		}
		b = b>>1 ^ crcPolynomial&-(b&1)
	}
	return product
}

// crcShift returns x^8n: what a CRC is multiplied with when n more bytes come.
func crcShift(n int64) uint32 {
	result, square := uint32(1<<31), uint32(1<<23) // x^0, x^8
	for ; n > 0; n >>= 1 {
		if n&1 != 0 {
			result = crcMultiply(result, square)
		}
		square = crcMultiply(square, square)
	}
	return result
}

// gcpPiece is one deflated cluster that another can follow: complete blocks,
// none of them final, up to a byte boundary.
type gcpPiece struct {
	body []byte
	end  []byte
}

// emptyStored is what follows the three zero bits of the header of an empty,
// non-final stored block: a length of 0 and its complement (RFC 1951, section
// 3.2.4). The length begins on a byte, so the stream is aligned after it.
var emptyStored = [...]byte{0x00, 0x00, 0xff, 0xff}

// openEnd turns a whole deflate stream into a piece. The encoder of
// klauspost/compress ends each stream with an empty final block of fixed codes:
// the bits 1 (final), 1 0 (fixed) and 0000000 (end of block), then zeros up to
// a byte. An empty stored block that is not final takes that one's place. ok is
// false when p does not end so.
func openEnd(p []byte) (piece gcpPiece, ok bool) {
	last := len(p) - 1
	for last >= 0 && p[last] == 0 {
		last--
	}
	if last < 0 {
		return gcpPiece{}, false
	}
	start := last*8 + bits.Len8(p[last]) - 2 // bit at which the final block begins
	after := len(p)*8 - (start + 10)         // bits that fill the last byte
	if start < 0 || after < 0 || after > 7 || p[start/8]>>(start%8)&1 == 0 {
		return gcpPiece{}, false
	}
	at := start / 8
	end := append(make([]byte, 0, 6), p[at]&(1<<(start%8)-1))
	if start%8 > 5 { // the header's three bits reach into the next byte
		end = append(end, 0)
	}
	return gcpPiece{p[:at], append(end, emptyStored[:]...)}, true
}

// storedPiece is a cluster in stored blocks, each of which can be at
// most 65535 bytes long.
func storedPiece(cluster []byte) gcpPiece {
	body := make([]byte, 0, len(cluster)+16)
	for len(cluster) > 0 {
		n := min(len(cluster), 1<<15)
		body = append(body, 0, byte(n), byte(n>>8), ^byte(n), ^byte(n>>8))
		body = append(body, cluster[:n]...)
		cluster = cluster[n:]
	}
	return gcpPiece{body: body}
}
