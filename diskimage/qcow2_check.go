package diskimage

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// maxCheckedTables bounds the L2 tables that are remembered, those of
// snapshots included: enough for 64 TiB with clusters of 64 KiB and for 4 TiB
// with clusters of 4 KiB.
const maxCheckedTables = 1 << 21

// Check walks what qemu-img check walks: header, refcount table and blocks, L1
// and L2 tables of the disk and of internal snapshots, the snapshot table and
// persistent bitmaps. It counts the references to every cluster of the file and
// compares them with the refcounts: too low a refcount is an error, too high a
// one a leak. Beyond that it inflates every compressed cluster. The backing
// file is not looked at.
//
// An error means that reading failed, that ctx was cancelled, or, matching
// ErrUnsupported, that the image is too large for the memory this may take
// (about 200 MiB).
func (d *QCOW2Disk) Check(ctx context.Context, progress func(done, total int64)) (CheckResult, error) {
	if progress == nil {
		progress = func(int64, int64) {}
	}
	c := &qcow2Check{d: d, cs: d.h.clusterSize(), tables: map[int64]uint32{}, progress: progress,
		refs: clusterCounts{pages: map[int64]*[countPage]uint16{}}}
	for _, step := range []func(context.Context) error{
		c.header, c.refcounts, c.activeL1, c.snapshots, c.bitmaps, c.l2Tables, c.compare,
	} {
		if err := step(ctx); err != nil {
			return c.result, fmt.Errorf("checking qcow2 image: %w", err)
		}
	}
	return c.result, nil
}

// qcow2Check is one run of Check.
type qcow2Check struct {
	d        *QCOW2Disk
	cs       int64 // cluster size
	raw      []byte
	result   CheckResult
	progress func(done, total int64)

	refs   clusterCounts
	stored refcountTable
	active []int64          // L2 tables of the disk, 0 where there is none
	tables map[int64]uint32 // all L2 tables, and how many L1 entries point there
	done   int64            // L2 tables walked
	walked int64            // bytes of the tables of snapshots and bitmaps
}

// header counts the header and keeps its fixed fields.
func (c *qcow2Check) header(context.Context) error {
	c.raw = make([]byte, min(c.d.fileSize, qcow2HeaderV3))
	if err := readFull(c.d.r, c.raw, 0); err != nil {
		return fmt.Errorf("reading header: %w", err)
	}
	return c.use(0, c.cs, "header", countTable)
}

// read fills p; what is not in the file is noted as a problem.
func (c *qcow2Check) read(p []byte, off int64, structure string) (bool, error) {
	if off < 0 || off > c.d.fileSize-int64(len(p)) {
		c.result.add(structure, off, "its %d bytes reach past the end of the file at %#x", len(p), c.d.fileSize)
		return false, nil
	}
	if err := readFull(c.d.r, p, off); err != nil {
		return false, fmt.Errorf("reading %s at offset %#x: %w", structure, off, err)
	}
	return true, nil
}

// use counts one reference to each cluster that the n bytes at off touch.
func (c *qcow2Check) use(off, n int64, structure string, flag uint16) error {
	return c.useTimes(off, n, 1, structure, flag)
}

// useTimes notes a range past the end of the file as a problem. Like QEMU it
// forgives less than a cluster, since a file may end within its last one.
func (c *qcow2Check) useTimes(off, n int64, times uint32, structure string, flag uint16) error {
	if n <= 0 {
		return nil
	}
	if off < 0 || off > c.d.fileSize || n-(c.d.fileSize-off) >= c.cs {
		c.result.add(structure, off, "%d bytes there reach past the end of the file at %#x", n, c.d.fileSize)
		return nil
	}
	for i := off / c.cs; i <= (off+n-1)/c.cs; i++ {
		if err := c.refs.add(i, times, flag); err != nil {
			return err
		}
	}
	return nil
}

// activeL1 reads the L1 table, entries beyond the end of the disk included.
func (c *qcow2Check) activeL1(context.Context) error {
	h := c.d.h
	c.active = make([]int64, h.l1Entries)
	return c.l1Table(h.l1Offset, h.l1Entries, "L1 table", func(i int64, e uint64) error {
		at := int64(e & entryOffset)
		if at%c.cs == 0 {
			c.active[i] = at
		}
		return c.copied("L1 table", h.l1Offset+i*8, e, at)
	})
}

// l1Table counts an L1 table and the L2 tables it names. each, when not nil, is
// called for entries that name one.
func (c *qcow2Check) l1Table(at, entries int64, structure string, each func(i int64, e uint64) error) error {
	if err := c.use(at, entries*8, structure, countTable); err != nil {
		return err
	}
	return c.entries(at, entries, structure, func(i int64, e uint64) error {
		l2 := int64(e & entryOffset)
		if e&^(entryOffset|entryCopied) != 0 {
			c.result.add(structure, at+i*8, "entry %d is %#x, reserved bits are set", i, e)
		}
		if l2 == 0 {
			return nil
		}
		if err := c.use(l2, c.cs, "L2 table", countTable); err != nil {
			return err
		}
		if l2%c.cs != 0 {
			c.result.add(structure, at+i*8, "entry %d points at %#x, which is not on a cluster", i, l2)
		} else if l2 <= c.d.fileSize-c.cs {
			c.tables[l2]++
		}
		if len(c.tables) > maxCheckedTables {
			return unsupportedf("more than %d L2 tables", maxCheckedTables)
		}
		if each != nil {
			return each(i, e)
		}
		return nil
	})
}

