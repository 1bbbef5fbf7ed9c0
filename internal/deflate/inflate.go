package deflate

import (
	"errors"
	"math/bits"
)

// Decoder unpacks raw deflate streams whose unpacked size is known. It is not
// for several goroutines at once. Knowing both ends is what makes it twice as
// fast as a general io.Reader: it looks ahead freely and copies by words.
type Decoder struct {
	in   []byte
	pos  int    // of the next byte of in to go into acc
	acc  uint64 // bits not yet used, the next one lowest
	n    uint   // valid bits in acc; those above are right too, or zero
	last bool   // the block in hand, or the one before, is the last
	open bool   // inside a compressed block
	left int    // bytes still to come of a stored block
	lens [320]uint8
	// Decoding tables: the first 1<<litBits (1<<distBits) entries are indexed
	// by the next bits, the rest are second levels for longer codes.
	lit  [1<<litBits + litCodes<<(maxBits-litBits)]uint32
	dist [1<<distBits + distCodes<<(maxBits-distBits)]uint32
	fast [1 << litBits]uint32 // see fastTable
}

const (
	litCodes  = 288
	distCodes = 32
	litBits   = 11
	distBits  = 8

	// An entry holds the code's length in bits 0 to 4, the number of extra
	// bits (of a second level: its index bits) in 8 to 12, and a literal, base
	// or position from bit 16 on. No flag and length 0 is an unused code.
	isLiteral = 1 << 13
	isEnd     = 1 << 14
	isSub     = 1 << 15
)

var (
	errInflateCut  = errors.New("stream ends early")
	errInflateCode = errors.New("invalid code")
	errInflateDist = errors.New("distance reaches before the start")
	errInflateTree = errors.New("invalid code lengths")
	errInflateKind = errors.New("invalid block type")
	errInflateMore = errors.New("stream goes on after what was wanted")
)

