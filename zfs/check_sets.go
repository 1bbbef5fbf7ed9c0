package zfs

import (
	"errors"
	"fmt"
	"math"

	"github.com/kldload/kldload/zfs/internal/ondisk"
	"github.com/kldload/kldload/zfs/internal/zap"
)

// Objects that are no slots of the dnode array (sys/dmu.h).
const (
	userUsedObject    = math.MaxUint64     // DMU_USERUSED_OBJECT
	groupUsedObject   = math.MaxUint64 - 1 // DMU_GROUPUSED_OBJECT
	projectUsedObject = math.MaxUint64 - 2 // DMU_PROJECTUSED_OBJECT
)

// checkMOS goes through the pool's own objects.
func (c *checker) checkMOS() {
	k := &walk{c: c, pool: true, sets: map[uint64]bool{}}
	if !k.run(mosName, &c.p.uber.Root) {
		return
	}
	known := map[uint64]bool{}
	for _, d := range c.p.dirs {
		known[d.id] = true
		for _, s := range d.sets() {
			known[s.id] = true
		}
	}
	for id := range k.sets {
		if !known[id] {
			c.wrong(mosName, id, "lost dataset", errors.New("no dataset leads to it"))
		}
	}
}

// checkSet goes through a dataset or snapshot, and gives the bytes that it has
// and the snapshot before has not.
func (c *checker) checkSet(s *setNode) uint64 {
	if s.bp.IsHole() { // $ORIGIN, and volumes that were never opened
		return 0
	}
	k := &walk{c: c, minBirth: s.prevSnapTxg, encrypted: s.in.encrypted}
	if old := c.checked[s.bp]; old != nil && s.bp.Birth() <= k.minBirth {
		k = old // an unchanged dataset and its snapshot
		k.fresh.Store(0)
	} else if !k.run(s.name, &s.bp) {
		return 0
	}
	c.checked = map[ondisk.BlockPtr]*walk{s.bp: k}
	if s == s.in.set {
		c.report.Datasets++
		k.checkZIL()
	} else {
		c.report.Snapshots++
	}
	if total := k.total.Load(); total != s.referenced && !c.isBroken() {
		c.wrong(s.name, 0, "referenced bytes", fmt.Errorf("%d by the dataset, its blocks take %d", s.referenced, total))
	}
	return k.fresh.Load()
}

func (c *checker) isBroken() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.broken
}

// run goes through an object set, and tells whether it could be opened.
func (k *walk) run(name string, bp *ondisk.BlockPtr) bool {
	w := where{set: name}
	t := &tally{}
	k.add(t, bp)
	b := k.visit(bp, w)
	if b == nil {
		return false
	}
	phys, err := ondisk.ParseObjset(b)
	if err != nil {
		k.c.at(w, bp, "bad object set", err)
		return false
	}
	k.set = &openSet{k.c.p.dev, name, phys}
	if phys.Type == ondisk.ObjsetZFS && !k.encrypted {
		k.files = newFileCheck(k)
	}
	k.checkObjectFill(bp)
	k.runDnodes()
	for _, a := range []struct {
		id uint64
		dn *ondisk.Dnode
	}{{userUsedObject, phys.UserUsed}, {groupUsedObject, phys.GroupUsed}, {projectUsedObject, phys.ProjectUsed}} {
		if a.dn != nil {
			k.plain(&readObject{k.set, a.id, a.dn})
		}
	}
	if k.files != nil {
		k.files.finish()
		k.files = nil
	}
	if k.encrypted {
		k.c.note(fmt.Sprintf("files of %q: the dataset is encrypted", name))
	}
	return true
}

// checkObjectFill: the root counts the objects.
func (k *walk) checkObjectFill(bp *ondisk.BlockPtr) {
	fill := uint64(0)
	for i := range k.set.phys.Meta.Pointers {
		fill += k.set.phys.Meta.Pointers[i].Fill()
	}
	if fill != bp.Fill() {
		k.c.at(where{set: k.set.name}, bp, "fill count", fmt.Errorf("%d, those of the pointers in it sum up to %d", bp.Fill(), fill))
	}
}

// runDnodes goes through all objects.
func (k *walk) runDnodes() {
	meta := k.set.dnodes()
	t := &tally{}
	per := uint64(meta.dn.BlockSize / ondisk.DnodeSize)
	k.object(meta, t, func(n uint64, bp *ondisk.BlockPtr, b []byte) {
		count := uint64(0)
		for at := range dnodeStarts(b) {
			count++
			id := n*per + uint64(at)
			dn, err := ondisk.ParseDnode(b[at*ondisk.DnodeSize:])
			if err != nil {
				k.c.wrong(k.set.name, id, "bad dnode", err)
				continue
			}
			k.c.spawn(&t.wg, func() { k.dnode(&readObject{k.set, id, dn}) })
		}
		if fill := bp.Fill(); fill != count {
			k.c.at(meta.at(0, n), bp, "fill count", fmt.Errorf("%d, the block has %d dnodes", fill, count))
		}
	})
	t.wg.Wait()
	k.compareUsed(meta, t)
}

// plain goes through an object whose content is of no interest.
func (k *walk) plain(ob *readObject) {
	t := &tally{}
	k.object(ob, t, nil)
	t.wg.Wait()
	k.compareUsed(ob, t)
}

func (k *walk) dnode(ob *readObject) {
	k.c.objects.Add(1)
	k.plain(ob)
	if k.files != nil {
		k.files.object(ob)
	}
	if k.pool && (ob.dn.BonusType == ondisk.TypeDSLDir || ob.dn.BonusType == ondisk.TypeDSLDataset) {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.sets[ob.id] = true
	}
}

