package zap

import "fmt"

// leafReader is a block that was found to be a leaf.
type leafReader struct {
	b         []byte
	n         uint64 // block number
	geo       geometry
	prefix    uint64
	prefixLen uint
	entries   int
	binary    bool
}

// chunkEntryPhys is zap_leaf_entry.
type chunkEntryPhys struct {
	next      uint16
	intSize   uint8
	nameChunk uint16
	nameInts  int
	valChunk  uint16
	valInts   int
	hash      uint64
}

// leafAt returns the leaf that pointer i leads to, whose prefix must be i's.
func (z *ZAP) leafAt(i uint64) (*leafReader, error) {
	table, first, err := z.pointers(i)
	if err != nil {
		return nil, err
	}
	n := le.Uint64(table[8*(i-first):])
	b, err := z.read(n, len(z.first))
	if err != nil {
		return nil, fmt.Errorf("leaf of pointer %d: %w", i, err)
	}
	l := &leafReader{
		b: b, n: n, geo: z.geo, binary: z.Binary(),
		prefix:    le.Uint64(b[16:]),
		prefixLen: uint(le.Uint16(b[32:])),
		entries:   int(le.Uint16(b[30:])),
	}
	if t, m := le.Uint64(b), le.Uint32(b[24:]); t != TypeLeaf || m != leafMagic {
		return nil, fmt.Errorf("block %d of pointer %d has type %#x and magic %#x, wanted a leaf's %#x and %#x",
			n, i, t, m, uint64(TypeLeaf), uint32(leafMagic))
	}
	if l.prefixLen > z.tableShift || l.prefix != i>>(z.tableShift-l.prefixLen) {
		return nil, fmt.Errorf("block %d: leaf with prefix %#x of %d bits, wanted that of pointer %d of 2^%d",
			n, l.prefix, l.prefixLen, i, z.tableShift)
	}
	return l, nil
}

func (l *leafReader) chunk(i uint16, kind byte) ([]byte, error) {
	if int(i) >= l.geo.chunks {
		return nil, fmt.Errorf("block %d: chunk %d of %d", l.n, i, l.geo.chunks)
	}
	off := leafHead + 2*l.geo.buckets + chunkSize*int(i)
	c := l.b[off : off+chunkSize]
	if c[0] != kind {
		return nil, fmt.Errorf("block %d: chunk %d has type %d, wanted %d", l.n, i, c[0], kind)
	}
	return c, nil
}

func (l *leafReader) entry(i uint16) (chunkEntryPhys, error) {
	c, err := l.chunk(i, chunkEntry)
	if err != nil {
		return chunkEntryPhys{}, err
	}
	e := chunkEntryPhys{
		intSize:   c[1],
		next:      le.Uint16(c[2:]),
		nameChunk: le.Uint16(c[4:]),
		nameInts:  int(le.Uint16(c[6:])),
		valChunk:  le.Uint16(c[8:]),
		valInts:   int(le.Uint16(c[10:])),
		hash:      le.Uint64(c[16:]),
	}
	if s := e.intSize; s != 1 && s != 2 && s != 4 && s != 8 {
		return chunkEntryPhys{}, fmt.Errorf("block %d: entry %d has integers of %d bytes, wanted 1, 2, 4 or 8", l.n, i, s)
	}
	if prefix(e.hash, l.prefixLen) != l.prefix {
		return chunkEntryPhys{}, fmt.Errorf("block %d: entry %d has hash %#x, wanted prefix %#x of %d bits", l.n, i, e.hash, l.prefix, l.prefixLen)
	}
	return e, nil
}

// array returns size bytes of the chain that starts with chunk i.
func (l *leafReader) array(i uint16, size int) ([]byte, error) {
	if size > l.geo.chunks*arrayBytes {
		return nil, fmt.Errorf("block %d: %d bytes from chunk %d on, a leaf holds %d", l.n, size, i, l.geo.chunks*arrayBytes)
	}
	out := make([]byte, 0, size)
	for len(out) < size {
		c, err := l.chunk(i, chunkArray)
		if err != nil {
			return nil, fmt.Errorf("byte %d of %d: %w", len(out), size, err)
		}
		out = append(out, c[1:1+min(arrayBytes, size-len(out))]...)
		i = le.Uint16(c[22:])
	}
	return out, nil
}

// name returns e's name without its NUL, or its key's words.
func (l *leafReader) name(e chunkEntryPhys) (string, error) {
	size := e.nameInts
	if l.binary {
		size *= 8
	}
	if size < 1 || size > maxNameRead+1 {
		return "", fmt.Errorf("block %d: name of %d bytes at chunk %d, wanted 1 to %d", l.n, size, e.nameChunk, maxNameRead+1)
	}
	b, err := l.array(e.nameChunk, size)
	if err != nil {
		return "", fmt.Errorf("name: %w", err)
	}
	if !l.binary {
		if b[size-1] != 0 {
			return "", fmt.Errorf("block %d: name %q at chunk %d ends without NUL", l.n, b, e.nameChunk)
		}
		b = b[:size-1]
	}
	return string(b), nil
}