// Bases and extra bits of lengths and distances, RFC 1951 section 3.2.5.
var lengthBase = [...]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
var lengthExtra = [...]uint8{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
var distBase = [...]uint16{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
var codeOrder = [...]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

func litSymbol(s int) uint32 {
	switch {
	case s < 256:
		return isLiteral | uint32(s)<<16
	case s == 256:
		return isEnd
	case s-257 < len(lengthBase):
		return uint32(lengthExtra[s-257])<<8 | uint32(lengthBase[s-257])<<16
	}
	return 0
}

func distSymbol(s int) uint32 {
	if s >= len(distBase) {
		return 0
	}
	return uint32(max(0, s/2-1))<<8 | uint32(distBase[s])<<16
}

func codeSymbol(s int) uint32 { return isLiteral | uint32(s)<<16 }

// ErrShort says that a stream is whole but has less than was asked for.
var ErrShort = errors.New("stream is shorter than wanted")

// Decode fills out from the stream at the start of in and returns how far it
// got. What the stream holds after that is not looked at, see Rest. An error
// other than ErrShort says what of RFC 1951 the stream breaks.
func (z *Decoder) Decode(out, in []byte) (int, error) {
	z.in, z.pos, z.acc, z.n = in, 0, 0, 0
	z.last, z.open, z.left = false, false, 0
	for o := 0; ; {
		if o == len(out) {
			return o, nil
		}
		if z.last {
			return o, ErrShort
		}
		kind, err := z.head()
		if err == nil && kind == 0 {
			o, err = z.stored(out, o)
		} else if err == nil {
			o, err = z.block(out, o)
		}
		if err != nil {
			return o, err
		}
	}
}

// Rest makes sure that the stream Decode was given has nothing left to unpack
// and returns the offset of the byte after it.
func (z *Decoder) Rest() (int, error) {
	for z.open || !z.last {
		if !z.open {
			kind, err := z.head()
			if err == nil && kind == 0 {
				_, err = z.stored(nil, 0)
			}
			if err != nil {
				return 0, err
			}
		}
		if z.open {
			e, err := z.symbol(z.lit[:], litBits)
			if err != nil {
				return 0, err
			}
			if e&isEnd == 0 {
				return 0, errInflateMore
			}
			z.open = false
		}
		if z.left > 0 {
			return 0, errInflateMore
		}
	}
	if z.left > 0 {
		return 0, errInflateMore
	}
	return z.pos - int(z.n/8), nil
}

// head reads the start of a block and makes the tables of one that is
// compressed (kind 1 and 2).
func (z *Decoder) head() (kind uint32, err error) {
	h, err := z.take(3)
	if err != nil {
		return 0, err
	}
	z.last, kind = h&1 != 0, h>>1
	z.open = kind != 0
	switch kind {
	case 0:
		return kind, nil
	case 1:
		return kind, z.fixedTables()
	case 2:
		return kind, z.dynamicTables()
	}
	return kind, errInflateKind
}

// fill tops acc up to at least 56 bits, or to the end of the input.
func (z *Decoder) fill() {
	for z.n < 56 && z.pos < len(z.in) {
		z.acc |= uint64(z.in[z.pos]) << z.n
		z.pos++
		z.n += 8
	}
}

// take returns the next k bits, k at most 32.
func (z *Decoder) take(k uint) (uint32, error) {
	if z.n < k {
		if z.fill(); z.n < k {
			return 0, errInflateCut
		}
	}
	v := uint32(z.acc & (1<<k - 1))
	z.acc >>= k
	z.n -= k
	return v, nil
}

// symbol decodes one code and drops its bits.
func (z *Decoder) symbol(table []uint32, index uint) (uint32, error) {
	z.fill()
	e := table[z.acc&(1<<index-1)]
	if e&isSub != 0 {
		e = table[e>>16+uint32(z.acc>>index)&(1<<(e>>8&31)-1)]
	}
	k := uint(e & 31)
	if k == 0 {
		return 0, errInflateCode
	}
	if k > z.n {
		return 0, errInflateCut
	}
	z.acc >>= k
	z.n -= k
	return e, nil
}

func (z *Decoder) stored(out []byte, o int) (int, error) {
	if _, err := z.take(z.n % 8); err != nil {
		return o, err
	}
	v, err := z.take(32)
	if err != nil {
		return o, err
	}
	if v&0xffff != ^v>>16 {
		return o, errors.New("stored block's length contradicts its complement")
	}
	z.pos -= int(z.n / 8) // whole bytes go back
	z.acc, z.n = 0, 0
	k := min(int(v&0xffff), len(out)-o)
	if k > len(z.in)-z.pos {
		return o, errInflateCut
	}
	copy(out[o:o+k], z.in[z.pos:])
	z.pos += k
	z.left = int(v&0xffff) - k
	return o + k, nil
}

func (z *Decoder) fixedTables() error {
	for i := range z.lens[:288] {
		switch {
		case i < 144 || i >= 280:
			z.lens[i] = 8
		case i < 256:
			z.lens[i] = 9
		default:
			z.lens[i] = 7
		}
	}
	if err := buildTable(z.lit[:], litBits, z.lens[:288], litSymbol); err != nil {
		return err
	}
	for i := range z.lens[:32] {
		z.lens[i] = 5
	}
	return buildTable(z.dist[:], distBits, z.lens[:32], distSymbol)
}

// dynamicTables reads code lengths as RFC 1951 section 3.2.7 has them.
func (z *Decoder) dynamicTables() error {
	head, err := z.take(14)
	if err != nil {
		return err
	}
	nlit, ndist, ncode := int(head&31)+257, int(head>>5&31)+1, int(head>>10)+4
	clear(z.lens[:19])
	for _, i := range codeOrder[:ncode] {
		v, err := z.take(3)
		if err != nil {
			return err
		}
		z.lens[i] = uint8(v)
	}
	const codeBits = 7
	if err := buildTable(z.dist[:], codeBits, z.lens[:19], codeSymbol); err != nil {
		return err
	}
	for i := 0; i < nlit+ndist; {
		e, err := z.symbol(z.dist[:], codeBits)
		if err != nil {
			return err
		}
		if e>>16 < 16 {
			z.lens[i] = uint8(e >> 16)
			i++
			continue
		}
		if i, err = z.repeat(i, nlit+ndist, e>>16); err != nil {
			return err
		}
	}
	if z.lens[256] == 0 {
		return errInflateTree
	}
	if err := buildTable(z.lit[:], litBits, z.lens[:nlit], litSymbol); err != nil {
		return err
	}
	return buildTable(z.dist[:], distBits, z.lens[nlit:nlit+ndist], distSymbol)
}

// repeat carries out the code length symbols 16 to 18.
func (z *Decoder) repeat(i, end int, symbol uint32) (int, error) {
	extra, base, v := uint(2), 3, uint8(0)
	switch symbol {
	case 16:
		if i == 0 {
			return i, errInflateTree
		}
		v = z.lens[i-1]
	case 17:
		extra = 3
	default:
		extra, base = 7, 11
	}
	k, err := z.take(extra)
	if err != nil {
		return i, err
	}
	stop := i + base + int(k)
	if stop > end {
		return i, errInflateTree
	}
	for ; i < stop; i++ {
		z.lens[i] = v
	}
	return i, nil
}

// buildTable makes the decoding table of the canonical code with the given
// lengths. A code may be incomplete only when it has at most one symbol.
func buildTable(table []uint32, index uint, lens []uint8, entry func(int) uint32) error {
	var count, next [maxBits + 2]int
	for _, l := range lens {
		count[l]++
	}
	used := len(lens) - count[0]
	count[0] = 0
	longest, room := uint(0), 1
	for l := 1; l <= maxBits; l++ {
		room = room*2 - count[l]
		if room < 0 {
			return errInflateTree
		}
		if count[l] > 0 {
			longest = uint(l)
		}
		next[l+1] = (next[l] + count[l]) << 1
	}
	if room > 0 && (used > 1 || longest > 1) {
		return errInflateTree
	}
	clear(table[:1<<index])
	free := uint32(1) << index
	for s, l := range lens {
		if l == 0 {
			continue
		}
		code := bits.Reverse32(uint32(next[l])) >> (32 - l)
		next[l]++
		e := entry(s)
		if e != 0 {
			e |= uint32(l)
		}
		if uint(l) <= index {
			for i := code; i < 1<<index; i += 1 << l {
				table[i] = e
			}
			continue
		}
		first := &table[code&(1<<index-1)]
		if *first == 0 {
			*first = isSub | uint32(longest-index)<<8 | free<<16
			clear(table[free : free+1<<(longest-index)])
			free += 1 << (longest - index)
		}
		sub := table[*first>>16:][:1<<(longest-index)]
		for i := code >> index; i < uint32(len(sub)); i += 1 << (uint(l) - index) {
			sub[i] = e
		}
	}
	return nil
}

// block unpacks one compressed block to out[o:], up to its end or that of out.
// Far from both ends the fast loop runs; the careful one does the rest.
func (z *Decoder) block(out []byte, o int) (int, error) {
	z.fastTable()
	o, end, err := z.fastBlock(out, o)
	if err != nil || end {
		z.open = !end
		return o, err
	}
	for o < len(out) {
		e, err := z.symbol(z.lit[:], litBits)
		switch {
		case err != nil:
			return o, err
		case e&isLiteral != 0:
			out[o] = byte(e >> 16)
			o++
			continue
		case e&isEnd != 0:
			z.open = false
			return o, nil
		}
		length, err := z.take(uint(e >> 8 & 31))
		if err != nil {
			return o, err
		}
		d, err := z.symbol(z.dist[:], distBits)
		if err != nil {
			return o, err
		}
		far, err := z.take(uint(d >> 8 & 31))
		if err != nil {
			return o, err
		}
		from := o - int(d>>16+far)
		if from < 0 {
			return o, errInflateDist
		}
		for k := min(int(e>>16+length), len(out)-o); k > 0; k-- {
			out[o] = out[from]
			o++
			from++
		}
	}
	return o, nil
}
