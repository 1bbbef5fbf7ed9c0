package zfs

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/kldload/kldload/zfs/internal/block"
	"github.com/kldload/kldload/zfs/internal/ondisk"
	"github.com/kldload/kldload/zfs/internal/zap"
)

const (
	slotsPerBlock = ondisk.DnodeBlockSize / ondisk.DnodeSize
	// metaLevels is the depth of the dnodes' tree: kernels make that of a file
	// system as deep as it can ever be (dmu_objset_create_impl).
	metaLevels   = 6
	metaPointers = 3
)

// objset is an object set being written. Object numbers are handed out by the
// writer's caller, everything else belongs to the committer until the last
// flush.
type objset struct {
	pipe       *pipe
	kind       ondisk.ObjsetType
	metaMethod block.Method
	metaCopies int

	// What its blocks take: allocated, as stored and as they would be without
	// compression (dsl_dataset_block_born).
	used, compressed, uncompressed uint64
	content                        uint64 // bytes of files, without holes

	numbers objectNumbers
	dnodes  []dnodeBlock
	objects uint64

	accounting accounting
	// What its blocks and dnodes make active.
	zstd, largeBlocks, largeDnodes bool
}

func newFileSet(p *pipe, metaCopies int, acc accounting) *objset {
	s := &objset{
		pipe: p, kind: ondisk.ObjsetZFS, metaMethod: block.Method{Compression: ondisk.CompressLZ4}, metaCopies: metaCopies, accounting: acc,
	}
	s.numbers.blocks[lasting] = 0
	s.numbers.slots[lasting] = 1 // object 0 is the dnodes' own
	s.numbers.next = 1
	return s
}

// count adds what a block takes.
func (s *objset) count(ptr *ondisk.BlockPtr) {
	if ptr.IsHole() {
		return
	}
	psize := uint64(0)
	if !ptr.IsEmbedded() {
		psize = uint64(ptr.PSize())
	}
	s.used += ptr.ASize()
	s.compressed += psize
	if ptr.Type() == ondisk.TypePlainFile && ptr.Level() == 0 {
		s.content += uint64(ptr.LSize())
	}
	s.zstd = s.zstd || ptr.Compression() == ondisk.CompressZSTD
	s.largeBlocks = s.largeBlocks || ptr.LSize() > ondisk.OldMaxBlock
	if ptr.Level() > 0 || ptr.Type().IsMetadata() {
		s.uncompressed += psize // BP_GET_UCSIZE
	} else {
		s.uncompressed += uint64(ptr.LSize())
	}
}

// Objects are numbered in two runs of dnode blocks: passing ones are complete
// when the next comes, so that their blocks can be packed; lasting ones
// (directories) are complete in the end.
type objectRun int

const (
	passing objectRun = iota
	lasting
)

// objectNumbers hands out object numbers.
type objectNumbers struct {
	blocks [2]int // where each run is
	slots  [2]int // slots taken in that block; 0 is none begun
	next   int    // first block of no run
}

// take gives the number of a new object of some slots. left is the block that
// is full now, or -1.
func (n *objectNumbers) take(run objectRun, slots int) (object uint64, left int) {
	left = -1
	if n.slots[run] == 0 || n.slots[run]+slots > slotsPerBlock {
		if n.slots[run] != 0 {
			left = n.blocks[run]
		}
		n.blocks[run], n.slots[run] = n.next, 0
		n.next++
	}
	object = uint64(n.blocks[run]*slotsPerBlock + n.slots[run])
	n.slots[run] += slots
	return object, left
}

// dnodeBlock is 16 KiB of dnodes: raw while it fills, packed to its stored form
// when full.
type dnodeBlock struct {
	raw    []byte
	packed *stored
	fill   uint64
}

// newObject numbers an object, and has the block that it left packed.
func (s *objset) newObject(run objectRun, slots int) uint64 {
	object, left := s.numbers.take(run, slots)
	if left >= 0 && run == passing {
		s.pipe.do(func() error { return s.pack(left) })
	}
	return object
}

// setDnode puts an object's dnode into its block.
func (s *objset) setDnode(object uint64, d *ondisk.Dnode) error {
	n := int(object / slotsPerBlock)
	for len(s.dnodes) <= n {
		s.dnodes = append(s.dnodes, dnodeBlock{})
	}
	b := &s.dnodes[n]
	if err := s.unpack(b); err != nil {
		return err
	}
	if b.raw == nil {
		b.raw = make([]byte, ondisk.DnodeBlockSize)
	}
	at := int(object%slotsPerBlock) * ondisk.DnodeSize
	d.Put(b.raw[at : at+d.Slots*ondisk.DnodeSize])
	b.fill++
	s.objects++
	s.largeDnodes = s.largeDnodes || d.Slots > 1
	return nil
}

func (s *objset) dnodeLogical(b *dnodeBlock) *logical {
	return &logical{data: b.raw, typ: ondisk.TypeDnode, fill: b.fill, copies: s.metaCopies, method: s.metaMethod}
}

// pack replaces a full block's bytes by their stored form.
func (s *objset) pack(n int) error {
	b := &s.dnodes[n]
	out, err := s.pipe.own.encode(s.dnodeLogical(b), &s.pipe.packed)
	if err != nil {
		return err
	}
	if out.compression != ondisk.CompressOff {
		out.data = slices.Clone(out.data)
		b.packed, b.raw = &out, nil
	}
	return nil
}

// unpack gives a block's bytes back.
func (s *objset) unpack(b *dnodeBlock) error {
	if b.packed == nil {
		return nil
	}
	raw := make([]byte, ondisk.DnodeBlockSize)
	if err := block.Decode(raw, b.packed.data, b.packed.compression); err != nil {
		return fmt.Errorf("unpacking dnodes: %w", err)
	}
	b.raw, b.packed = raw, nil
	return nil
}

// storeDnodes writes all dnode blocks and gives the dnode over them. levels 0
// takes as few as possible.
func (s *objset) storeDnodes(levels int) (*ondisk.Dnode, error) {
	if levels == 0 {
		levels = treeLevels(int64(len(s.dnodes)), metaPointers)
	}
	before := s.used
	tree := newBlockTree(s.pipe, s, ondisk.TypeDnode, s.metaCopies, levels)
	for i := range s.dnodes {
		b := &s.dnodes[i]
		l := s.dnodeLogical(b)
		if b.packed != nil {
			l.data = zeroBlock[:] // of the right size; its stored form is known
		}
		ptr, err := s.placeDnodes(l, b)
		if err != nil {
			return nil, err
		}
		if err := tree.add(0, &ptr); err != nil {
			return nil, err
		}
	}
	ptrs, err := tree.finish()
	if err != nil {
		return nil, err
	}
	for len(ptrs) < metaPointers {
		ptrs = append(ptrs, ondisk.BlockPtr{})
	}
	return &ondisk.Dnode{
		Type: ondisk.TypeDnode, IndirectShift: ondisk.IndirectShift, Levels: uint8(levels), Flags: ondisk.DnodeUsedBytes,
		BlockSize: ondisk.DnodeBlockSize, Slots: 1, MaxBlock: uint64(max(len(s.dnodes), 1) - 1), Used: s.used - before, Pointers: ptrs,
	}, nil
}

var zeroBlock [ondisk.DnodeBlockSize]byte

func (s *objset) placeDnodes(l *logical, b *dnodeBlock) (ondisk.BlockPtr, error) {
	if b.packed != nil {
		return s.pipe.place(s, l, b.packed, "")
	}
	return s.pipe.store(s, l)
}

// finish writes the dnodes, the accounting and the set itself, and gives the
// pointer to it. Everything put into the pipe must be flushed.
func (s *objset) finish() (ondisk.BlockPtr, error) {
	meta, err := s.storeDnodes(metaLevels)
	if err != nil {
		return ondisk.BlockPtr{}, err
	}
	set := ondisk.Objset{Meta: meta, Type: s.kind, Flags: s.accounting.flags()}
	for i, dst := range []**ondisk.Dnode{&set.UserUsed, &set.GroupUsed, &set.ProjectUsed} {
		if *dst, err = s.storeUsage(s.accounting.used[i]); err != nil {
			return ondisk.BlockPtr{}, err
		}
	}
	return s.storeObjset(&set)
}

func (s *objset) storeObjset(set *ondisk.Objset) (ondisk.BlockPtr, error) {
	return s.pipe.store(s, &logical{data: set.Encode(), typ: ondisk.TypeObjset, fill: s.objects, copies: s.metaCopies, method: s.metaMethod})
}

// accounting is what each user, group and project uses.
type accounting struct {
	objects  bool // count objects, too (userobj_accounting)
	projects bool // project_quota
	salt     uint64
	used     [3]map[uint64]*usage
}

type usage struct{ bytes, objects uint64 }

func newAccounting(f *featureSet, salt uint64) accounting {
	a := accounting{objects: f.has(featUserObj), projects: f.has(featProjectQuota), salt: salt}
	a.used[0], a.used[1] = map[uint64]*usage{}, map[uint64]*usage{}
	if a.projects {
		a.used[2] = map[uint64]*usage{}
	}
	return a
}

func (a *accounting) flags() uint64 {
	flags := uint64(ondisk.ObjsetUserAccounting)
	if a.objects {
		flags |= ondisk.ObjsetUserObjAccounting
	}
	if a.projects {
		flags |= ondisk.ObjsetProjectQuota
	}
	return flags
}

// dnodeFlags are those of a dnode that is counted.
func (a *accounting) dnodeFlags() uint8 {
	flags := uint8(ondisk.DnodeUsedBytes | ondisk.DnodeUserUsedAccounted)
	if a.objects {
		flags |= ondisk.DnodeUserObjUsedAccounted
	}
	return flags
}

// add counts an object of used bytes; a dnode counts 512 more, whatever its
// size (do_userquota_update).
func (a *accounting) add(uid, gid uint64, used uint64) {
	for i, id := range []uint64{uid, gid, 0} {
		if a.used[i] == nil {
			continue
		}
		u := a.used[i][id]
		if u == nil {
			u = &usage{}
			a.used[i][id] = u
		}
		u.bytes += used + ondisk.DnodeSize
		u.objects++
	}
}

// storeUsage writes one of the accounting objects; nil for one that the pool
// does not have.
func (s *objset) storeUsage(used map[uint64]*usage) (*ondisk.Dnode, error) {
	if used == nil {
		return nil, nil
	}
	var ids []uint64
	for id := range used {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	var entries []zap.Entry
	for _, id := range ids {
		key := strconv.FormatUint(id, 16)
		entries = append(entries, zap.Uint64(key, used[id].bytes))
		if s.accounting.objects {
			entries = append(entries, zap.Uint64("obj-"+key, used[id].objects))
		}
	}
	d, err := s.storeZAP(ondisk.TypeUserGroupUsed, entries, s.accounting.salt)
	if err != nil {
		return nil, fmt.Errorf("writing the space accounting: %w", err)
	}
	return d, nil
}

// storeZAP writes a ZAP while committing, and gives its dnode.
func (s *objset) storeZAP(typ ondisk.ObjectType, entries []zap.Entry, salt uint64) (*ondisk.Dnode, error) {
	layout, err := zap.Plan(entries, zap.Options{Salt: salt})
	if err != nil {
		return nil, err
	}
	blocks := make([][]byte, layout.Blocks())
	for i := range blocks {
		blocks[i] = make([]byte, layout.BlockSize())
		layout.Block(i, blocks[i])
	}
	return s.storeObject(typ, blocks)
}

// storeObject writes an object of metadata blocks of one size while
// committing, and gives its dnode with all the pointers it has room for.
func (s *objset) storeObject(typ ondisk.ObjectType, blocks [][]byte) (*ondisk.Dnode, error) {
	before := s.used
	tree := newBlockTree(s.pipe, s, typ, s.metaCopies, treeLevels(int64(len(blocks)), 1))
	for _, b := range blocks {
		ptr, err := s.pipe.store(s, &logical{data: b, typ: typ, fill: 1, copies: s.metaCopies, method: s.metaMethod, embed: true, keep: true})
		if err != nil {
			return nil, err
		}
		if err := tree.add(0, &ptr); err != nil {
			return nil, err
		}
	}
	ptrs, err := tree.finish()
	if err != nil {
		return nil, err
	}
	return &ondisk.Dnode{
		Type: typ, IndirectShift: ondisk.IndirectShift, Levels: uint8(tree.levels), Flags: ondisk.DnodeUsedBytes,
		BlockSize: len(blocks[0]), Slots: 1, MaxBlock: uint64(len(blocks) - 1), Used: s.used - before, Pointers: ptrs,
	}, nil
}
