package diskimage

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
)

// QCOW2ReadOptions are the options of OpenQCOW2.
type QCOW2ReadOptions struct {
	// OpenBacking opens the backing file a header names. The format is empty
	// when the header does not say. Bounding the chain's depth and refusing
	// loops is its job; Open does both. When nil, an image with a backing
	// file is refused.
	OpenBacking func(name string, format Format) (Disk, error)
}

// QCOW2Disk is an open qcow2 image.
type QCOW2Disk struct {
	r        io.ReaderAt
	fileSize int64
	h        *qcow2Header
	l1       []int64 // offset of each L2 table, 0 where there is none
	tables   []int64 // the same offsets, sorted
	backing  Disk
	cache    tableCache
	codec    decompressor
}

// OpenQCOW2 opens the qcow2 image of size bytes in r. The image's tables are
// checked as they are used; the header and L1 table at once.
func OpenQCOW2(r io.ReaderAt, size int64, opts QCOW2ReadOptions) (*QCOW2Disk, error) {
	h, err := parseQCOW2Header(r, size)
	if err != nil {
		return nil, err
	}
	d := &QCOW2Disk{r: r, fileSize: size, h: h}
	d.cache.init(h.clusterSize(), 1)
	d.codec.init(h)
	if err := d.readL1(); err != nil {
		return nil, err
	}
	if h.backingName == "" {
		return d, nil
	}
	if opts.OpenBacking == nil {
		return nil, unsupportedf("backing file %q: opening backing files is not allowed here", h.backingName)
	}
	if d.backing, err = opts.OpenBacking(h.backingName, h.backingFormat); err != nil {
		return nil, fmt.Errorf("backing file %q: %w", h.backingName, err)
	}
	return d, nil
}

// Size implements Disk.
func (d *QCOW2Disk) Size() int64 { return d.h.size }

// Info implements Image.
func (d *QCOW2Disk) Info() Info {
	i := Info{Format: QCOW2, VirtualSize: d.h.size, BlockSize: d.h.clusterSize(), Compression: "deflate", Backing: d.h.backingName,
		Details: []Detail{{"version", strconv.Itoa(int(d.h.version))}}}
	if d.h.zstd {
		i.Compression = "zstd"
	}
	if d.h.backingFormat != "" {
		i.Details = append(i.Details, Detail{"backing format", string(d.h.backingFormat)})
	}
	return i
}

