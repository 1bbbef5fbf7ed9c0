package zfs

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/kldload/kldload/zfs/internal/ondisk"
)

// maxProblems bounds the list of a report; what is beyond is counted.
const maxProblems = 1000

// CheckOptions say how to check a pool.
type CheckOptions struct {
	// Progress is told of the bytes of allocated space that were looked at, from
	// several goroutines; nil is told nothing.
	Progress func(done, total int64)
}

// Problem is something in a pool that is not as it must be.
type Problem struct {
	// What is wrong, in a few words that are the same for all problems of a kind.
	What string
	// Dataset is the file system, snapshot or volume, "MOS" for the pool's own
	// objects, "" for labels and space.
	Dataset string
	Object  uint64
	// Level is 0 for content, more for indirect blocks, -1 for a spill block.
	Level int
	Block uint64
	// Offset on the device in bytes, -1 where the problem has no place.
	Offset int64
	Err    error
}

func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.What)
	if p.Dataset != "" {
		fmt.Fprintf(&b, ": %q", p.Dataset)
		if p.Object != 0 || p.Offset >= 0 {
			fmt.Fprintf(&b, " object %d", p.Object)
		}
		if p.Offset >= 0 {
			fmt.Fprintf(&b, " level %d block %d", p.Level, p.Block)
		}
	}
	if p.Offset >= 0 {
		fmt.Fprintf(&b, " at %d of the device", p.Offset)
	}
	if p.Err != nil {
		fmt.Fprintf(&b, ": %v", p.Err)
	}
	return b.String()
}

// CheckReport is what a check found.
type CheckReport struct {
	// Problems, in order of their place; the first 1000 found.
	Problems []Problem
	// MoreProblems counts those beyond.
	MoreProblems int
	// Unverified says what could not be judged, in sentences.
	Unverified []string

	Labels, Uberblocks          int   // good ones
	Datasets, Snapshots         int   // that were gone through
	Objects, Files, Directories int64 // of all of them
	Blocks, Copies              int64 // stored blocks, each once, and their copies
	Bytes                       int64 // read and verified
	Allocated, Referenced       int64 // by the space maps, by what refers to blocks
}

// OK says that nothing was found to be wrong.
func (r *CheckReport) OK() bool { return len(r.Problems) == 0 }

// Check reads the whole pool: labels and uberblocks, every copy of every block
// of all datasets and snapshots, and holds against each other what the pool
// says twice: space maps and the blocks in use, sizes, counts of files and of their
// names, and the space that files, users and datasets take.
//
// What is wrong is in the report; the error is ctx's alone. Memory is two bits for
// each sector of the pool and a few dozen bytes for each file of a dataset.
func (p *Pool) Check(ctx context.Context, o CheckOptions) (*CheckReport, error) {
	c := &checker{p: p, ctx: ctx, opts: o, slots: make(chan struct{}, runtime.GOMAXPROCS(0)), notes: map[string]int{},
		checked: map[ondisk.BlockPtr]*walk{}}
	if err := p.checkable(); err != nil {
		return nil, err
	}
	c.checkLabels()
	c.loadSpace()
	c.checkSets()
	c.markLoose()
	c.compareSpace()
	c.checkDirs()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("zfs: checking pool %q: %w", p.Name(), err)
	}
	return c.finish(), nil
}

// maxSectors bounds the memory for the two maps: 1 GiB each.
const maxSectors = 1 << 33

func (p *Pool) checkable() error {
	if n := p.vdev.asize >> p.vdev.ashift; n > maxSectors {
		return fmt.Errorf("zfs: checking pool %q: %d sectors: want at most %d", p.Name(), n, int64(maxSectors))
	}
	if have := uint64(max(0, p.size-ondisk.LabelStart)); p.vdev.asize > have {
		return fmt.Errorf("zfs: checking pool %q: the vdev has %d bytes, the device %d", p.Name(), p.vdev.asize+ondisk.LabelStart, p.size)
	}
	return nil
}

// checker is a check under way.
type checker struct {
	p     *Pool
	ctx   context.Context
	opts  CheckOptions
	slots chan struct{} // a place for each goroutine besides the first

	allocated, referenced bitmap
	clones                clones
	total                 int64 // bytes allocated
	leaksUnknown          string
	checked               map[ondisk.BlockPtr]*walk // by the root of the set

	done                                atomic.Int64
	objects, files, dirs, blocks, reads atomic.Int64
	bytes                               atomic.Int64

	mu     sync.Mutex
	report CheckReport
	notes  map[string]int
	broken bool // a block with pointers was unreadable: what is below is not known
}

func (c *checker) problem(p Problem) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.report.Problems) >= maxProblems {
		c.report.MoreProblems++
		return
	}
	c.report.Problems = append(c.report.Problems, p)
}

// at reports a problem with the block bp leads to.
func (c *checker) at(w where, bp *ondisk.BlockPtr, what string, err error) {
	offset := int64(-1)
	if bp != nil && bp.Copies() > 0 {
		offset = int64(bp.DVA(0).Offset) + ondisk.LabelStart
	}
	c.problem(Problem{what, w.set, w.object, w.level, w.block, offset, err})
}

// wrong reports a problem with an object, or with a dataset as object 0. A
// BlockError below says where.
func (c *checker) wrong(set string, object uint64, what string, err error) {
	p := Problem{What: what, Dataset: set, Object: object, Offset: -1, Err: err}
	var b *BlockError
	if errors.As(err, &b) {
		p = Problem{what, b.Dataset, b.Object, b.Level, b.Block, b.Offset, b.Err}
	}
	c.problem(p)
}

// note counts what could not be verified.
func (c *checker) note(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.notes[what]++
}

// spawn runs f, in a goroutine of its own when one is free.
func (c *checker) spawn(wg *sync.WaitGroup, f func()) {
	select {
	case c.slots <- struct{}{}:
		wg.Go(func() {
			defer func() { <-c.slots }()
			f()
		})
	default:
		f()
	}
}

// checkSets goes through the pool's own objects and all datasets. Snapshots go
// before what was written later, so that each block is read where it first is.
func (c *checker) checkSets() {
	c.checkMOS()
	for _, d := range c.p.dirs {
		var fresh uint64
		for _, s := range d.sets() {
			if c.ctx.Err() != nil {
				return
			}
			fresh += c.checkSet(s)
		}
		c.compareDir(d, fresh)
	}
}

func (c *checker) finish() *CheckReport {
	r := &c.report
	r.Objects, r.Files, r.Directories = c.objects.Load(), c.files.Load(), c.dirs.Load()
	r.Blocks, r.Copies, r.Bytes = c.blocks.Load(), c.reads.Load(), c.bytes.Load()
	slices.SortStableFunc(r.Problems, func(a, b Problem) int {
		return strings.Compare(a.sortKey(), b.sortKey())
	})
	for what, n := range c.notes {
		if n > 1 {
			what = fmt.Sprintf("%s (%d times)", what, n)
		}
		r.Unverified = append(r.Unverified, what)
	}
	slices.Sort(r.Unverified)
	return r
}

func (p Problem) sortKey() string {
	return fmt.Sprintf("%s\x00%020d%03d%020d%020d%s%v", p.Dataset, p.Object, p.Level+1, p.Block, p.Offset+1, p.What, p.Err)
}
