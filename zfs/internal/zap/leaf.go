package zap

import "slices"

// leafWriter fills the chunks of one leaf from the first on.
type leafWriter struct {
	b    []byte // the whole block
	geo  geometry
	next int // the first free chunk
}

func (w *leafWriter) chunk(i int) []byte {
	off := leafHead + 2*w.geo.buckets + chunkSize*i
	return w.b[off : off+chunkSize]
}

// take returns the next free chunk, marked with its type, and its number.
func (w *leafWriter) take(kind byte) (c []byte, n uint16) {
	n = uint16(w.next)
	c = w.chunk(w.next)
	c[0] = kind
	w.next++
	return c, n
}

// array stores v, and a NUL if told so, in a chain of chunks and returns the first.
func (w *leafWriter) array(v string, nul bool) uint16 {
	size := len(v)
	if nul {
		size++
	}
	first := uint16(w.next)
	for at := 0; at < size; at += arrayBytes {
		c, n := w.take(chunkArray)
		if at < len(v) {
			copy(c[1:1+arrayBytes], v[at:])
		}
		next := n + 1
		if at+arrayBytes >= size {
			next = chainEnd
		}
		le.PutUint16(c[22:], next)
	}
	return first
}

// value stores e's value and returns its first chunk.
func (w *leafWriter) value(e *Entry) uint16 {
	if !e.single {
		return w.array(e.raw, false)
	}
	c, n := w.take(chunkArray)
	be.PutUint64(c[1:], e.word)
	le.PutUint16(c[22:], chainEnd)
	return n
}

// add stores e in front of the chain of its bucket.
func (w *leafWriter) add(e *Entry, hash uint64, cd uint32, prefixLen uint) {
	c, n := w.take(chunkEntry)
	c[1] = e.intSize
	le.PutUint16(c[4:], w.array(e.Name, true))
	le.PutUint16(c[6:], uint16(len(e.Name)+1))
	le.PutUint16(c[8:], w.value(e))
	le.PutUint16(c[10:], uint16(e.Len()))
	le.PutUint32(c[12:], cd)
	le.PutUint64(c[16:], hash)
	head := w.b[leafHead+2*w.geo.bucket(hash, prefixLen):]
	copy(c[2:4], head[:2])
	le.PutUint16(head, n)
}

// free chains the chunks that are left and returns the first.
func (w *leafWriter) free() uint16 {
	if w.next == w.geo.chunks {
		return chainEnd
	}
	for i := w.next; i < w.geo.chunks; i++ {
		c := w.chunk(i)
		c[0] = chunkFree
		next := uint16(i + 1)
		if i+1 == w.geo.chunks {
			next = chainEnd
		}
		le.PutUint16(c[22:], next)
	}
	return uint16(w.next)
}

// leaf writes the block of s, its entries in their own order as a kernel that was
// given them one by one. Chains are not sorted by differentiator: kernels do that
// (ZLF_ENTRIES_CDSORTED) only where names are normalised.
func (l *Layout) leaf(s span, b []byte) {
	w := leafWriter{b: b, geo: l.geo}
	for i := range 2 * l.geo.buckets {
		b[leafHead+i] = 0xff // empty chains
	}
	// Entry, place behind lo, differentiator: a leaf has some 200 at most.
	order := make([]uint64, 0, 256)
	cd := uint32(0)
	for at := s.lo; at < s.hi; at++ {
		cd = l.nextCD(at, s.lo, cd)
		order = append(order, l.order[at]<<32|uint64(at-s.lo)<<16|uint64(cd))
	}
	slices.Sort(order)
	for _, o := range order {
		at := s.lo + int(uint16(o>>16))
		w.add(l.entry(at), l.hash(at), uint32(uint16(o)), s.prefixLen)
	}
	le.PutUint64(b, TypeLeaf)
	le.PutUint64(b[16:], s.prefix)
	le.PutUint32(b[24:], leafMagic)
	le.PutUint16(b[28:], uint16(l.geo.chunks-w.next))
	le.PutUint16(b[30:], uint16(s.hi-s.lo))
	le.PutUint16(b[32:], uint16(s.prefixLen))
	le.PutUint16(b[34:], w.free())
}
