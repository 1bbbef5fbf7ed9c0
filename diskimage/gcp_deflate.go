package diskimage

import (
	"bytes"
	"math/bits"
)

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

// storedEnd is how a stream of deflate.Encoder ends: its last block is an empty
// stored one, of which this is the length and its complement, on a byte (RFC
// 1951, section 3.2.4). Before it are the bits 1 (the last block), 0 0 (stored)
// and up to seven zeros.
const storedEnd = "\x00\x00\xff\xff"

// openEnd turns a whole deflate stream into a piece by clearing the bit of its
// last block; ok is false when p does not end as it should.
func openEnd(p []byte) (piece gcpPiece, ok bool) {
	body, ok := bytes.CutSuffix(p, []byte(storedEnd))
	if !ok {
		return gcpPiece{}, false
	}
	at := len(body) - 1
	for at >= 0 && body[at] == 0 {
		at--
	}
	if at < 0 {
		return gcpPiece{}, false
	}
	last := bits.Len8(body[at]) - 1
	if after := (len(body)-at)*8 - last - 1; after < 2 || after > 9 {
		return gcpPiece{}, false
	}
	end := append(make([]byte, 0, 6), p[at:]...)
	end[0] &^= 1 << last
	return gcpPiece{p[:at], end}, true
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
