package fat

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
)

// What Open takes at most, whatever the volume says. An EFI system partition
// has hundreds of entries; these bounds keep memory below about 300 MB.
const (
	maxTreeEntries = 1 << 20
	maxTreeBytes   = 256 << 20
)

// Open reads the boot sector and all directories of the size bytes of r. File
// contents and their cluster chains are read when a file is opened. The result
// is safe for concurrent use when r is.
func Open(r io.ReaderAt, size int64) (*FS, error) {
	b := make([]byte, 512)
	if err := readFull(r, b, 0); err != nil {
		return nil, fmt.Errorf("reading FAT boot sector: %w", err)
	}
	g, err := parseBoot(b, size)
	if err != nil {
		return nil, fmt.Errorf("reading FAT boot sector: %w", err)
	}
	f := &FS{r: r, g: g}
	if err := f.scan(); err != nil {
		return nil, err
	}
	return f, nil
}

// parseBoot decodes sector 0 (MS "Boot Sector and BPB") and holds every field
// to the size of the volume.
func parseBoot(b []byte, size int64) (geometry, error) {
	le := binary.LittleEndian
	g := geometry{
		sector: int64(le.Uint16(b[11:])), perCluster: int64(b[13]), reserved: int64(le.Uint16(b[14:])),
		fats: int64(b[16]), rootEntries: int64(le.Uint16(b[17:])), sectors: int64(le.Uint16(b[19:])),
		fatSectors: int64(le.Uint16(b[22:])), hidden: le.Uint32(b[28:]),
	}
	if b[510] != 0x55 || b[511] != 0xAA {
		return g, fmt.Errorf("signature % x at offset 510 (want 55 aa)", b[510:512])
	}
	tail := 36
	if g.fatSectors == 0 { // as Linux and mtools tell FAT32: small ones exist
		g.typ, g.fatSectors, g.root = FAT32, int64(le.Uint32(b[36:])), le.Uint32(b[44:])&0x0FFFFFFF
		if flags := le.Uint16(b[40:]); flags&0x80 != 0 { // BPB_ExtFlags: one table in use
			g.activeFAT = int64(flags & 15)
		}
		if v := le.Uint16(b[42:]); v != 0 {
			return g, fmt.Errorf("FAT32 version %#04x at offset 42 (want 0)", v)
		}
		tail = 64
	}
	if g.sectors == 0 {
		g.sectors = int64(le.Uint32(b[32:]))
	}
	copy(g.label[:], noLabel)
	if b[tail+2] == 0x29 { // BS_BootSig: serial number and label are there
		g.volumeID = le.Uint32(b[tail+3:])
		copy(g.label[:], b[tail+7:])
	}
	return g, g.check(size)
}

// check holds a decoded geometry together and counts the clusters.
func (g *geometry) check(size int64) error {
	switch {
	case g.sector < 512 || g.sector > 4096 || g.sector&(g.sector-1) != 0:
		return fmt.Errorf("%d bytes per sector at offset 11 (want 512, 1024, 2048 or 4096)", g.sector)
	case g.perCluster == 0 || g.perCluster&(g.perCluster-1) != 0:
		return fmt.Errorf("%d sectors per cluster at offset 13 (want a power of two)", g.perCluster)
	case g.reserved == 0:
		return fmt.Errorf("no reserved sectors at offset 14 (want at least the boot sector)")
	case g.fats == 0 || g.activeFAT >= g.fats:
		return fmt.Errorf("%d tables at offset 16, number %d in use (want one that exists)", g.fats, g.activeFAT)
	case g.fatSectors == 0:
		return fmt.Errorf("tables of no sectors at offsets 22 and 36")
	case g.sectors > size/g.sector:
		return fmt.Errorf("%d sectors of %d bytes at offset 19 or 32, beyond the %d bytes there are", g.sectors, g.sector, size)
	case g.typ == FAT32 && g.rootEntries != 0:
		return fmt.Errorf("%d root entries at offset 17 (FAT32 wants 0)", g.rootEntries)
	case g.dataOffset() > g.sectors*g.sector:
		return fmt.Errorf("tables and root directory reach to %d, beyond the volume of %d bytes", g.dataOffset(), g.sectors*g.sector)
	}
	g.clusters = (g.sectors - g.dataOffset()/g.sector) / g.perCluster
	if g.typ != FAT32 { // MS "FAT Type Determination"
		if g.typ = FAT16; g.clusters < 4085 {
			g.typ = FAT12
		}
	}
	// A table may be too short for the last clusters; Linux then ignores those.
	covered := g.fatSectors*g.sector*8/int64(g.typ) - 2
	g.clusters = min(g.clusters, covered, 0x0FFFFFF5)
	if g.clusters < 1 {
		return fmt.Errorf("a volume of %d sectors has no clusters", g.sectors)
	}
	return nil
}

// scanner walks all directories once. A cluster that turns up twice means a
// loop or a directory with two parents, and is an error: trees only.
type scanner struct {
	*FS
	seen    map[uint32]bool
	entries int
	bytes   int64
}

// found is a directory on the way; only parents are kept, as whole paths of a
// hostile volume would add up to gigabytes.
type found struct {
	dir    *entry
	parent *found
	depth  int
}

func (at *found) path() string {
	if at.parent == nil {
		return "/"
	}
	return at.parent.path() + at.dir.name + "/"
}

func (f *FS) scan() error {
	s := scanner{FS: f, seen: map[uint32]bool{}}
	f.root = &entry{name: ".", dir: true, start: f.g.root}
	queue := []*found{{f.root, nil, 0}}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		if err := s.directory(at); err != nil {
			return fmt.Errorf("reading FAT directory %q: %w", at.path(), err)
		}
		for _, c := range at.dir.children {
			if c.dir {
				queue = append(queue, &found{c, at, at.depth + 1})
			}
		}
	}
	return nil
}