// Close closes the backing disk, when it can be closed. The reader given to
// OpenQCOW2 stays the caller's.
func (d *QCOW2Disk) Close() error {
	if c, ok := d.backing.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// readL1 reads the L1 table and checks that no two entries share a table and
// that no table lies on the header or the L1 table. So each L2 table is read
// for one range of the disk only, and nothing can be cyclic.
func (d *QCOW2Disk) readL1() error {
	h := d.h
	b := make([]byte, h.l1Entries*8)
	if err := readFull(d.r, b, h.l1Offset); err != nil {
		return fmt.Errorf("reading L1 table at offset %#x: %w", h.l1Offset, err)
	}
	d.l1 = make([]int64, ceilDiv(h.size, h.l2Span()))
	for i := range d.l1 {
		e := binary.BigEndian.Uint64(b[i*8:])
		at := int64(e & entryOffset)
		switch {
		case e&^(entryOffset|entryCopied) != 0:
			return corruptf("reading L1 table at offset %#x: entry %d is %#x, reserved bits are set", h.l1Offset, i, e)
		case at == 0:
			continue
		case at%h.clusterSize() != 0:
			return corruptf("reading L1 table at offset %#x: entry %d points at %#x, which is not on a cluster", h.l1Offset, i, at)
		case at > d.fileSize-h.clusterSize():
			return corruptf("reading L1 table at offset %#x: entry %d points at %#x, its L2 table reaches past the end of the file at %#x", h.l1Offset, i, at, d.fileSize)
		}
		if what := d.fixedMetadata(at); what != "" {
			return corruptf("reading L1 table at offset %#x: entry %d points at %#x, inside the %s", h.l1Offset, i, at, what)
		}
		d.l1[i] = at
		d.tables = append(d.tables, at)
	}
	slices.Sort(d.tables)
	for i := 1; i < len(d.tables); i++ {
		if d.tables[i] == d.tables[i-1] {
			return corruptf("reading L1 table at offset %#x: two entries point at the L2 table at offset %#x", h.l1Offset, d.tables[i])
		}
	}
	return nil
}

// fixedMetadata names the table that owns the cluster at off, or nothing.
func (d *QCOW2Disk) fixedMetadata(off int64) string {
	cs := d.h.clusterSize()
	l1End := d.h.l1Offset + ceilDiv(d.h.l1Entries*8, cs)*cs
	switch {
	case off < cs:
		return "header"
	case off >= d.h.l1Offset && off < l1End:
		return "L1 table"
	case off >= d.h.refTable && off < d.h.refTable+d.h.refClusters*cs:
		return "refcount table"
	}
	return ""
}

// metadata is fixedMetadata with the L2 tables.
func (d *QCOW2Disk) metadata(off int64) string {
	off -= off % d.h.clusterSize()
	if _, hit := slices.BinarySearch(d.tables, off); hit {
		return "L2 table there"
	}
	return d.fixedMetadata(off)
}

type clusterKind int

const (
	clusterUnallocated clusterKind = iota // the backing file shows, or zeros
	clusterZero
	clusterPlain
	clusterCompressed
)

// mapping tells where one guest cluster lies in the file.
type mapping struct {
	kind clusterKind
	host int64 // offset in the file
	size int64 // bytes there; of a compressed cluster an upper bound
}

// lookup finds the mapping of the guest cluster that holds off.
func (d *QCOW2Disk) lookup(off int64) (mapping, error) {
	table, index, err := d.l2(off)
	if err != nil || table == nil {
		return mapping{}, err
	}
	return d.decode(off, binary.BigEndian.Uint64(table[index*8:]))
}

// l2 returns the L2 table for off, nil when there is none, and off's index.
func (d *QCOW2Disk) l2(off int64) ([]byte, int64, error) {
	i := off / d.h.l2Span()
	at := d.l1[i]
	if at == 0 {
		return nil, 0, nil
	}
	table, err := d.cache.get(at, func(b []byte) error { return readFull(d.r, b, at) })
	if err != nil {
		return nil, 0, fmt.Errorf("reading L2 table %d at offset %#x: %w", i, at, err)
	}
	return table, off % d.h.l2Span() >> d.h.clusterBits, nil
}

// decode reads one L2 entry ("Standard Cluster Descriptor" and "Compressed
// Clusters Descriptor" of the specification) and checks what it points at.
func (d *QCOW2Disk) decode(off int64, e uint64) (mapping, error) {
	if e&entryCompressed != 0 {
		return d.decodeCompressed(off, e)
	}
	cs := d.h.clusterSize()
	host := int64(e & entryOffset)
	switch {
	case e&^(entryOffset|entryCopied|entryZero) != 0:
		return mapping{}, d.entryError(off, e, "reserved bits are set")
	case host%cs != 0:
		return mapping{}, d.entryError(off, e, "its offset is not on a cluster")
	case e&entryZero != 0 && d.h.version == 2:
		return mapping{}, d.entryError(off, e, "version 2 has no zero clusters")
	case e&entryZero != 0:
		return mapping{kind: clusterZero}, nil
	case host == 0:
		return mapping{}, nil
	case host >= d.fileSize:
		return mapping{}, d.entryError(off, e, fmt.Sprintf("past the end of the file at %#x", d.fileSize))
	}
	if what := d.metadata(host); what != "" {
		return mapping{}, d.entryError(off, e, "inside the "+what)
	}
	return mapping{clusterPlain, host, cs}, nil
}

// compressedPlace takes the entry of a compressed cluster apart. The size goes
// up to the end of the last sector.
func compressedPlace(e uint64, clusterBits uint) (host, size int64) {
	x := 62 - (clusterBits - 8)
	host = int64(e & (1<<x - 1))
	sectors := int64(e&(entryCompressed-1))>>x + 1
	return host, sectors*512 - host%512
}

func (d *QCOW2Disk) decodeCompressed(off int64, e uint64) (mapping, error) {
	host, size := compressedPlace(e, d.h.clusterBits)
	if e&entryCopied != 0 {
		return mapping{}, d.entryError(off, e, "a compressed cluster has the copied bit")
	}
	if host >= d.fileSize {
		return mapping{}, d.entryError(off, e, fmt.Sprintf("past the end of the file at %#x", d.fileSize))
	}
	// The last sector may be cut at the end of the file; what the stream
	// needs is known only once it is inflated.
	size = min(size, d.fileSize-host)
	for _, at := range [2]int64{host, host + size - 1} {
		if what := d.metadata(at); what != "" {
			return mapping{}, d.entryError(off, e, "inside the "+what)
		}
	}
	return mapping{clusterCompressed, host, size}, nil
}

func (d *QCOW2Disk) entryError(off int64, e uint64, problem string) error {
	i := off / d.h.l2Span()
	return corruptf("reading L2 table %d at offset %#x: entry %d is %#x: %s",
		i, d.l1[i], off%d.h.l2Span()>>d.h.clusterBits, e, problem)
}

// NextData implements Disk.
func (d *QCOW2Disk) NextData(off int64) (start, end int64, err error) {
	var below extent // the backing disk's data at or after off, once it is known
	for off < d.h.size {
		kind, end, err := d.sameKind(off)
		if err != nil {
			return 0, 0, err
		}
		switch {
		case kind == clusterPlain || kind == clusterCompressed:
			return off, end, nil
		case kind == clusterUnallocated && d.backing != nil:
			if below.end <= off {
				if below, err = d.dataBelow(off); err != nil {
					return 0, 0, err
				}
			}
			if below.start < end {
				return max(off, below.start), min(below.end, end), nil
			}
		}
		off = end
	}
	return d.h.size, d.h.size, nil
}

// dataBelow returns the backing disk's first data at or after off; when there
// is none, it lies past any disk.
func (d *QCOW2Disk) dataBelow(off int64) (extent, error) {
	none := extent{math.MaxInt64, math.MaxInt64}
	if off >= d.backing.Size() {
		return none, nil
	}
	start, end, err := d.backing.NextData(off)
	if err != nil {
		return none, fmt.Errorf("backing file %q: %w", d.h.backingName, err)
	}
	if start >= end {
		return none, nil
	}
	return extent{start, end}, nil
}

// sameKind returns the kind of the cluster at off and the end of the run of
// clusters like it, looking no further than the L2 table. The two kinds of data
// count as one.
func (d *QCOW2Disk) sameKind(off int64) (clusterKind, int64, error) {
	tableEnd := min(off-off%d.h.l2Span()+d.h.l2Span(), d.h.size)
	table, i, err := d.l2(off)
	if err != nil || table == nil {
		return clusterUnallocated, tableEnd, err
	}
	first, err := d.decode(off, binary.BigEndian.Uint64(table[i*8:]))
	if err != nil {
		return 0, 0, err
	}
	pos := off
	for {
		pos += d.h.clusterSize() - pos%d.h.clusterSize()
		i++
		if pos >= tableEnd {
			return first.kind, tableEnd, nil
		}
		m, err := d.decode(pos, binary.BigEndian.Uint64(table[i*8:]))
		if err != nil {
			return 0, 0, err
		}
		if m.kind != first.kind && (m.kind < clusterPlain || first.kind < clusterPlain) {
			return first.kind, pos, nil
		}
	}
}

// ReadAt implements Disk.
func (d *QCOW2Disk) ReadAt(p []byte, off int64) (int, error) {
	return readRuns(p, off, d.h.size, d.readRun)
}
