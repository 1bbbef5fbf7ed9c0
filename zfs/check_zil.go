package zfs

import (
	"encoding/binary"

	"github.com/kldload/kldload/zfs/internal/block"
	"github.com/kldload/kldload/zfs/internal/ondisk"
)

// Parts of the intent log (sys/zil.h).
const (
	zilClaimTxg   = 0  // in the header: 0 unless an import claimed the log
	zilLog        = 16 // in the header: the first block
	chainNext     = 8  // in a block: the next
	chainUsed     = chainNext + ondisk.BlockPtrSize
	chainSum      = chainUsed + 8 // magic number and sum
	chainSize     = chainSum + 40
	chainUnit     = 4096 // of what is summed (ZIL_MIN_BLKSZ)
	recordSize    = 32   // lr_t: type, length, transaction group, sequence
	writeType     = 9    // TX_WRITE
	writePointer  = recordSize + 32
	maxChain      = 1 << 20 // blocks
	recordTypeLow = 1<<63 - 1
)

// checkZIL marks the blocks of a dataset's intent log, as far as the log goes:
// the first block that was not finished ends it. Blocks of transaction groups
// that were never finished are not in the space maps.
func (k *walk) checkZIL() {
	h := k.set.phys.ZIL
	if len(h) < zilLog+ondisk.BlockPtrSize {
		return
	}
	claim := le64(h[zilClaimTxg:])
	bp := ptrTable(h[zilLog : zilLog+ondisk.BlockPtrSize]).at(0)
	for n := uint64(0); n < maxChain && !bp.IsHole() && !bp.IsEmbedded(); n++ {
		w := where{set: k.set.name, object: 0, level: -2, block: n} // as zdb numbers them (ZB_ZIL_LEVEL)
		if bp.Birth() <= k.c.p.Txg() {
			k.c.markIfAllocated(bp, w)
		}
		b, err := k.c.p.dev.fetch(bp, 0, gangDepth)
		if err != nil || !chained(bp, b) {
			return
		}
		if claim != 0 && !k.encrypted {
			k.markRecords(b, claim, w)
		}
		bp = ptrTable(b[chainNext : chainNext+ondisk.BlockPtrSize]).at(0)
	}
}

// chained tells whether a block of the log was finished. Its sum starts from
// that in the pointer, which is random.
func chained(bp *ondisk.BlockPtr, b []byte) bool {
	if bp.Checksum() != ondisk.ChecksumZilog2 || len(b) < chainSize {
		return false
	}
	used := le64(b[chainUsed:])
	size := (used + chainUnit - 1) / chainUnit * chainUnit
	if used < chainSize || used > uint64(len(b)) || size > uint64(len(b)) {
		return false
	}
	var want [4]uint64
	part := append([]byte(nil), b[:size]...)
	for i, v := range bp.Sum() {
		want[i] = le64(part[chainSum+8+8*i:])
		binary.LittleEndian.PutUint64(part[chainSum+8+8*i:], v)
	}
	return block.Verify(part, ondisk.ChecksumZilog2, want) == nil
}

// markRecords marks the blocks that a claimed log's records of writes lead to.
func (k *walk) markRecords(b []byte, claim uint64, w where) {
	for rest := b[chainSize:min(uint64(len(b)), le64(b[chainUsed:]))]; len(rest) >= recordSize; {
		kind, size := le64(rest)&recordTypeLow, le64(rest[8:])
		if size < recordSize || size > uint64(len(rest)) {
			return
		}
		if kind == writeType && size >= writePointer+ondisk.BlockPtrSize {
			bp := ptrTable(rest[writePointer : writePointer+ondisk.BlockPtrSize]).at(0)
			if !bp.IsHole() && !bp.IsEmbedded() && bp.Birth() >= claim {
				k.c.markIfAllocated(bp, w)
			}
		}
		rest = rest[size:]
	}
}

// markIfAllocated marks a block of the log, which may be free again.
func (c *checker) markIfAllocated(bp *ondisk.BlockPtr, w where) {
	for i := range copiesOf(bp) {
		d := bp.DVA(i)
		if c.p.dev.checkDVA(d, d.ASize) != nil || !c.allocated.full(d.Offset, d.ASize) {
			return
		}
	}
	c.mark(bp, w)
}
