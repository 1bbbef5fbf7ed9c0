package diskimage

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"sync"
)

// Compression is how a qcow2 writer stores clusters.
type Compression int

// The zero value is what every reader of qcow2 takes. Zstd needs QEMU 5.1.
const (
	CompressDeflate Compression = iota
	CompressZstd
	CompressNone
)

// DefaultClusterSize is QEMU's.
const DefaultClusterSize = 64 << 10

// QCOW2Options are the options of NewQCOW2Writer.
type QCOW2Options struct {
	Compression Compression
	// ClusterSize is a power of two from 512 B to 2 MiB; 0 means
	// DefaultClusterSize. Small clusters limit the disk: QEMU accepts 128 GiB
	// with 512 B.
	ClusterSize int
	// Backing, when set, is the disk below the image: only clusters that
	// differ from it are stored. It is the caller's, and it is read while the
	// image is written.
	Backing Disk
	// BackingName is the name of its file as the header stores it, at most
	// 1023 bytes; QEMU takes a relative one as relative to the image's folder.
	// BackingFormat is stored too, so that no reader has to guess. Both are
	// required with Backing and refused without.
	BackingName   string
	BackingFormat Format
	// NoDigest leaves the SHA-256 out, which reads the file back once.
	NoDigest bool
}

// QCOW2Writer is a Sink that writes a qcow2 version 3 image. Its layout is
// described in docs/design/qcow2.md.
type QCOW2Writer struct {
	out         bufferedTarget
	opts        QCOW2Options
	clusterBits uint
	size        int64 // of the disk, a multiple of 512

	next int64    // first cluster of the file that is not taken
	tail int64    // free byte in a cluster of compressed data; 0 when there is none
	refs []uint16 // refcount of each cluster below next
	l1   []uint64
	l2   []uint64 // the table for cur
	cur  int64    // index in l1, -1 before the first

	below sync.Pool // of *[]byte: blocks of the backing disk
}

// NewQCOW2Writer returns a sink for a qcow2 file. The options are checked when
// writing begins.
func NewQCOW2Writer(t Target, opts QCOW2Options) *QCOW2Writer {
	if opts.ClusterSize == 0 {
		opts.ClusterSize = DefaultClusterSize
	}
	return &QCOW2Writer{out: bufferedTarget{t: t}, opts: opts}
}

// BlockSize implements BlockSizer.
func (w *QCOW2Writer) BlockSize() int { return w.opts.ClusterSize }

func (w *QCOW2Writer) clusterSize() int64 { return 1 << w.clusterBits }
func (w *QCOW2Writer) l2Span() int64      { return 1 << (2*w.clusterBits - 3) }

// packs implements packer.
func (w *QCOW2Writer) packs() bool { return w.opts.Compression != CompressNone }

// Begin implements Sink.
func (w *QCOW2Writer) Begin(size int64) error {
	for w.clusterBits = minClusterBits; w.clusterBits < maxClusterBits && w.clusterSize() < int64(w.opts.ClusterSize); {
		w.clusterBits++
	}
	if w.clusterSize() != int64(w.opts.ClusterSize) {
		return fmt.Errorf("qcow2 cluster size %d, want a power of two from %d to %d", w.opts.ClusterSize, 1<<minClusterBits, maxClusterSize)
	}
	if w.opts.Compression < CompressDeflate || w.opts.Compression > CompressNone {
		return fmt.Errorf("qcow2 compression %d, want one of the named values", w.opts.Compression)
	}
	if err := w.checkBacking(); err != nil {
		return err
	}
	// QEMU counts sectors and drops what is left over, so the disk is rounded
	// up to a sector as QEMU's raw driver does.
	w.size = ceilDiv(size, 512) * 512
	entries := max(1, ceilDiv(w.size, w.l2Span()))
	if entries*8 > maxL1Bytes {
		return fmt.Errorf("qcow2 disk of %d bytes with clusters of %d: QEMU accepts at most %d bytes, use larger clusters",
			size, w.clusterSize(), w.l2Span()*maxL1Bytes/8)
	}
	w.l1 = make([]uint64, entries)
	w.l2 = make([]uint64, w.clusterSize()/8)
	w.cur = -1
	w.refs = []uint16{1} // the header
	w.next = w.clusterSize()
	if err := w.out.t.Truncate(0); err != nil {
		return fmt.Errorf("emptying qcow2 target: %w", err)
	}
	return nil
}

