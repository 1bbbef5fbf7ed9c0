package scan

// automaton finds many words in one pass, whatever the case of their ASCII
// letters: Aho and Corasick's construction ("Efficient string matching", CACM
// 18, 1975) written out as a table, so that a byte costs one look-up. The
// library that gitleaks uses follows fail links at run time and collects
// matches on the heap, at a fifth of the speed.
type automaton struct {
	class [256]uint8 // bytes that no word holds share class 0
	width int        // classes
	// next holds, at state*width+class, the next state times width; hit marks
	// one that ends a word.
	next []uint32
	out  [][]uint16 // by state: the words that end there
}

const hit = 1 << 31

func newAutomaton(words []string) *automaton {
	a := &automaton{width: 1}
	for _, w := range words {
		for i := range len(w) {
			a.addClass(w[i])
		}
	}
	a.grow()
	for id, w := range words {
		s := 0
		for i := range len(w) {
			at := s*a.width + int(a.class[w[i]])
			if a.next[at] == 0 {
				a.next[at] = uint32(len(a.out))
				a.grow()
			}
			s = int(a.next[at])
		}
		a.out[s] = append(a.out[s], uint16(id))
	}
	a.link()
	return a
}

func (a *automaton) addClass(c byte) {
	if a.class[c] != 0 {
		return
	}
	low := c | 0x20
	if low < 'a' || low > 'z' {
		low = c
	}
	a.class[low] = uint8(a.width)
	if low >= 'a' && low <= 'z' {
		a.class[low&^0x20] = uint8(a.width)
	}
	a.width++
}

// grow adds a state.
func (a *automaton) grow() {
	a.next = append(a.next, make([]uint32, a.width)...)
	a.out = append(a.out, nil)
}

// link turns the tree of words into the table, breadth first.
func (a *automaton) link() {
	fail := make([]int, len(a.out))
	queue := []int{0}
	for i := 0; i < len(queue); i++ {
		s := queue[i]
		if s != 0 {
			a.out[s] = append(a.out[s], a.out[fail[s]]...)
		}
		for c := range a.width {
			at := s*a.width + c
			to := int(a.next[at])
			switch {
			case to == 0 && s != 0:
				a.next[at] = a.next[fail[s]*a.width+c]
			case to != 0:
				if s != 0 {
					fail[to] = int(a.next[fail[s]*a.width+c])
				}
				queue = append(queue, to)
			}
		}
	}
	for i, to := range a.next {
		a.next[i] = to * uint32(a.width)
		if len(a.out[to]) > 0 {
			a.next[i] |= hit
		}
	}
}

// find calls each with a word and the offset after its last byte.
func (a *automaton) find(b []byte, each func(word uint16, end int)) {
	s := uint32(0)
	next := a.next
	for i, c := range b {
		s = next[s+uint32(a.class[c])]
		if s&hit != 0 {
			s &^= hit
			for _, w := range a.out[s/uint32(a.width)] {
				each(w, i+1)
			}
		}
	}
}
