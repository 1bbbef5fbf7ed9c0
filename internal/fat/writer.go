package fat

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"
)

// Options of a new file system. The same options and calls give the same bytes.
type Options struct {
	Size  int64  // the volume in bytes, whole sectors
	Label string // at most 11 characters of upper-case ASCII; empty: none
	// VolumeID is the serial number, shown as 1234-ABCD; zero is kept.
	VolumeID uint32
	// Epoch is the time of directories, of the label and of files without
	// one of their own. Before 1980, the zero time too, means 1980-01-01 UTC.
	Epoch         time.Time
	Type          Type   // zero: by size
	SectorSize    int    // 512 (also when zero) or 4096, as the disk
	HiddenSectors uint32 // the first sector of the partition on its disk
}

// node is a file or directory to be.
type node struct {
	name     string
	units    []uint16
	longs    int // directory entries of the long name
	short    [11]byte
	dir      bool
	mod      time.Time
	start    uint32
	size     uint32
	parent   *node
	children []*node
	index    map[string]*node // by folded name
	entries  int64            // a directory's own, long ones and dots included
}

// run is a row of clusters and the one that follows it, or an end mark.
type run struct{ start, count, next uint32 }

// Writer lays out one file system. It is not safe for concurrent use.
type Writer struct {
	w      sparseWriter
	g      geometry
	opts   Options
	root   *node
	runs   []run  // in ascending order, without gaps
	next   uint32 // first free cluster
	owed   int64  // clusters the directories will take at Close
	buf    []byte
	broken error // set once bytes may be half written
}

// NewWriter plans a file system on w, which must read as zeros over opts.Size
// bytes from 0, and is written only where something is not zero: a new file must
// be given its length by the caller. Nothing valid is there before Close.
func NewWriter(w io.WriterAt, opts Options) (*Writer, error) {
	g, err := plan(opts)
	if err == nil {
		g.label, err = volumeLabel(opts.Label)
	}
	if err != nil {
		return nil, fmt.Errorf("planning FAT file system: %w", err)
	}
	fw := &Writer{w: sparseWriter{w}, g: g, opts: opts, next: 2,
		root: &node{dir: true, mod: opts.Epoch, index: map[string]*node{}}}
	if opts.Label != "" {
		fw.root.entries = 1
	}
	if g.typ == FAT32 { // the root starts in cluster 2, where MS says it usually is
		fw.root.start = fw.take(1)
	}
	return fw, nil
}

// volumeLabel checks and pads a label.
func volumeLabel(s string) (label [11]byte, err error) {
	copy(label[:], noLabel)
	if s == "" {
		return label, nil
	}
	for _, r := range s {
		if !isShortChar(r) && r != ' ' {
			return label, fmt.Errorf("label %q: character %q (want upper-case ASCII letters, digits, spaces or $%%'-_@~`!(){}^#&)", s, r)
		}
	}
	if len(s) > len(label) || strings.TrimSpace(s) != s {
		return label, fmt.Errorf("label %q (want at most 11 characters without spaces at the ends)", s)
	}
	copy(label[:], s+"           ")
	return label, nil
}

// Mkdir makes a directory and those above it. One that exists is left alone.
func (w *Writer) Mkdir(path string) error {
	if w.broken != nil {
		return fmt.Errorf("making directory %q: %w", path, w.broken)
	}
	if _, err := w.walk(path); err != nil {
		return fmt.Errorf("making directory %q: %w", path, err)
	}
	return nil
}

// Create writes a file of exactly size bytes from body, making the directories
// above it. A zero modTime means Options.Epoch; FAT keeps it to two seconds.
// A nil body is an empty one. After an error before the first byte of body (a name, a collision, no space)
// the writer can go on; directories made on the way stay.
func (w *Writer) Create(path string, size int64, body io.Reader, modTime time.Time) error {
	if err := w.create(path, size, body, modTime); err != nil {
		return fmt.Errorf("creating %q: %w", path, err)
	}
	return nil
}

func (w *Writer) create(path string, size int64, body io.Reader, modTime time.Time) error {
	if w.broken != nil {
		return w.broken
	}
	if size < 0 || size > maxFile {
		return fmt.Errorf("size %d (FAT holds files of 0 to %d bytes)", size, int64(maxFile))
	}
	if path = strings.Trim(path, "/"); !fs.ValidPath(path) {
		return errors.New("path has empty, . or .. parts")
	}
	parent, base := w.root, path
	if slash := strings.LastIndexByte(path, '/'); slash >= 0 {
		var err error
		if parent, err = w.walk(path[:slash]); err != nil {
			return err
		}
		base = path[slash+1:]
	}
	if modTime.IsZero() {
		modTime = w.opts.Epoch
	}
	n, err := newNode(base, modTime)
	if err != nil {
		return err
	}
	n.size = uint32(size)
	clusters := (size + w.g.clusterBytes() - 1) / w.g.clusterBytes()
	if err := w.admit(parent, n, clusters); err != nil {
		return err
	}
	n.start = w.take(clusters)
	if err := w.copy(n.start, size, body); err != nil {
		w.broken = fmt.Errorf("the volume is unfinished since creating %q: %w", path, err)
		return err
	}
	return nil
}