func (l *leafReader) value(name string, e chunkEntryPhys) (Entry, error) {
	b, err := l.array(e.valChunk, e.valInts*int(e.intSize))
	if err != nil {
		return Entry{}, fmt.Errorf("value of %q: %w", name, err)
	}
	return newEntry(name, e.intSize, b), nil
}

// chain calls f for the entries of a bucket until it returns false.
func (l *leafReader) chain(bucket int, f func(chunkEntryPhys) (bool, error)) error {
	i := le.Uint16(l.b[leafHead+2*bucket:])
	for steps := 0; i != chainEnd; steps++ {
		if steps >= l.entries {
			return fmt.Errorf("block %d: bucket %d chains more than the leaf's %d entries", l.n, bucket, l.entries)
		}
		e, err := l.entry(i)
		if err != nil {
			return err
		}
		if got := l.geo.bucket(e.hash, l.prefixLen); got != bucket {
			return fmt.Errorf("block %d: entry %d is in bucket %d, wanted %d", l.n, i, bucket, got)
		}
		if more, err := f(e); err != nil || !more {
			return err
		}
		i = e.next
	}
	return nil
}

func (z *ZAP) lookupFat(name string) (found Entry, ok bool, err error) {
	if z.norm {
		err = z.walkLeaves(func(e Entry) error {
			if e.Name == name {
				found, ok = e, true
			}
			return nil
		})
		return found, ok, err
	}
	h := z.hash(name)
	l, err := z.leafAt(prefix(h, z.tableShift))
	if err != nil {
		return Entry{}, false, err
	}
	err = l.chain(l.geo.bucket(h, l.prefixLen), func(e chunkEntryPhys) (bool, error) {
		if e.hash != h {
			return true, nil
		}
		n, err := l.name(e)
		if err != nil || n != name {
			return true, err
		}
		found, err = l.value(n, e)
		ok = err == nil
		return false, err
	})
	return found, ok, err
}

func (z *ZAP) walkFat(f func(Entry) error) error {
	var stop error // f's own
	err := z.walkLeaves(func(e Entry) error {
		stop = f(e)
		return stop
	})
	if err != nil && stop == nil {
		return fmt.Errorf("walking ZAP: %w", err)
	}
	return err
}

// walkLeaves follows the pointers; a leaf of a short prefix has several in a row.
func (z *ZAP) walkLeaves(f func(Entry) error) error {
	var leaves, entries uint64
	for i := uint64(0); i < 1<<z.tableShift; {
		l, err := z.leafAt(i)
		if err != nil {
			return err
		}
		end := (l.prefix + 1) << (z.tableShift - l.prefixLen)
		if err := z.checkPointers(i, end, l.n); err != nil {
			return err
		}
		if err := z.walkLeaf(l, f); err != nil {
			return err
		}
		leaves, entries, i = leaves+1, entries+uint64(l.entries), end
	}
	if leaves != z.leaves || entries != z.len {
		return fmt.Errorf("%d leaves with %d entries, the header counts %d and %d", leaves, entries, z.leaves, z.len)
	}
	return nil
}

// checkPointers fails unless all pointers from first up to end lead to block n.
func (z *ZAP) checkPointers(first, end, n uint64) error {
	for i := first; i < end; {
		table, start, err := z.pointers(i)
		if err != nil {
			return err
		}
		for ; i < end && i-start < uint64(len(table)/8); i++ {
			if got := le.Uint64(table[8*(i-start):]); got != n {
				return fmt.Errorf("pointer %d leads to block %d, wanted %d, the leaf of pointers %d to %d", i, got, n, first, end-1)
			}
		}
	}
	return nil
}

// walkLeaf calls f for all entries of l, bucket by bucket.
func (z *ZAP) walkLeaf(l *leafReader, f func(Entry) error) error {
	count := 0
	for bucket := range l.geo.buckets {
		err := l.chain(bucket, func(e chunkEntryPhys) (bool, error) {
			if count++; count > l.entries {
				return false, nil
			}
			name, err := l.name(e)
			if err != nil {
				return false, err
			}
			if want := z.hash(name); z.flags == 0 && !z.norm && e.hash != want {
				return false, fmt.Errorf("block %d: entry %q has hash %#x, wanted %#x", l.n, name, e.hash, want)
			}
			entry, err := l.value(name, e)
			if err != nil {
				return false, err
			}
			return true, f(entry)
		})
		if err != nil {
			return err
		}
	}
	if count != l.entries {
		return fmt.Errorf("block %d: %d entries or more in its buckets, its header counts %d", l.n, count, l.entries)
	}
	return nil
}
