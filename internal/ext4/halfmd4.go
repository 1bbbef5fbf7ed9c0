package ext4

import "math/bits"

// nameHash is the half-MD4 directory hash with signed characters, as x86 kernels
// compute it (fs/ext4/hash.c). The superblock says "signed", so that kernels of
// other machines do the same.
func nameHash(name string, seed *[4]uint32) uint32 {
	buf := [4]uint32{0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476}
	if *seed != ([4]uint32{}) {
		buf = *seed
	}
	for p := name; len(p) > 0; p = p[min(32, len(p)):] {
		var in [8]uint32
		hashWords(p, &in)
		halfMD4(&buf, &in)
	}
	const eof = 1<<31 - 1
	h := buf[1] &^ 1
	if h == eof<<1 {
		h = (eof - 1) << 1
	}
	return h
}

// hashWords packs up to 32 bytes into words, padded with the length; it is
// str2hashbuf_signed.
func hashWords(p string, out *[8]uint32) {
	pad := uint32(len(p))
	pad |= pad << 8
	pad |= pad << 16
	n, val := 0, pad
	for i := range min(len(p), 32) {
		val = uint32(int32(int8(p[i]))) + val<<8
		if i%4 == 3 {
			out[n] = val
			n++
			val = pad
		}
	}
	for ; n < len(out); n++ {
		out[n] = val
		val = pad
	}
}

func halfMD4(buf *[4]uint32, in *[8]uint32) {
	f := func(x, y, z uint32) uint32 { return z ^ x&(y^z) }
	g := func(x, y, z uint32) uint32 { return x&y + (x^y)&z }
	h := func(x, y, z uint32) uint32 { return x ^ y ^ z }
	rounds := [3]struct {
		mix   func(x, y, z uint32) uint32
		k     uint32
		order [8]int
		shift [4]int
	}{
		{f, 0, [8]int{0, 1, 2, 3, 4, 5, 6, 7}, [4]int{3, 7, 11, 19}},
		{g, 0x5A827999, [8]int{1, 3, 5, 7, 0, 2, 4, 6}, [4]int{3, 5, 9, 13}},
		{h, 0x6ED9EBA1, [8]int{3, 7, 2, 6, 1, 5, 0, 4}, [4]int{3, 9, 11, 15}},
	}
	a, b, c, d := buf[0], buf[1], buf[2], buf[3]
	for _, r := range rounds {
		for i, word := range r.order {
			t := bits.RotateLeft32(a+r.mix(b, c, d)+in[word]+r.k, r.shift[i%4])
			a, b, c, d = d, t, b, c
		}
	}
	buf[0] += a
	buf[1] += b
	buf[2] += c
	buf[3] += d
}
