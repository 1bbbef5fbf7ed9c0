package deflate

import (
	"encoding/binary"
	"math"
	"slices"
	"unsafe"
)

// The tokens of lengths and distances (RFC 1951 section 3.2.5).
var (
	lengthToken [maxMatch + 1]token
	distToken   [Window]token
)

// nlogn holds n·log2(n): a code's size is T·log2(T) less the sum of these over
// the symbols' counts, T being their sum.
var nlogn [4096]float32

func init() {
	for s := range lengthBase {
		base := int(lengthBase[s])
		for l := base; l < base+1<<lengthExtra[s] && l <= maxMatch; l++ {
			lengthToken[l] = token(endOfBlock+1+s) | token(l-base)<<14 // 258 has a code of its own, the last
		}
	}
	for s := range maxDist {
		base := int(distBase[s])
		for d := base; d < base+1<<distExtra(s) && d < Window; d++ {
			distToken[d] = token(s)<<9 | token(d-base)<<19
		}
	}
	for n := 2; n < len(nlogn); n++ {
		nlogn[n] = float32(float64(n) * math.Log2(float64(n)))
	}
}

func sizeTerm(n uint32) float32 {
	if n < uint32(len(nlogn)) {
		return nlogn[n]
	}
	return float32(float64(n) * math.Log2(float64(n)))
}

// headerBits is about what the codes of one more block cost.
const headerBits = 500

// size is about how many bits the symbols take with the best codes.
func (c *counts) size() float32 {
	total := func(counts []uint32) (bits float32) {
		sum := uint32(0)
		for _, n := range counts {
			if n > 0 {
				sum += n
				bits -= sizeTerm(n)
			}
		}
		return bits + sizeTerm(sum)
	}
	return total(c.lit[:maxLit]) + total(c.dist[:maxDist])
}

// blockLen tells how many segments from the one at i make the next block: as
// many as are alike enough to save a header. Their counts are gathered in i.
func (e *Encoder) blockLen(i int) int {
	block := &e.segs[i]
	size := block.size()
	for n := 1; i+n < len(e.segs); n++ {
		next := &e.segs[i+n]
		both := block.counts
		both.add(&next.counts)
		alone, together := next.size(), both.size()
		if together > size+alone+headerBits {
			return n
		}
		block.counts, size = both, together
		block.tokens += next.tokens
		block.bytes += next.bytes
	}
	return len(e.segs) - i
}

// writeBlock writes the bytes of in as the tokens that stand for them, of which
// c holds the counts, or as they are.
func (e *Encoder) writeBlock(in []byte, tokens []token, c *segment) {
	c.lit[endOfBlock]++
	e.lit.build(c.lit[:maxLit], maxBits)
	e.dist.build(c.dist[:maxDist], maxBits)
	e.pre.make(&e.lit, &e.dist)
	size := 3 + e.pre.size + e.bodySize(c)
	if size >= ceilDiv(len(in), maxStored)*(3+7+32)+8*len(in) {
		e.w.stored(in)
		return
	}
	e.w.room(16 + size/8)
	e.w.bits(2<<1, 3)
	e.pre.write(&e.w)
	e.writeTokens(tokens)
}

// bodySize is the number of bits the symbols of a block take.
func (e *Encoder) bodySize(c *segment) (size int) {
	for s, n := range c.lit[:maxLit] {
		size += int(n) * int(e.lit.lens[s])
		if s > endOfBlock {
			size += int(n) * int(lengthExtra[s-endOfBlock-1])
		}
	}
	for s, n := range c.dist[:maxDist] {
		size += int(n) * (int(e.dist.lens[s]) + distExtra(s))
	}
	return size
}

// writeTokens writes the symbols with their extra bits, up to 48 for a token.
// There is room for them all.
func (e *Encoder) writeTokens(tokens []token) {
	// The codes, their lengths from bit 16 on and those with extra bits from 24.
	var lit [512]uint32
	var dist [32]uint32
	for s, l := range e.lit.lens[:maxLit] {
		extra := uint8(0)
		if s > endOfBlock {
			extra = lengthExtra[s-endOfBlock-1]
		}
		lit[s] = uint32(e.lit.bits[s]) | uint32(l)<<16 | uint32(l+extra)<<24
	}
	for s, l := range e.dist.lens[:maxDist] {
		dist[s] = uint32(e.dist.bits[s]) | uint32(l)<<16 | uint32(int(l)+distExtra(s))<<24
	}
	at, acc, n := len(e.w.out), e.w.acc, e.w.n
	out := unsafe.SliceData(e.w.out)
	store64(out, at, acc)
	at += int(n / 8)
	acc >>= n & 56
	n %= 8
	for _, t := range tokens {
		c, d := lit[t%512], dist[t>>9%32]
		acc |= (uint64(c&0xffff) | uint64(t>>14%32)<<(c>>16&63)) << (n & 63)
		n += uint(c >> 24)
		acc |= (uint64(d&0xffff) | uint64(t>>19)<<(d>>16&63)) << (n & 63)
		n += uint(d >> 24)
		store64(out, at, acc)
		at += int(n / 8)
		acc >>= n & 56
		n %= 8
	}
	e.w.out, e.w.acc, e.w.n = e.w.out[:at], acc, n
	e.w.bits(uint64(e.lit.bits[endOfBlock]), uint(e.lit.lens[endOfBlock]))
}

