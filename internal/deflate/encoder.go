// Package deflate packs and unpacks raw deflate streams (RFC 1951) from memory
// to memory, for disk images.
//
// It exists because of two limits that no library met. QEMU inflates qcow2
// clusters with a window of 4 KiB; in that window this encoder's output is no
// larger than that of zlib's level 6, at over twice the speed, so that the same
// bytes can go into a VMDK and still be within 5 % of what zlib makes there with
// 32 KiB (docs/design/deflate.md has the figures). And clusters have a known size, which a decoder can use.
// Both are held against compress/flate by tests and fuzzing.
package deflate

import (
	"slices"
	"unsafe"
)

// Encoder packs inputs into raw deflate streams. The bytes it makes depend on
// the input alone. It is not for several goroutines at once.
type Encoder struct {
	f      finder
	tokens []token
	segs   []segment
	w      bitWriter
	lit    code
	dist   code
	pre    precode
}

// token is a literal or a match, ready to be written: the symbol in bits 0 to
// 8, the distance's symbol in 9 to 13, the length's extra bits in 14 to 18 and
// those of the distance in 19 to 28. A literal has a distance symbol of no bits,
// so that both are treated alike: to guess which comes next costs more.
type token uint32

const noDist = 31 << 9

// segmentTokens is the unit blocks are made of.
const segmentTokens = 1024

// counts are how often each symbol is used.
type counts struct {
	lit  [512]uint32 // room for any index of nine bits
	dist [32]uint32
}

func (c *counts) add(o *counts) {
	for i, n := range o.lit[:maxLit] {
		c.lit[i] += n
	}
	for i, n := range o.dist[:maxDist] {
		c.dist[i] += n
	}
}

// segment is a run of tokens and the bytes of input they stand for.
type segment struct {
	counts
	tokens int
	bytes  int
}

// Append appends the packed form of in to dst. The last
// block is an empty stored one: the stream ends with its 00 00 ff ff.
func (e *Encoder) Append(dst, in []byte) []byte {
	e.segs = e.segs[:0]
	e.parse(in)
	e.w = bitWriter{out: dst}
	tokens := e.tokens
	for i := 0; i < len(e.segs); {
		n := e.blockLen(i)
		block := &e.segs[i]
		e.writeBlock(in[:block.bytes], tokens[:block.tokens], block)
		in, tokens = in[block.bytes:], tokens[block.tokens:]
		i += n
	}
	// The end is a stored block of its own, so that streams can be joined by
	// clearing its bit for the last block (RFC 1951 section 3.2.3).
	e.w.bits(1, 3)
	e.w.align()
	return append(e.w.out, 0, 0, 0xff, 0xff)
}

// parse cuts in into literals and matches, gathered in segments.
func (e *Encoder) parse(in []byte) {
	e.f.reset(in)
	e.tokens = slices.Grow(e.tokens[:0], len(in))[:len(in)]
	t := 0
	for i, idle := 0, 0; i < len(in); {
		firstToken, firstByte := t, i
		t, i, idle = e.parseSegment(in, t, i, idle)
		for ; i > len(in)-minMatch && i < len(in); i++ { // too short for a match
			e.tokens[t] = noDist | token(in[i])
			t++
		}
		e.addSegment(e.tokens[firstToken:t], i-firstByte)
	}
	e.tokens = e.tokens[:t]
}

// parseSegment puts the tokens for what begins at byte i into tokens[t:], a
// segment's worth or to where no match can begin. It returns how far it got in
// both; idle is the number of literals since the last match.
func (e *Encoder) parseSegment(in []byte, t, i, idle int) (int, int, int) {
	f, out, p := &e.f, e.tokens, unsafe.SliceData(e.f.buf)
	for full := t + segmentTokens; i <= len(in)-minMatch && t < full; {
		m, last3 := f.find(p, i, len(in), minMatch, depth)
		if m == 0 {
			m = near(p, i, last3)
		}
		if m == 0 {
			out[t] = noDist | token(in[i])
			t++
			i++
			if idle++; idle >= patience {
				// What does not match for long is packed already: look less often.
				for n := min(idle/patience, 8, len(in)-i); n > 0; n-- {
					out[t] = noDist | token(in[i])
					t++
					i++
				}
			}
			continue
		}
		idle = 0
		at, m, next := f.improve(p, i, len(in), m)
		for ; i < at; i++ {
			out[t] = noDist | token(in[i])
			t++
		}
		out[t] = lengthToken[m>>16] | distToken[m%Window]
		t++
		i += m >> 16
		for ; next < i; next++ {
			f.insert(p, next)
		}
	}
	return t, i, idle
}

// addSegment counts the symbols of a run of tokens.
func (e *Encoder) addSegment(tokens []token, bytes int) {
	e.segs = append(e.segs, segment{tokens: len(tokens), bytes: bytes})
	s := &e.segs[len(e.segs)-1]
	for _, t := range tokens {
		s.lit[t%512]++
		s.dist[t>>9%32]++
	}
}
