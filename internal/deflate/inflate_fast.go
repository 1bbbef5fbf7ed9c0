package deflate

import (
	"encoding/binary"
	"unsafe"
)

// An entry of the fast table holds the number of bits it stands for in bits 0
// to 5. Literals, one or two that are decoded at once: their number in 6 and 7,
// themselves in 16 to 31. A length: those of its bits that are the code, not
// extra bits, in 8 to 12, its base in 16 to 31. All else is fastRare and left
// to the plain table.
const (
	fastLiteral = 1 << 15
	fastRare    = 1 << 14

	// maxStep is the most one turn of the fast loop puts out: three pairs of
	// literals and a match of 258, which may be rounded up by two words.
	maxStep = 6 + 258 + 16
)

// fastTable makes the fast table from the plain one.
func (z *Decoder) fastTable() {
	for i := len(z.fast) - 1; i >= 0; i-- {
		e := z.lit[i]
		k := e & 31
		switch {
		case e&(isSub|isEnd) != 0 || k == 0:
			z.fast[i] = fastRare
		case e&isLiteral == 0:
			z.fast[i] = k + e>>8&31 | k<<8 | e&^0xffff
		default:
			f := fastLiteral | 1<<6 | k | e&0xff0000
			// What follows is known as far as the index has its bits.
			if next := z.lit[i>>k]; next&isLiteral != 0 && k+next&31 <= litBits {
				f += 1<<6 + next&31 + next<<8&0xff000000
			}
			z.fast[i] = f
		}
	}
}

func store16(p *byte, i int, v uint16) {
	binary.LittleEndian.PutUint16((*[2]byte)(unsafe.Add(unsafe.Pointer(p), i))[:], v)
}

func store64(p *byte, i int, v uint64) {
	binary.LittleEndian.PutUint64((*[8]byte)(unsafe.Add(unsafe.Pointer(p), i))[:], v)
}

// fastBlock unpacks while 16 bytes of input and maxStep of output are left; so
// nothing it reads or writes needs a look at the bounds, but for distances. It
// tells whether it came to the end of the block.
func (z *Decoder) fastBlock(out []byte, o int) (int, bool, error) {
	for {
		turns := min((len(z.in)-z.pos)/16, (len(out)-o)/maxStep)
		if turns <= 0 {
			return o, false, nil
		}
		var state int
		if o, state = z.fastTurns(unsafe.SliceData(out), o, turns); state != fastGoOn {
			return o, state == fastEnd, fastErrors[state]
		}
	}
}

// How fastTurns ended.
const (
	fastGoOn = iota
	fastEnd
	fastBadCode
	fastBadDist
)

var fastErrors = [...]error{fastBadCode: errInflateCode, fastBadDist: errInflateDist}

// fastTurns unpacks up to three pairs of literals and a match in each turn. It
// is one long function because a call for each symbol would cost a third of
// the speed.
func (z *Decoder) fastTurns(op *byte, o, turns int) (int, int) {
	ip, pos, acc, n := unsafe.SliceData(z.in), z.pos, z.acc, z.n
	state := fastGoOn
	for ; turns > 0; turns-- {
		acc |= load64(ip, pos) << (n & 63)
		pos += int((63 - n) >> 3)
		n |= 56
		e := z.fast[acc%(1<<litBits)]
		if e&fastLiteral != 0 {
			store16(op, o, uint16(e>>16))
			o += int(e >> 6 & 3)
			acc >>= e & 63
			n -= uint(e & 63)
			if e = z.fast[acc%(1<<litBits)]; e&fastLiteral != 0 {
				store16(op, o, uint16(e>>16))
				o += int(e >> 6 & 3)
				acc >>= e & 63
				n -= uint(e & 63)
				if e = z.fast[acc%(1<<litBits)]; e&fastLiteral != 0 {
					store16(op, o, uint16(e>>16))
					o += int(e >> 6 & 3)
					acc >>= e & 63
					n -= uint(e & 63)
					continue
				}
			}
		}
		if e&fastRare != 0 {
			if e = z.lit[acc%(1<<litBits)]; e&isSub != 0 {
				e = z.lit[e>>16+uint32(acc>>litBits)&(1<<(e>>8&31)-1)]
			}
			if e == 0 {
				state = fastBadCode
				break
			}
			k := e & 31
			if e&(isLiteral|isEnd) != 0 {
				acc >>= k
				n -= uint(k)
				if e&isEnd != 0 {
					state = fastEnd
					break
				}
				store16(op, o, uint16(e>>16))
				o++
				continue
			}
			e = k + e>>8&31 | k<<8 | e&^0xffff
		}
		length := int(e>>16) + int(acc&lowBits[e%64]>>(e>>8&31))
		acc >>= e & 63
		n -= uint(e & 63)

		acc |= load64(ip, pos) << (n & 63)
		pos += int((63 - n) >> 3)
		n |= 56
		d := z.dist[acc%(1<<distBits)]
		if d&isSub != 0 {
			d = z.dist[d>>16+uint32(acc>>distBits)&(1<<(d>>8&31)-1)]
		}
		acc >>= d & 31
		n -= uint(d & 31)
		far := int(d>>16) + int(acc&lowBits[d>>8%64])
		acc >>= d >> 8 & 31
		n -= uint(d >> 8 & 31)
		if uint(far-1) >= uint(o) { // an unused code has distance 0
			state = fastBadDist
			if d == 0 {
				state = fastBadCode
			}
			break
		}
		copyMatch(op, o, far, length)
		o += length
	}
	z.pos, z.acc, z.n = pos, acc, n
	return o, state
}

// lowBits are the numbers with so many bits set.
var lowBits [64]uint64

func init() {
	for i := range lowBits {
		lowBits[i] = 1<<i - 1
	}
}

// copyMatch copies length bytes to p[o:] from far before it. It may write up
// to two words more.
func copyMatch(p *byte, o, far, length int) {
	if far >= 8 {
		store64(p, o, load64(p, o-far))
		store64(p, o+8, load64(p, o+8-far))
		for i := 16; i < length; i += 8 {
			store64(p, o+i, load64(p, o+i-far))
		}
		return
	}
	from := unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(p), o-far)), far+length)
	if far == 1 {
		word := uint64(from[0]) * 0x0101010101010101
		for i := 0; i < length; i += 8 {
			store64(p, o+i, word)
		}
		return
	}
	for i := range length {
		from[far+i] = from[i]
	}
}