// distExtra is the number of extra bits of a distance code.
func distExtra(s int) int { return max(0, s/2-1) }

// precode is the coded form of the two codes of a block (section 3.2.7).
type precode struct {
	code
	items   []uint16 // symbol in the low byte, value of the extra bits above
	counts  [maxPre]uint32
	nlit    int
	ndist   int
	ncode   int
	lengths [maxLit + maxDist]uint8
	size    int // bits
}

var preExtra = [maxPre]uint8{16: 2, 17: 3, 18: 7}

func (p *precode) make(lit, dist *code) {
	p.nlit, p.ndist = maxLit, maxDist
	for lit.lens[p.nlit-1] == 0 {
		p.nlit--
	}
	for dist.lens[p.ndist-1] == 0 {
		p.ndist--
	}
	all := append(append(p.lengths[:0], lit.lens[:p.nlit]...), dist.lens[:p.ndist]...)
	p.items = p.items[:0]
	clear(p.counts[:])
	for i := 0; i < len(all); {
		run := 1
		for i+run < len(all) && all[i+run] == all[i] {
			run++
		}
		p.run(all[i], run)
		i += run
	}
	p.build(p.counts[:], maxPreBits)
	p.ncode = maxPre
	for p.lens[codeOrder[p.ncode-1]] == 0 {
		p.ncode--
	}
	p.size = 14 + 3*p.ncode
	for s, n := range p.counts {
		p.size += int(n) * int(p.lens[s]+preExtra[s])
	}
}

// run codes n lengths of the same value.
func (p *precode) run(value uint8, n int) {
	put := func(symbol, extra int) {
		p.items = append(p.items, uint16(symbol|extra<<8))
		p.counts[symbol]++
	}
	if value == 0 {
		for n >= 11 {
			k := min(n, 138)
			put(18, k-11)
			n -= k
		}
		if n >= 3 {
			put(17, n-3)
			n = 0
		}
	} else if n >= 4 {
		put(int(value), 0)
		for n--; n >= 3; {
			k := min(n, 6)
			put(16, k-3)
			n -= k
		}
	}
	for range n {
		put(int(value), 0)
	}
}

func (p *precode) write(w *bitWriter) {
	w.bits(uint64(p.nlit-257)|uint64(p.ndist-1)<<5|uint64(p.ncode-4)<<10, 14)
	for _, s := range codeOrder[:p.ncode] {
		w.bits(uint64(p.lens[s]), 3)
	}
	for _, v := range p.items {
		s := v & 0xff
		w.bits(uint64(p.code.bits[s])|uint64(v>>8)<<p.lens[s], uint(p.lens[s]+preExtra[s]))
	}
}

// maxStored is the longest stored block.
const maxStored = 65535

// bitWriter appends bits to out, lowest first.
type bitWriter struct {
	out []byte
	acc uint64
	n   uint
}

// room makes sure that n more bytes fit; bits does not look.
func (w *bitWriter) room(n int) { w.out = slices.Grow(w.out, n+8) }

// bits appends the low n bits of v, n at most 32; the others are zero.
func (w *bitWriter) bits(v uint64, n uint) {
	w.acc |= v << w.n
	w.n += n
	if w.n >= 32 {
		w.out = binary.LittleEndian.AppendUint32(w.out, uint32(w.acc))
		w.acc >>= 32
		w.n -= 32
	}
}

// align fills the last byte with zeros and puts all out.
func (w *bitWriter) align() {
	for ; w.n > 0; w.n -= min(8, w.n) {
		w.out = append(w.out, byte(w.acc))
		w.acc >>= 8
	}
}

// stored writes in as it is.
func (w *bitWriter) stored(in []byte) {
	for len(in) > 0 {
		k := min(len(in), maxStored)
		w.bits(0, 3)
		w.align()
		w.out = binary.LittleEndian.AppendUint32(w.out, uint32(k)|uint32(^uint16(k))<<16)
		w.out = append(w.out, in[:k]...)
		in = in[k:]
	}
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }
