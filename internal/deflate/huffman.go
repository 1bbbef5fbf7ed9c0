package deflate

import (
	"math/bits"
	"slices"
)

const (
	maxLit  = 286 // literals, end of block, lengths (RFC 1951 section 3.2.5)
	maxDist = 24  // distances up to 4096
	maxPre  = 19  // code lengths (section 3.2.7)

	maxBits    = 15
	maxPreBits = 7
	endOfBlock = 256
)

// code is a canonical Huffman code (RFC 1951 section 3.2.2). The bits of a
// code are reversed, as they go out lowest first.
type code struct {
	lens [maxLit]uint8
	bits [maxLit]uint16
	sort [maxLit]uint32
	freq [maxLit]uint32
}

// build makes the best code for the given counts in which no symbol takes more
// than limit bits. At least two symbols get a code: some decoders refuse less.
func (c *code) build(counts []uint32, limit int) {
	sorted := c.sort[:0]
	for s, n := range counts {
		if n > 0 {
			sorted = append(sorted, n<<9|uint32(s))
		}
		c.lens[s] = 0
	}
	for s := uint32(0); len(sorted) < 2; s++ {
		if counts[s] == 0 {
			sorted = append(sorted, 1<<9|s)
		}
	}
	slices.Sort(sorted)
	freq := c.freq[:len(sorted)]
	for i, v := range sorted {
		freq[i] = v >> 9
	}
	lengths(freq)
	perLen := limitLengths(freq, limit)
	// The rarest come first in sorted and get the longest codes.
	i := 0
	for l := limit; l > 0; l-- {
		for range perLen[l] {
			c.lens[sorted[i]&511] = uint8(l)
			i++
		}
	}
	c.assign(len(counts), perLen)
}

// lengths replaces counts, in ascending order, with the lengths of their codes,
// in place: A. Moffat and J. Katajainen, "In-Place Calculation of
// Minimum-Redundancy Codes", 1995.
func lengths(a []uint32) {
	n := len(a)
	// Pair the two smallest again and again: below root, a holds parents.
	a[0] += a[1]
	root, leaf := 0, 2
	for next := 1; next < n-1; next++ {
		sum := uint32(0)
		for range 2 {
			if leaf >= n || (root < next && a[root] < a[leaf]) {
				sum += a[root]
				a[root] = uint32(next)
				root++
			} else {
				sum += a[leaf]
				leaf++
			}
		}
		a[next] = sum
	}
	// Depths of inner nodes, then of the leaves.
	a[n-2] = 0
	for i := n - 3; i >= 0; i-- {
		a[i] = a[a[i]] + 1
	}
	available, depth := 1, uint32(0)
	for next, inner := n-1, n-2; available > 0; depth++ {
		used := 0
		for inner >= 0 && a[inner] == depth {
			used++
			inner--
		}
		for ; available > used; available-- {
			a[next] = depth
			next--
		}
		available = 2 * used
	}
}

// limitLengths counts the lengths and cuts those over the limit. Then Kraft's
// sum is too large by so many units of the longest code: each step takes one of
// the longest and makes it the sibling of a shorter one, which saves a unit.
func limitLengths(lens []uint32, limit int) (perLen [maxBits + 1]int) {
	sum := 0
	for _, l := range lens {
		l := min(int(l), limit)
		perLen[l]++
		sum += 1 << (limit - l)
	}
	for ; sum > 1<<limit; sum-- {
		l := limit - 1
		for perLen[l] == 0 {
			l--
		}
		perLen[l]--
		perLen[l+1] += 2
		perLen[limit]--
	}
	return perLen
}

// assign gives the symbols their codes.
func (c *code) assign(n int, perLen [maxBits + 1]int) {
	var next [maxBits + 2]uint16
	for l := 1; l <= maxBits; l++ {
		next[l+1] = (next[l] + uint16(perLen[l])) << 1
	}
	for s := range n {
		if l := c.lens[s]; l > 0 {
			c.bits[s] = bits.Reverse16(next[l]) >> (16 - l)
			next[l]++
		}
	}
}
