package diskimage

import (
	"context"
	"fmt"
	"io"
)

// Target is where a sink writes: an *os.File open for reading and writing, or
// anything like it. What it held before is dropped.
type Target interface {
	io.WriterAt
	io.ReaderAt // the finished image is read back to hash it
	Truncate(size int64) error
}

// Result describes a finished image.
type Result struct {
	Format Format
	Size   int64  // length of the file in bytes
	SHA256 string // of the whole file, in hex; empty when it was not asked for
}

// Sink turns the blocks of a disk into one output. Write calls Begin once, then
// Encode for every block that holds data, then Finish once; after an error of
// any sink nothing more is called.
//
// A sink that cannot work on blocks smaller than some size also has a method
// BlockSize() int, see BlockSizer.
type Sink interface {
	// Begin takes the size of the disk in bytes.
	Begin(size int64) error

	// Encode does the costly part of the work on one block. It is called by
	// several goroutines at once and in no order, so the bytes it makes may
	// depend on the block alone. The Commit it returns, when not nil, is
	// called later by one goroutine in the order of the blocks; that is where
	// output whose place depends on what came before is written. The block
	// stays as it is until Commit has returned.
	Encode(b *Block) (commit Commit, err error)

	// Finish writes what is left to write. It is not called while a commit
	// runs. The Finish of several sinks run at once.
	Finish(ctx context.Context) (Result, error)
}

// Commit is the part of a sink's work on a block that has to be in order.
type Commit func(ctx context.Context) error

// BlockSizer is a Sink that wants its blocks to be a multiple of a size: a
// power of two up to 2 MiB.
type BlockSizer interface {
	BlockSize() int
}

// extentUser is a Sink that has to see more than the data of the disk: every
// block that extents of its own touch, even when the disk has only zeros there.
// Such a block goes to no sink that did not ask for it.
type extentUser interface {
	// nextExtent is for the sink's extents what Disk.NextData is for data. It
	// is called after Begin, by one goroutine, while blocks are encoded.
	nextExtent(off int64) (start, end int64, err error)
}

// releaser is a Sink that holds more than its target. Write calls release when
// it returns, whether or not Finish was called.
type releaser interface {
	release() error
}

// Block is a piece of a disk on its way to the sinks, aligned to its size.
type Block struct {
	// Offset is the block's place on the disk.
	Offset int64
	// Data is what the disk holds there, never all zero unless the sink has
	// extents of its own. It is as long as every other block's, or ends with
	// the disk. Sinks do not change it.
	Data []byte

	buf     []byte // Data, then zeros up to the full size
	extents []extent
	codec   *compressor
	asked   []bool // by sink: whether its own extents touch the block
	packed  map[packing]*packedClusters
	arena   []byte
	grains  []encodedGrain // see encodeGrains

	commits []Commit
	ready   chan struct{} // closed when commits are known
	left    counter       // sinks that are not done with the block
}

// packing names one way to compress a block.
type packing struct {
	zstd bool
	size int
}

// packedClusters is what has been compressed in one way so far.
type packedClusters struct {
	clusters [][]byte
	done     []bool
}

// compressed cuts the block into clusters of the given size, the last one
// filled with zeros, and compresses each by itself. An all-zero cluster gives
// nil, one that does not shrink gives its own bytes. The work is done once for
// all sinks that ask for the same; the result lives as long as the block.
func (b *Block) compressed(p packing) ([][]byte, error) {
	return b.compressedWhere(p, func(int) bool { return true })
}

// compressedWhere compresses only the clusters with an index that is wanted.
// What the result holds for others is not defined.
func (b *Block) compressedWhere(p packing, wanted func(i int) bool) ([][]byte, error) {
	have := b.packed[p]
	if have == nil {
		n := ceilDiv(int64(len(b.Data)), int64(p.size))
		have = &packedClusters{make([][]byte, n), make([]bool, n)}
		b.packed[p] = have
	}
	for i, done := range have.done {
		if done || !wanted(i) {
			continue
		}
		var err error
		if have.clusters[i], err = b.compressCluster(p, i*p.size); err != nil {
			return nil, fmt.Errorf("compressing at offset %#x: %w", b.Offset+int64(i*p.size), err)
		}
		have.done[i] = true
	}
	return have.clusters, nil
}

// compressCluster compresses the cluster that begins at byte at of the block.
func (b *Block) compressCluster(p packing, at int) ([]byte, error) {
	cluster := b.buf[at : at+p.size]
	if isZero(cluster) {
		return nil, nil
	}
	from := len(b.arena)
	arena, err := b.codec.compress(b.arena, cluster, p.zstd)
	if err != nil {
		return nil, err
	}
	if len(arena)-from >= p.size {
		b.arena = arena[:from]
		return cluster, nil
	}
	b.arena = arena
	return arena[from:len(arena):len(arena)], nil
}