// Encode implements Sink.
func (w *QCOW2Writer) Encode(b *Block) (Commit, error) {
	plan, err := w.plan(b)
	if err != nil {
		return nil, err
	}
	if w.opts.Compression == CompressNone {
		return func(context.Context) error { return w.commitPlain(b, plan) }, nil
	}
	clusters, err := b.compressedWhere(packing{w.opts.Compression == CompressZstd, w.opts.ClusterSize},
		func(i int) bool { return plan[i] == clusterPlain })
	if err != nil {
		return nil, err
	}
	return func(context.Context) error { return w.commitCompressed(b, plan, clusters) }, nil
}

// commitPlain gives each run of clusters that hold data a place and writes it
// in one go.
func (w *QCOW2Writer) commitPlain(b *Block, plan []clusterKind) error {
	cs := w.clusterSize()
	for i := 0; i < len(plan); {
		if plan[i] != clusterPlain {
			if err := w.markZero(b, plan, i); err != nil {
				return err
			}
			i++
			continue
		}
		from := i
		for i < len(plan) && plan[i] == clusterPlain {
			off := b.Offset + int64(i)*cs
			if i > from && off%w.l2Span() == 0 {
				break // this cluster is in another L2 table, which takes a cluster
			}
			if err := w.selectL2(off); err != nil {
				return err
			}
			w.l2[w.index(off)] = uint64(w.next+int64(i-from)*cs) | entryCopied
			i++
		}
		if err := w.out.write(b.buf[int64(from)*cs:int64(i)*cs], w.take(int64(i-from))); err != nil {
			return err
		}
	}
	return nil
}

func (w *QCOW2Writer) commitCompressed(b *Block, plan []clusterKind, clusters [][]byte) error {
	for i, p := range clusters {
		if plan[i] != clusterPlain {
			if err := w.markZero(b, plan, i); err != nil {
				return err
			}
			continue
		}
		off := b.Offset + int64(i)<<w.clusterBits
		if err := w.selectL2(off); err != nil {
			return err
		}
		var host int64
		var entry uint64
		if len(p) == w.opts.ClusterSize {
			host = w.take(1)
			entry = uint64(host) | entryCopied
		} else {
			host = w.takeBytes(int64(len(p)))
			// "Compressed Clusters Descriptor": the sectors after the first.
			sectors := (host%512 + int64(len(p)) - 1) / 512
			entry = uint64(host) | uint64(sectors)<<(62-(w.clusterBits-8)) | entryCompressed
		}
		w.l2[w.index(off)] = entry
		if err := w.out.write(p, host); err != nil {
			return err
		}
	}
	return nil
}

// index is the index of the guest cluster at off in its L2 table.
func (w *QCOW2Writer) index(off int64) int64 { return off % w.l2Span() >> w.clusterBits }

// selectL2 makes w.l2 the table for off and writes the one it was.
func (w *QCOW2Writer) selectL2(off int64) error {
	if i := off / w.l2Span(); i != w.cur {
		if err := w.flushL2(); err != nil {
			return err
		}
		w.cur = i
	}
	return nil
}

func (w *QCOW2Writer) flushL2() error {
	if w.cur < 0 {
		return nil
	}
	at := w.take(1)
	w.l1[w.cur] = uint64(at) | entryCopied
	err := w.out.write(bigEndian(w.l2), at)
	clear(w.l2)
	return err
}

// take takes n whole clusters at the end of the file.
func (w *QCOW2Writer) take(n int64) int64 {
	at := w.next
	w.next += n << w.clusterBits
	for range n {
		w.refs = append(w.refs, 1)
	}
	return at
}

// takeBytes takes n bytes for a compressed cluster. Such data is packed byte by
// byte: it goes on where the one before ended, across clusters of the file when
// the next one is still free, and starts in a new one otherwise.
func (w *QCOW2Writer) takeBytes(n int64) int64 {
	cs := w.clusterSize()
	at := w.tail
	if at == 0 || (at%cs+n > cs && ceilDiv(at, cs)*cs != w.next) || w.refs[at/cs] == math.MaxUint16 {
		at = w.next
	}
	end := at + n
	for w.next < end {
		w.refs = append(w.refs, 0)
		w.next += cs
	}
	for c := at / cs; c <= (end-1)/cs; c++ {
		w.refs[c]++
	}
	w.tail = end
	if end%cs == 0 {
		w.tail = 0
	}
	return at
}

