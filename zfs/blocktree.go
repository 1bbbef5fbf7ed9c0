package zfs

import "github.com/kldload/kldload/zfs/internal/ondisk"

// fanout is how many pointers an indirect block has.
const fanout = 1 << (ondisk.IndirectShift - 7)

// blockTree gathers the pointers to an object's blocks, in order, and writes
// the indirect blocks as they fill. It belongs to the committer.
type blockTree struct {
	pipe   *pipe
	set    *objset
	typ    ondisk.ObjectType
	copies int
	// lowCopies are those of pointers to content itself.
	lowCopies int
	levels    int
	used      uint64 // bytes of the indirect blocks, all copies
	stack     []indirect
	top       []ondisk.BlockPtr
}

// indirect is a block of pointers being filled; nil data is all holes so far.
type indirect struct {
	data  []byte
	count int
	fill  uint64
}

// treeLevels is how deep a tree over n blocks must be when the dnode has room
// for roots pointers.
func treeLevels(n int64, roots int) int {
	levels := 1
	for ; n > int64(roots); levels++ {
		n = (n + fanout - 1) / fanout
	}
	return levels
}

func newBlockTree(p *pipe, set *objset, typ ondisk.ObjectType, copies, levels int) *blockTree {
	return &blockTree{pipe: p, set: set, typ: typ, copies: copies, lowCopies: copies, levels: levels, stack: make([]indirect, levels)}
}

// add takes the next pointer of a level; 0 is content.
func (t *blockTree) add(level int, ptr *ondisk.BlockPtr) error {
	if level == t.levels-1 {
		t.top = append(t.top, *ptr)
		return nil
	}
	in := &t.stack[level]
	if !ptr.IsHole() {
		if in.data == nil {
			in.data = make([]byte, 1<<ondisk.IndirectShift)
		}
		copy(in.data[in.count*ondisk.BlockPtrSize:], ptr[:])
		in.fill += ptr.Fill()
	}
	in.count++
	if in.count == fanout {
		return t.close(level)
	}
	return nil
}

// addHoles passes over n blocks of content, whole subtrees at a time.
func (t *blockTree) addHoles(n int64) error {
	var hole ondisk.BlockPtr
	for n > 0 {
		level, span := 0, int64(1)
		for level < t.levels-1 && t.stack[level].count == 0 && n >= span*fanout {
			level, span = level+1, span*fanout
		}
		if err := t.add(level, &hole); err != nil {
			return err
		}
		n -= span
	}
	return nil
}

// close stores the block of pointers to level, and adds it one level up.
func (t *blockTree) close(level int) error {
	in := &t.stack[level]
	var ptr ondisk.BlockPtr
	if in.data != nil {
		var err error
		copies := t.copies
		if level == 0 {
			copies = t.lowCopies
		}
		ptr, err = t.pipe.store(t.set, &logical{
			data: in.data, typ: t.typ, level: level + 1, fill: in.fill, copies: copies, method: t.set.metaMethod,
		})
		if err != nil {
			return err
		}
		t.used += ptr.ASize()
	}
	*in = indirect{}
	return t.add(level+1, &ptr)
}

// finish stores what is not full yet and gives the pointers for the dnode, at
// least one.
func (t *blockTree) finish() ([]ondisk.BlockPtr, error) {
	for level := 0; level < t.levels-1; level++ {
		if t.stack[level].count > 0 {
			if err := t.close(level); err != nil {
				return nil, err
			}
		}
	}
	if len(t.top) == 0 {
		t.top = make([]ondisk.BlockPtr, 1)
	}
	return t.top, nil
}
