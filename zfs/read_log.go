package zfs

import (
	"errors"
	"fmt"

	"github.com/kldload/kldload/zfs/internal/ondisk"
)

// Words of zil_header_t, and bytes of lr_t (sys/zil.h).
const (
	zilReplaySeq = 8 // in the header: the last record that was replayed
	recordTxg    = 16
	recordSeq    = 24
)

// LogRecords counts what the intent log of a file system holds that is not in
// its files yet: what programs wrote and synced before a machine lost its
// power. An import replays it; a reader of the files does not see it.
func (p *Pool) LogRecords(dataset string) (int, error) {
	s := p.findSet(dataset)
	if s == nil {
		return 0, fmt.Errorf("zfs: the intent log of dataset %q: the pool has none of that name", dataset)
	}
	set, err := p.dev.openObjset(s.name, &s.bp)
	if err != nil {
		return 0, fmt.Errorf("zfs: the intent log of dataset %q: %w", dataset, err)
	}
	h := set.phys.ZIL
	if len(h) < zilLog+ondisk.BlockPtrSize {
		return 0, nil
	}
	claim, replayed, count := le64(h[zilClaimTxg:]), le64(h[zilReplaySeq:]), 0
	bp := ptrTable(h[zilLog : zilLog+ondisk.BlockPtrSize]).at(0)
	for n := 0; !bp.IsHole() && !bp.IsEmbedded(); n++ {
		if n == maxChain {
			return 0, errors.New("zfs: the intent log does not end")
		}
		b, err := p.dev.fetch(bp, 0, gangDepth)
		if err != nil || !chained(bp, b) {
			break // the first block that was not finished ends the log
		}
		for rest := b[chainSize:le64(b[chainUsed:])]; len(rest) >= recordSize; {
			size := le64(rest[8:])
			if size < recordSize || size > uint64(len(rest)) {
				break
			}
			txg, seq := le64(rest[recordTxg:]), le64(rest[recordSeq:])
			if claim == 0 && txg > p.Txg() || claim != 0 && txg >= claim && seq > replayed {
				count++
			}
			rest = rest[size:]
		}
		bp = ptrTable(b[chainNext : chainNext+ondisk.BlockPtrSize]).at(0)
	}
	return count, nil
}
