package diskimage

import (
	"context"
	"encoding/binary"
)

const (
	// maxSnapshots is QEMU's QCOW_MAX_SNAPSHOTS, maxBitmaps its
	// QCOW2_MAX_BITMAPS (block/qcow2.h).
	maxSnapshots = 65536
	maxBitmaps   = 65535

	extensionBitmaps = 0x23852875
	autoclearBitmaps = 1 << 0

	snapshotFixed = 40 // bytes of a snapshot table entry before its variable part
	bitmapFixed   = 24 // of a bitmap directory entry
)

// refcounts reads the refcount table and counts it and its blocks. Where it
// cannot be read, refcounts stay unknown and are not compared.
func (c *qcow2Check) refcounts(context.Context) error {
	at := int64(binary.BigEndian.Uint64(c.raw[48:]))
	size := int64(binary.BigEndian.Uint32(c.raw[56:])) * c.cs
	switch {
	case at <= 0 || at%c.cs != 0:
		c.result.add("header", 48, "refcount table at offset %#x, want a multiple of the cluster size %d", at, c.cs)
		return nil
	case size == 0 || size > max(maxRefTableBytes, c.cs):
		c.result.add("header", 56, "refcount table of %d bytes, want one, of at most %d", size, maxRefTableBytes)
		return nil
	case at > c.d.fileSize-size:
		c.result.add("refcount table", at, "its %d bytes reach past the end of the file at %#x", size, c.d.fileSize)
		return nil
	}
	if err := c.use(at, size, "refcount table", countTable); err != nil {
		return err
	}
	order := uint(4)
	if c.d.h.version == 3 {
		order = uint(binary.BigEndian.Uint32(c.raw[96:]))
	}
	c.stored = refcountTable{order: order, blocks: make([]int64, size/8), each: c.cs * 8 >> order,
		read: func(p []byte, off int64) error { return readFull(c.d.r, p, off) }}
	c.stored.cache.init(c.cs, 1)
	seen := map[int64]bool{}
	return c.entries(at, size/8, "refcount table", func(i int64, e uint64) error {
		return c.refcountBlock(at+i*8, i, int64(e), seen)
	})
}

// refcountBlock checks entry e, with index i, of the refcount table.
func (c *qcow2Check) refcountBlock(at, i, e int64, seen map[int64]bool) error {
	c.stored.blocks[i] = -1
	switch {
	case e%c.cs != 0:
		c.result.add("refcount table", at, "entry %d is %#x, which is not on a cluster", i, e)
		return nil
	case e < 0 || e > c.d.fileSize-c.cs:
		c.result.add("refcount table", at, "entry %d is %#x, its refcount block reaches past the end of the file at %#x", i, e, c.d.fileSize)
		return nil
	case seen[e]:
		c.result.add("refcount table", at, "entry %d is %#x, as an entry before it", i, e)
		return c.use(e, c.cs, "refcount block", countTable)
	}
	seen[e] = true
	c.stored.blocks[i] = e
	return c.use(e, c.cs, "refcount block", countTable)
}

// compare holds the references counted against the refcounts of the file.
func (c *qcow2Check) compare(ctx context.Context) error {
	if c.stored.each == 0 {
		return nil // the table is broken, which has been said
	}
	clusters := ceilDiv(c.d.fileSize, c.cs)
	for _, i := range c.stored.visits(&c.refs) {
		if err := ctx.Err(); err != nil {
			return err
		}
		first := i * c.stored.each
		if first >= clusters || !c.stored.known(first) {
			continue
		}
		block, err := c.stored.block(i)
		if err != nil {
			return err
		}
		c.compareBlock(block, first, min(first+c.stored.each, clusters))
	}
	return nil
}

// compareBlock compares the clusters from first up to end, whose refcounts are
// in block, or all zero when that is nil.
func (c *qcow2Check) compareBlock(block []byte, first, end int64) {
	for i := first; i < end; {
		page := c.refs.pages[i/countPage]
		stop := min(end, i-i%countPage+countPage)
		if page == nil && block == nil {
			i = stop
			continue
		}
		for ; i < stop; i++ {
			var found uint16
			var stored uint64
			if page != nil {
				found = page[i%countPage]
			}
			if block != nil {
				stored = refcount(block, i-first, c.stored.order)
			}
			if found != 0 || stored != 0 {
				c.compareCluster(i*c.cs, found, stored)
			}
		}
	}
}

// compareCluster judges one cluster of the file.
func (c *qcow2Check) compareCluster(off int64, found uint16, stored uint64) {
	refs := uint64(found & maxCount)
	own := uint32(1)
	if n := c.tables[off]; n > 0 {
		own = n
	}
	switch {
	case stored < refs:
		c.result.add("cluster", off, "refcount %d, but %d references", stored, refs)
	case found&countTable != 0 && refs > uint64(own):
		c.result.add("cluster", off, "holds a table and is used %d times more", refs-uint64(own))
	case stored > refs && refs < maxCount:
		c.result.Leaked += c.cs
	}
}

// snapshots counts the snapshot table and the snapshots' L1 tables ("Snapshots"
// of the specification).
func (c *qcow2Check) snapshots(ctx context.Context) error {
	n := int64(binary.BigEndian.Uint32(c.raw[60:]))
	start := int64(binary.BigEndian.Uint64(c.raw[64:]))
	if n == 0 {
		return nil
	}
	if n > maxSnapshots || start <= 0 || start%c.cs != 0 {
		c.result.add("header", 60, "%d snapshots at offset %#x, want at most %d on a cluster", n, start, maxSnapshots)
		return nil
	}
	seen := map[int64]bool{}
	pos := start
	for range n {
		if err := ctx.Err(); err != nil {
			return err
		}
		var b [snapshotFixed]byte
		if ok, err := c.read(b[:], pos, "snapshot table"); !ok {
			return err
		}
		if err := c.snapshot(b[:], pos, seen); err != nil {
			return err
		}
		extra := int64(binary.BigEndian.Uint32(b[36:]))
		names := int64(binary.BigEndian.Uint16(b[12:])) + int64(binary.BigEndian.Uint16(b[14:]))
		pos += ceilDiv(snapshotFixed+extra+names, 8) * 8
	}
	return c.use(start, pos-start, "snapshot table", countTable)
}

// fits bounds the work: n bytes are the next of the tables of snapshots or
// bitmaps, which together take no more than the file unless they overlap.
func (c *qcow2Check) fits(structure string, at, n int64) bool {
	if n > c.d.fileSize-c.walked {
		c.result.add(structure, at, "a table of %d bytes, after others of %d, in a file of %d", n, c.walked, c.d.fileSize)
		return false
	}
	c.walked += n
	return true
}

// snapshot counts the L1 table of the snapshot whose entry b is at offset pos.
func (c *qcow2Check) snapshot(b []byte, pos int64, seen map[int64]bool) error {
	l1 := int64(binary.BigEndian.Uint64(b))
	entries := int64(binary.BigEndian.Uint32(b[8:]))
	switch {
	case l1 < 0 || l1%c.cs != 0:
		c.result.add("snapshot table", pos, "L1 table at offset %#x, want a multiple of the cluster size %d", l1, c.cs)
		return nil
	case entries*8 > maxL1Bytes:
		c.result.add("snapshot table", pos, "L1 table of %d entries, want at most %d", entries, maxL1Bytes/8)
		return nil
	case entries > 0 && seen[l1]: // walked already; the refcounts tell the rest
		return c.use(l1, entries*8, "snapshot's L1 table", countTable)
	}
	seen[l1] = true
	if !c.fits("snapshot table", pos, entries*8) {
		return nil
	}
	return c.l1Table(l1, entries, "snapshot's L1 table", nil)
}

// bitmaps counts what the bitmaps extension names. Without its autoclear bit
// the extension is stale and its clusters are leaks.
func (c *qcow2Check) bitmaps(ctx context.Context) error {
	if c.d.h.version < 3 || binary.BigEndian.Uint64(c.raw[88:])&autoclearBitmaps == 0 {
		return nil
	}
	headerLen := int64(binary.BigEndian.Uint32(c.raw[100:]))
	end := min(c.cs, c.d.fileSize)
	if at := int64(binary.BigEndian.Uint64(c.raw[8:])); at != 0 {
		end = at // the header was checked
	}
	extensions, err := readExtensions(c.d.r, headerLen, end)
	if err != nil {
		return err
	}
	for _, x := range extensions {
		if x.kind != extensionBitmaps {
			continue
		}
		if len(x.data) != 24 {
			c.result.add("bitmaps extension", x.offset, "has %d bytes, want 24", len(x.data))
			return nil
		}
		n := int64(binary.BigEndian.Uint32(x.data))
		size, at := binary.BigEndian.Uint64(x.data[8:]), int64(binary.BigEndian.Uint64(x.data[16:]))
		if n == 0 || n > maxBitmaps || at <= 0 || at%c.cs != 0 || size > uint64(c.d.fileSize) {
			c.result.add("bitmaps extension", x.offset, "%d bitmaps in a directory of %d bytes at offset %#x", n, size, at)
			return nil
		}
		return c.bitmapDirectory(ctx, at, int64(size), n)
	}
	c.result.add("header", 88, "autoclear bit 0 is set without a bitmaps extension")
	return nil
}

// bitmapDirectory counts the directory and what its entries name.
func (c *qcow2Check) bitmapDirectory(ctx context.Context, start, size, n int64) error {
	if err := c.use(start, size, "bitmap directory", countTable); err != nil {
		return err
	}
	pos := start
	seen := map[int64]bool{}
	for range n {
		if err := ctx.Err(); err != nil {
			return err
		}
		var b [bitmapFixed]byte
		if pos+bitmapFixed > start+size {
			c.result.add("bitmap directory", pos, "has %d bytes, its %d entries need more", size, n)
			return nil
		}
		if ok, err := c.read(b[:], pos, "bitmap directory"); !ok {
			return err
		}
		table, entries := int64(binary.BigEndian.Uint64(b[:])), int64(binary.BigEndian.Uint32(b[8:]))
		if table <= 0 || table%c.cs != 0 || seen[table] {
			c.result.add("bitmap directory", pos, "bitmap table at offset %#x", table)
			return nil
		}
		seen[table] = true
		if !c.fits("bitmap directory", pos, entries*8) {
			return nil
		}
		if err := c.bitmapTable(table, entries); err != nil {
			return err
		}
		extra, name := int64(binary.BigEndian.Uint32(b[20:])), int64(binary.BigEndian.Uint16(b[18:]))
		pos += ceilDiv(bitmapFixed+extra+name, 8) * 8
	}
	return nil
}

// bitmapTable counts a bitmap table and the bitmap's clusters.
func (c *qcow2Check) bitmapTable(at, entries int64) error {
	if err := c.use(at, entries*8, "bitmap table", countTable); err != nil {
		return err
	}
	return c.entries(at, entries, "bitmap table", func(i int64, e uint64) error {
		host := int64(e & entryOffset)
		if host%c.cs != 0 || e&^(entryOffset|1) != 0 || (host != 0 && e&1 != 0) {
			c.result.add("bitmap table", at+i*8, "entry %d is %#x", i, e)
			return nil
		}
		if host == 0 {
			return nil
		}
		return c.use(host, c.cs, "bitmap", countTable)
	})
}