func newNode(name string, mod time.Time) (*node, error) {
	units, err := checkName(name)
	if err != nil {
		return nil, err
	}
	return &node{name: name, units: units, longs: longEntries(name, units), mod: mod}, nil
}

// walk gives the directory path, making what is missing.
func (w *Writer) walk(path string) (*node, error) {
	dir := w.root
	path = strings.Trim(path, "/")
	if path == "" {
		return dir, nil
	}
	if !fs.ValidPath(path) {
		return nil, errors.New("path has empty, . or .. parts")
	}
	parts := strings.Split(path, "/")
	if len(parts) >= maxDepth {
		return nil, fmt.Errorf("%d directories deep (want fewer than %d)", len(parts), maxDepth)
	}
	for _, part := range parts {
		child := dir.index[fold(part)]
		if child != nil && child.dir && child.name == part {
			dir = child
			continue
		}
		child, err := newNode(part, w.opts.Epoch)
		if err != nil {
			return nil, err
		}
		child.dir, child.index, child.entries = true, map[string]*node{}, 2
		if err := w.admit(dir, child, 0); err != nil {
			return nil, err
		}
		dir = child
	}
	return dir, nil
}

// admit puts n into dir when its name is free and there is room for it, for
// the directory entries it adds and for clusters of content.
func (w *Writer) admit(dir, n *node, clusters int64) error {
	if other := dir.index[fold(n.name)]; other != nil {
		return fmt.Errorf("%q is the same name on FAT as %q, which exists", n.name, other.name)
	}
	entries := dir.entries + 1 + int64(n.longs)
	limit := int64(maxEntries)
	if dir == w.root && w.g.typ != FAT32 {
		limit = w.g.rootEntries
	}
	if entries > limit {
		return fmt.Errorf("%w in the directory: %d entries needed, at most %d possible", ErrNoSpace, entries, limit)
	}
	owed := w.dirClusters(dir, entries) - w.dirClusters(dir, dir.entries)
	if n.dir {
		owed += w.dirClusters(n, n.entries)
	}
	if free := w.g.clusters + 2 - int64(w.next) - w.owed; owed+clusters > free {
		return fmt.Errorf("%w on the volume of %d bytes: %d bytes needed, %d available", ErrNoSpace, w.opts.Size,
			(owed+clusters)*w.g.clusterBytes(), free*w.g.clusterBytes())
	}
	dir.entries, w.owed = entries, w.owed+owed
	n.parent = dir
	dir.children = append(dir.children, n)
	dir.index[fold(n.name)] = n
	return nil
}

// dirClusters is what Close allocates for a directory of so many entries: all
// of it, but for the first cluster of the FAT32 root and the fixed root.
func (w *Writer) dirClusters(dir *node, entries int64) int64 {
	n := max((entries*entrySize+w.g.clusterBytes()-1)/w.g.clusterBytes(), 1)
	switch {
	case dir != w.root:
		return n
	case w.g.typ == FAT32:
		return n - 1
	}
	return 0
}

// take allocates n clusters in a row; 0 for none, as an empty file has it.
func (w *Writer) take(n int64) uint32 {
	if n == 0 {
		return 0
	}
	start := w.next
	w.runs = append(w.runs, run{start, uint32(n), w.g.typ.end()})
	w.next += uint32(n)
	return start
}

// copy streams body to the clusters from start.
func (w *Writer) copy(start uint32, size int64, body io.Reader) error {
	if w.buf == nil {
		w.buf = make([]byte, 1<<20)
	}
	if body == nil {
		body = strings.NewReader("")
	}
	off := int64(0)
	for off < size {
		p := w.buf[:min(size-off, int64(len(w.buf)))]
		n, err := io.ReadFull(body, p)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return fmt.Errorf("content ends after %d bytes (want %d)", off+int64(n), size)
		}
		if err != nil {
			return fmt.Errorf("reading content at %d: %w", off, err)
		}
		if err := w.w.write(p, w.g.clusterOffset(start)+off); err != nil {
			return err
		}
		off += int64(len(p))
	}
	var one [1]byte
	switch _, err := io.ReadFull(body, one[:]); {
	case err == nil:
		return fmt.Errorf("content goes on after %d bytes", size)
	case err != io.EOF:
		return fmt.Errorf("reading content at %d: %w", off, err)
	}
	return nil
}

// Close writes directories, tables and last the boot sectors. It does not close
// the target.
func (w *Writer) Close() error {
	if w.broken != nil {
		return fmt.Errorf("finishing FAT file system: %w", w.broken)
	}
	w.broken = errors.New("the writer is closed")
	if err := w.finish(); err != nil {
		return fmt.Errorf("finishing FAT file system: %w", err)
	}
	return nil
}