func (s *scanner) directory(at *found) error {
	if at.depth >= maxDepth {
		return fmt.Errorf("%d directories deep (want fewer than %d)", at.depth, maxDepth)
	}
	b, place, err := s.content(at.dir)
	if err != nil {
		return err
	}
	p := dirParser{place: place, root: at.depth == 0}
	if err := p.parse(b); err != nil {
		return err
	}
	if s.entries += len(p.entries); s.entries > maxTreeEntries {
		return fmt.Errorf("more than %d entries on the volume", maxTreeEntries)
	}
	if p.hasLabel {
		s.label = p.label
	}
	at.dir.index = make(map[string]*entry, len(p.entries))
	for _, e := range p.entries {
		if other := at.dir.index[fold(e.name)]; other != nil {
			return fmt.Errorf("entry %q at offset %d has the name of %q at offset %d", e.name, e.at, other.name, other.at)
		}
		at.dir.index[fold(e.name)] = e
	}
	slices.SortFunc(p.entries, func(a, b *entry) int { return strings.Compare(a.name, b.name) })
	at.dir.children = p.entries
	return nil
}

// content reads a whole directory and gives the place of each of its bytes on
// the volume.
func (s *scanner) content(dir *entry) ([]byte, func(int) int64, error) {
	if dir == s.root && s.g.typ != FAT32 {
		b := make([]byte, s.g.rootEntries*entrySize)
		at := s.g.rootOffset()
		return b, func(i int) int64 { return at + int64(i) }, readFull(s.r, b, at)
	}
	cb := s.g.clusterBytes()
	limit := max(maxEntries*entrySize/cb, 1)
	var b []byte
	var chain []uint32
	walk := s.walkChain()
	for c := dir.start; ; {
		if err := s.g.inRange(c); err != nil {
			return nil, nil, err
		}
		if s.seen[c] {
			return nil, nil, fmt.Errorf("cluster %d at offset %d is part of a directory already read (a loop)", c, s.g.clusterOffset(c))
		}
		s.seen[c] = true
		if int64(len(chain)) >= limit {
			return nil, nil, fmt.Errorf("more than %d entries, in cluster %d", maxEntries, c)
		}
		if s.bytes += cb; s.bytes > maxTreeBytes {
			return nil, nil, fmt.Errorf("more than %d bytes of directories on the volume", int64(maxTreeBytes))
		}
		chain = append(chain, c)
		b = append(b, make([]byte, cb)...)
		if err := readFull(s.r, b[int64(len(b))-cb:], s.g.clusterOffset(c)); err != nil {
			return nil, nil, fmt.Errorf("cluster %d: %w", c, err)
		}
		next, last, err := walk.after(c)
		if err != nil {
			return nil, nil, err
		}
		if last {
			return b, func(i int) int64 { return s.g.clusterOffset(chain[int64(i)/cb]) + int64(i)%cb }, nil
		}
		c = next
	}
}

func (g *geometry) inRange(c uint32) error {
	if c < 2 || int64(c) >= g.clusters+2 {
		return fmt.Errorf("cluster %d is not one of the volume's 2 to %d", c, g.clusters+1)
	}
	return nil
}

// chainWalker follows a table with a window of it in memory.
type chainWalker struct {
	f   *FS
	buf []byte
	off int64 // of buf on the volume; -1 when empty
}

func (f *FS) walkChain() *chainWalker { return &chainWalker{f: f, off: -1} }

const window = 16 << 10

// after follows the table from c: the next cluster, or that c is the last.
func (w *chainWalker) after(c uint32) (next uint32, last bool, err error) {
	v, err := w.entry(c)
	if err != nil {
		return 0, false, err
	}
	g := &w.f.g
	if v >= g.typ.end()&^7 {
		return 0, true, nil
	}
	if err := g.inRange(v); err != nil {
		at := g.fatOffset(g.activeFAT) + int64(c)*int64(g.typ)/8
		return 0, false, fmt.Errorf("allocation table at offset %d, entry %d: %w", at, c, err)
	}
	return v, false, nil
}

// entry gives what the table says of c, 0 where it is free.
func (w *chainWalker) entry(c uint32) (uint32, error) {
	g := &w.f.g
	bit := int64(c) * int64(g.typ)
	at := g.fatOffset(g.activeFAT) + bit/8
	if w.off < 0 || at < w.off || at+4 > w.off+int64(len(w.buf)) {
		w.off = at / window * window
		end := min(w.off+window+4, g.fatOffset(g.activeFAT+1)+4)
		w.buf = append(w.buf[:0], make([]byte, end-w.off)...)
		// The four bytes behind the table are never used; they may be missing.
		if n, err := w.f.r.ReadAt(w.buf, w.off); int64(n) < min(end, g.sectors*g.sector)-w.off {
			return 0, fmt.Errorf("allocation table at offset %d: %w", w.off, unexpected(err))
		}
	}
	v := binary.LittleEndian.Uint32(w.buf[at-w.off:])
	if g.typ == FAT12 {
		v >>= bit % 8
	}
	return v & g.typ.end(), nil
}

func readFull(r io.ReaderAt, b []byte, off int64) error {
	if n, err := r.ReadAt(b, off); n < len(b) {
		return fmt.Errorf("%d bytes at offset %d: %w", len(b), off, unexpected(err))
	}
	return nil
}

func unexpected(err error) error {
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