// entries calls each for the entries of a table that are not zero.
func (c *qcow2Check) entries(at, n int64, structure string, each func(i int64, e uint64) error) error {
	buf := make([]byte, min(n*8, 64<<10))
	for i := int64(0); i < n; i += int64(len(buf)) / 8 {
		buf = buf[:min(int64(len(buf)), (n-i)*8)]
		if ok, err := c.read(buf, at+i*8, structure); !ok {
			return err
		}
		for k := 0; k < len(buf); k += 8 {
			if e := binary.BigEndian.Uint64(buf[k:]); e != 0 {
				if err := each(i+int64(k)/8, e); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// copied checks the rule of the copied bit: set exactly if the refcount is 1.
func (c *qcow2Check) copied(structure string, at int64, e uint64, host int64) error {
	cluster := host / c.cs
	if c.stored.each == 0 || !c.stored.known(cluster) {
		return nil
	}
	n, err := c.stored.get(cluster)
	if err != nil {
		return err
	}
	if set := e&entryCopied != 0; set != (n == 1) {
		c.result.add(structure, at, "entry %#x has the copied bit %t where the refcount is %d", e, set, n)
	}
	return nil
}

// l2Tables walks every L2 table once: the disk's in the order of the disk, then
// those that only snapshots have in the order of the file.
func (c *qcow2Check) l2Tables(ctx context.Context) error {
	left := maps.Clone(c.tables)
	for i, at := range c.active {
		if n := left[at]; n > 0 {
			delete(left, at)
			if err := c.l2Table(ctx, at, n, int64(i)); err != nil {
				return err
			}
		}
	}
	for _, at := range slices.Sorted(maps.Keys(left)) {
		if err := c.l2Table(ctx, at, left[at], -1); err != nil {
			return err
		}
	}
	return nil
}

// l2Table walks the L2 table at offset at, which has index i in the disk's L1
// table or belongs to snapshots alone. times L1 entries point at it, so each of
// its references counts as many.
func (c *qcow2Check) l2Table(ctx context.Context, at int64, times uint32, i int64) error {
	var packed []mapping
	table := make([]byte, c.cs)
	if err := readFull(c.d.r, table, at); err != nil {
		return fmt.Errorf("reading L2 table at offset %#x: %w", at, err)
	}
	for k := range c.cs / 8 {
		e := binary.BigEndian.Uint64(table[k*8:])
		switch {
		case e == 0:
			continue
		case e&entryCompressed != 0:
			m, err := c.packedEntry(e, at+k*8, times)
			if err != nil {
				return err
			}
			if m.host < c.d.fileSize {
				packed = append(packed, m)
			}
		default:
			if err := c.plainEntry(e, at+k*8, times, i, k); err != nil {
				return err
			}
		}
		if i >= 0 && e&^(entryZero|entryCopied) != 0 {
			c.result.Used += c.cs
		}
	}
	c.done++
	c.progress(c.done*c.d.h.l2Span(), int64(len(c.tables))*c.d.h.l2Span())
	return c.inflate(ctx, packed)
}

// packedEntry checks and counts the entry of a compressed cluster.
func (c *qcow2Check) packedEntry(e uint64, at int64, times uint32) (mapping, error) {
	if e&entryCopied != 0 {
		c.result.add("L2 table", at, "entry %#x: a compressed cluster has the copied bit", e)
	}
	host, size := compressedPlace(e, c.d.h.clusterBits)
	err := c.useTimes(host, size, times, "compressed cluster", 0)
	return mapping{clusterCompressed, host, min(size, c.d.fileSize-host)}, err
}

// plainEntry checks and counts any other entry: k of the L2 table with index i.
func (c *qcow2Check) plainEntry(e uint64, at int64, times uint32, i, k int64) error {
	host := int64(e & entryOffset)
	if e&^(entryOffset|entryCopied|entryZero) != 0 {
		c.result.add("L2 table", at, "entry %#x has reserved bits set", e)
	}
	if e&entryZero != 0 && c.d.h.version == 2 {
		c.result.add("L2 table", at, "entry %#x: version 2 has no zero clusters", e)
	}
	if host == 0 {
		return nil
	}
	if host%c.cs != 0 {
		c.result.add("L2 table", at, "entry %#x: its offset is not on a cluster", e)
	}
	if err := c.useTimes(host, c.cs, times, "data cluster", 0); err != nil || i < 0 {
		return err
	}
	need := min(c.cs, c.d.h.size-i*c.d.h.l2Span()-k*c.cs)
	if e&entryZero == 0 && host < c.d.fileSize && host+need > c.d.fileSize {
		c.result.add("L2 table", at, "entry %#x: its cluster is cut by the end of the file at %#x", e, c.d.fileSize)
	}
	return c.copied("L2 table", at, e, host)
}

// inflate unpacks compressed clusters on all processors and notes those that
// do not give a whole cluster, in their order.
func (c *qcow2Check) inflate(ctx context.Context, packed []mapping) error {
	errs := make([]error, len(packed))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(packed)) {
		wg.Go(func() {
			out := make([]byte, c.cs)
			for i := next.Add(1) - 1; i < int64(len(packed)) && ctx.Err() == nil; i = next.Add(1) - 1 {
				errs[i] = c.d.codec.decompress(c.d.r, out, packed[i])
			}
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	for i, err := range errs {
		switch {
		case err == nil:
		case errors.Is(err, ErrCorrupt) || errors.Is(err, io.ErrUnexpectedEOF):
			c.result.add("compressed cluster", packed[i].host, "%v", err)
		default:
			return fmt.Errorf("reading compressed cluster at offset %#x: %w", packed[i].host, err)
		}
	}
	return nil
}
