package deflate

import "errors"

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
