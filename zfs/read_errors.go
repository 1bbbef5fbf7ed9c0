package zfs

import (
	"fmt"

	"github.com/kldload/kldload/zfs/internal/ondisk"
)

// BlockError says which block of a pool is unreadable, and why.
type BlockError struct {
	// Dataset is the name of the file system, snapshot or volume; "MOS" is the
	// pool's own object set.
	Dataset string
	Object  uint64
	// Level is 0 for content, more for indirect blocks, -1 for a spill block.
	Level int
	// Block counts the blocks of that level.
	Block uint64
	// DVA is vdev:offset:size of the first copy in hexadecimal, as zdb prints it;
	// "" for a block that is stored nowhere.
	DVA string
	// Offset is the first copy's on the device in bytes, -1 where it has none.
	Offset int64
	Err    error
}

func (e *BlockError) Error() string {
	at := ""
	if e.Offset >= 0 {
		at = fmt.Sprintf(", at %d of the device (DVA %s)", e.Offset, e.DVA)
	}
	return fmt.Sprintf("%q object %d level %d block %d%s: %v", e.Dataset, e.Object, e.Level, e.Block, at, e.Err)
}

// Unwrap gives the cause.
func (e *BlockError) Unwrap() error { return e.Err }

// where names a block inside a pool.
type where struct {
	set    string
	object uint64
	level  int
	block  uint64
}

const levelSpill = -1

// wrap makes a BlockError of a problem with the block bp leads to.
func (w where) wrap(bp *ondisk.BlockPtr, err error) *BlockError {
	e := &BlockError{Dataset: w.set, Object: w.object, Level: w.level, Block: w.block, Offset: -1, Err: err}
	if bp != nil && bp.Copies() > 0 {
		d := bp.DVA(0)
		e.DVA, e.Offset = d.String(), int64(d.Offset)+ondisk.LabelStart
	}
	return e
}