func (k *walk) compareUsed(ob *readObject, t *tally) {
	if got := t.asize.Load(); got != ob.used() && !k.c.isBroken() {
		k.c.wrong(k.set.name, ob.id, "used bytes", fmt.Errorf("%d by the dnode, its blocks take %d", ob.used(), got))
	}
}

// compareDir holds what a directory of datasets sums up against its parts. fresh
// is the bytes of its datasets that no other directory has.
func (c *checker) compareDir(d *dirNode, fresh uint64) {
	if d.internal {
		return
	}
	sum := uint64(0)
	for _, n := range d.breakdown {
		sum += n
	}
	if sum != d.used {
		c.wrong(d.name, 0, "used bytes of a dataset", fmt.Errorf("%d, its parts sum up to %d", d.used, sum))
	}
	if got := d.breakdown[usedHead] + d.breakdown[usedSnap]; got != fresh && !c.isBroken() {
		c.wrong(d.name, 0, "used bytes of a dataset", fmt.Errorf("%d by itself and its snapshots, their blocks take %d", got, fresh))
	}
}

// checkDirs holds the directories of datasets against those below.
func (c *checker) checkDirs() {
	used, reserved := map[*dirNode]uint64{}, map[*dirNode]uint64{}
	for _, d := range c.p.dirs {
		used[d.up] += d.used
		reserved[d.up] += max(d.reserved, d.used) - d.used
	}
	for _, d := range c.p.dirs {
		if !d.internal && (d.breakdown[usedChild] != used[d] || d.breakdown[usedChildReserved] != reserved[d]) {
			c.wrong(d.name, 0, "used bytes of a dataset", fmt.Errorf("%d of children and %d reserved for them, theirs sum up to %d and %d",
				d.breakdown[usedChild], d.breakdown[usedChildReserved], used[d], reserved[d]))
		}
	}
}

// markLoose marks the blocks that are allocated and in no object set: those to be
// freed. What of those cannot be followed is said.
func (c *checker) markLoose() {
	for _, name := range []string{"sync_bplist", "free_bpobj"} {
		id, ok, err := c.p.mos.lookup(directoryObject, name)
		if err == nil && ok {
			err = c.markFreed(id, 0)
		}
		if err != nil {
			c.leaksUnknown = "lists of blocks to be freed are unreadable"
			c.wrong(mosName, id, "list of blocks to be freed", err)
		}
	}
	if c.p.active("com.delphix:zpool_checkpoint") {
		c.leaksUnknown = "the pool has a checkpoint"
	}
	if c.p.active("com.delphix:async_destroy") {
		c.leaksUnknown = "datasets are being destroyed"
	}
	if id, ok, err := c.p.mos.lookup(directoryObject, "com.delphix:deleted_clones"); err == nil && ok {
		n := 0
		if err := c.p.mos.walkZAP(id, func(zap.Entry) error { n++; return nil }); err != nil || n > 0 {
			c.leaksUnknown = "clones are being destroyed"
		}
	}
}

const maxBpobjDepth = 2 // lists of lists go no deeper (bpobj_enqueue_subobj)

// markFreed marks the blocks of a list (bpobj_phys_t, sys/bpobj.h) and of those
// in it.
func (c *checker) markFreed(id uint64, depth int) error {
	if depth > maxBpobjDepth {
		return fmt.Errorf("%q object %d: lists of blocks are nested deeper than %d", mosName, id, maxBpobjDepth)
	}
	ob, err := c.p.mos.typed(id, ondisk.TypeBpobj)
	if err != nil {
		return err
	}
	b := ob.dn.Bonus
	if len(b) < 16 {
		return fmt.Errorf("%q object %d: %d bytes of bonus: want a list's", mosName, id, len(b))
	}
	w := where{set: mosName, object: id}
	count := le64(b)
	if sectors := c.p.vdev.asize >> c.p.vdev.ashift; count > sectors {
		return fmt.Errorf("%q object %d: a list of %d blocks: the vdev has %d sectors", mosName, id, count, sectors)
	}
	for n := uint64(0); n < count; n++ {
		bp, err := ob.pointerAt(n)
		if err != nil {
			return err
		}
		if !bp.IsHole() && !bp.IsEmbedded() {
			c.mark(bp, w)
			if bp.DVA(0).Gang {
				c.markGang(bp, 0, true, w)
			}
		}
	}
	if len(b) < 48 || le64(b[40:]) == 0 {
		return nil
	}
	subs, err := c.p.mos.object(le64(b[32:]))
	if err != nil {
		return err
	}
	var below []error
	err = subs.eachWord(min(le64(b[40:]), uint64(subs.size())/8), func(sub uint64, _ func() uint64) {
		below = append(below, c.markFreed(sub, depth+1))
	})
	return errors.Join(append(below, err)...)
}

// pointerAt reads a pointer of an object that is an array of them.
func (ob *readObject) pointerAt(n uint64) (*ondisk.BlockPtr, error) {
	per := uint64(ob.dn.BlockSize / ondisk.BlockPtrSize)
	if n/per > ob.dn.MaxBlock {
		return nil, fmt.Errorf("%q object %d: pointer %d is behind the end", ob.set.name, ob.id, n)
	}
	b, err := ob.stored(n / per)
	if err != nil {
		return nil, err
	}
	return ptrTable(b).at(int(n % per)), nil
}
