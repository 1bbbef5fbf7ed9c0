package deflate

import (
	"encoding/binary"
	"math/bits"
	"unsafe"
)

const (
	// Window is the greatest distance of a match plus one.
	Window = 4096

	minMatch = 3
	maxMatch = 258

	hash3Bits = 11
	hash4Bits = 13

	// depth is how many earlier places are tried for a match, and shallow how
	// many for a better one when a match of good or more is known. One of
	// lazy or more is not improved on.
	depth   = 8
	shallow = 2
	good    = 6
	lazy    = 16

	// far is the distance from which a match of three mostly costs more bits
	// than three literals.
	far = 1 << 10

	// patience is after how many literals in a row bytes are passed over.
	patience = 256
)

// finder finds earlier occurrences. It keeps a chain of places for each hash
// of four bytes and the last place for each of three, modulo 65536, so that
// all tables fit a core's first cache; what they say is looked at before it is
// believed.
type finder struct {
	buf   []byte // the input and room for a word
	head3 [1 << hash3Bits]uint16
	head4 [1 << hash4Bits]uint16
	prev  [Window]uint16 // next older place of the chain, by place
}

func (f *finder) reset(in []byte) {
	if len(f.buf) < len(in)+8 {
		f.buf = make([]byte, len(in)+8)
	}
	copy(f.buf, in)
	clear(f.buf[len(in):][:8])
	clear(f.head3[:])
	clear(f.head4[:])
}

// load32 and load64 read at p[i]: a bounds check at each of these would cost a
// tenth of the encoder's time. Callers stay within buf: i is a place of the
// input, or one less a distance that is not larger.
func load32(p *byte, i int) uint32 {
	return binary.LittleEndian.Uint32((*[4]byte)(unsafe.Add(unsafe.Pointer(p), i))[:])
}

func load64(p *byte, i int) uint64 {
	return binary.LittleEndian.Uint64((*[8]byte)(unsafe.Add(unsafe.Pointer(p), i))[:])
}

func hash3(v uint32) uint32 { return (v << 8) * 0x9e3779b1 >> (32 - hash3Bits) }
func hash4(v uint32) uint32 { return v * 0x9e3779b1 >> (32 - hash4Bits) }

// insert notes the place i.
func (f *finder) insert(p *byte, i int) {
	v := load32(p, i)
	h := &f.head4[hash4(v)]
	f.prev[uint(i)%Window] = *h
	*h = uint16(i) + Window
	f.head3[hash3(v)] = uint16(i) + Window
}

// find notes the place i and returns the longest earlier match that is longer
// than best (3 or more) as length<<16|distance, or 0. It also returns the place,
// modulo 65536, where the last three bytes with the same hash were, see near.
func (f *finder) find(p *byte, i, end, best, tries int) (match int, last3 uint16) {
	v := load32(p, i)
	here := uint16(i) + Window
	h := &f.head4[hash4(v)]
	d := int(here - *h)
	f.prev[uint(i)%Window] = *h
	*h = here
	h3 := &f.head3[hash3(v)]
	last3 = *h3
	*h3 = here
	want, limit := load32(p, i+best-3), uint(min(i, Window-1))
	for uint(d-1) < limit { // an empty place can look like d == 0
		if load32(p, i-d+best-3) == want && load32(p, i-d) == v {
			if n := matchLen(p, i, d, end); n > best {
				best, match = n, n<<16|d
				if n >= lazy {
					break
				}
				want = load32(p, i+best-3)
			}
		}
		if tries--; tries == 0 {
			break
		}
		d = int(here - f.prev[uint(i-d)%Window])
	}
	return match, last3
}

// near returns a match of three bytes at the place last3, if it is one and not
// far, or 0.
func near(p *byte, i int, last3 uint16) int {
	d := int(uint16(i) + Window - last3)
	if uint(d-1) < uint(min(i, far)) && (load32(p, i-d)^load32(p, i))<<8 == 0 {
		return minMatch<<16 | d
	}
	return 0
}

// improve looks whether a better match begins at the next byte, and so on
// ("lazy matching", RFC 1951 section 4). It returns where the match to take
// begins, the match, and the first place not yet noted.
func (f *finder) improve(p *byte, i, end, m int) (at, match, next int) {
	for next = i + 1; m < lazy<<16; {
		tries := depth
		if m >= good<<16 {
			tries = shallow
		}
		n, _ := f.find(p, next, end, m>>16, tries)
		next++
		if n == 0 || 4*(n>>16-m>>16)+bits.Len16(uint16(m))-bits.Len16(uint16(n)) <= 2 {
			break
		}
		i, m = next-1, n
	}
	return i, m, next
}

// matchLen tells how many bytes from i on are also at i-d; four are.
func matchLen(p *byte, i, d, end int) int {
	at := i + 4
	for stop := min(end, i+maxMatch); ; at += 8 {
		if x := load64(p, at) ^ load64(p, at-d); x != 0 {
			return min(stop, at+bits.TrailingZeros64(x)/8) - i
		}
		if at+8 >= stop {
			return stop - i
		}
	}
}
