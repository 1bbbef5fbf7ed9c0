package deflate

import "math/bits"

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