// Finish implements Sink.
func (w *QCOW2Writer) Finish(ctx context.Context) (Result, error) {
	if err := w.writeTables(); err != nil {
		return Result{}, err
	}
	r := Result{Format: QCOW2, Size: w.next}
	if w.opts.NoDigest {
		return r, nil
	}
	var err error
	if r.SHA256, err = hashTarget(ctx, w.out.t, w.next); err != nil {
		return Result{}, fmt.Errorf("hashing qcow2 file: %w", err)
	}
	return r, nil
}

// writeTables writes the last L2 table, then refcount blocks, refcount table
// and L1 table, and last of all the header, so that a file cut short has none.
func (w *QCOW2Writer) writeTables() error {
	if err := w.flushL2(); err != nil {
		return err
	}
	cs := w.clusterSize()
	l1Clusters := ceilDiv(int64(len(w.l1))*8, cs)
	blocks, tableClusters := w.refcountClusters(l1Clusters)
	if tableClusters*cs > maxRefTableBytes {
		return fmt.Errorf("qcow2 file of %d bytes needs a refcount table of %d bytes, QEMU accepts %d: use larger clusters",
			w.next, tableClusters*cs, maxRefTableBytes)
	}
	blocksAt, tableAt, l1At := w.take(blocks), w.take(tableClusters), w.take(l1Clusters)
	table := make([]uint64, tableClusters*cs/8)
	block := make([]byte, cs)
	for i := range blocks {
		table[i] = uint64(blocksAt + i*cs)
		clear(block)
		for j, n := range w.refs[i*cs/2 : min(int64(len(w.refs)), (i+1)*cs/2)] {
			binary.BigEndian.PutUint16(block[j*2:], n)
		}
		if err := w.out.write(block, blocksAt+i*cs); err != nil {
			return err
		}
	}
	if err := w.out.write(bigEndian(table), tableAt); err != nil {
		return err
	}
	l1 := make([]uint64, l1Clusters*cs/8)
	copy(l1, w.l1)
	if err := w.out.write(bigEndian(l1), l1At); err != nil {
		return err
	}
	if err := w.out.write(w.header(l1At, tableAt, tableClusters), 0); err != nil {
		return err
	}
	return w.out.flush()
}

// refcountClusters returns what refcount blocks and table take when more
// clusters are still to come. They count themselves, so their size is a fixed
// point; it grows with the number of clusters and settles at once.
func (w *QCOW2Writer) refcountClusters(more int64) (blocks, table int64) {
	cs := w.clusterSize()
	for {
		total := int64(len(w.refs)) + blocks + table + more
		b := ceilDiv(total, cs/2) // entries of 16 bits
		t := ceilDiv(b*8, cs)
		if b == blocks && t == table {
			return blocks, table
		}
		blocks, table = b, t
	}
}

// header returns the first cluster. Deflate images have the shortest version 3
// header, which readers from before the compression type take.
func (w *QCOW2Writer) header(l1At, tableAt, tableClusters int64) []byte {
	b := make([]byte, w.clusterSize())
	be := binary.BigEndian
	be.PutUint32(b[0:], qcow2Magic)
	be.PutUint32(b[4:], 3)
	be.PutUint32(b[20:], uint32(w.clusterBits))
	be.PutUint64(b[24:], uint64(w.size))
	be.PutUint32(b[36:], uint32(len(w.l1)))
	be.PutUint64(b[40:], uint64(l1At))
	be.PutUint64(b[48:], uint64(tableAt))
	be.PutUint32(b[56:], uint32(tableClusters))
	be.PutUint32(b[96:], 4) // refcount_order: 16 bits
	be.PutUint32(b[100:], uint32(w.headerLen()))
	if w.opts.Compression == CompressZstd {
		be.PutUint64(b[72:], featureCompression)
		b[104] = compressionZstd
	}
	w.putBacking(b)
	return b
}

func bigEndian(entries []uint64) []byte {
	b := make([]byte, len(entries)*8)
	for i, e := range entries {
		binary.BigEndian.PutUint64(b[i*8:], e)
	}
	return b
}
