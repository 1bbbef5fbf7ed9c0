package zfs

import (
	"fmt"
	"path"
	"slices"

	"github.com/kldload/kldload/zfs/internal/ondisk"
	"github.com/kldload/kldload/zfs/internal/zap"
)

// Words of a DSL directory (dsl_dir_phys_t, sys/dsl_dir.h).
const (
	dirCreation = iota
	dirHead
	dirParent
	dirOrigin
	dirChildren
	dirUsed
	dirCompressed
	dirUncompressed
	dirQuota
	dirReserved
	dirProps
	dirDeleg
	dirFlags
	dirUsedHead
	dirUsedSnap
	dirUsedChild
	dirUsedChildReserved
	dirUsedRefReserved
	dirClones
	dirBonus = 256 // bytes
)

// Words of a DSL dataset (dsl_dataset_phys_t, sys/dsl_dataset.h).
const (
	setDir = iota
	setPrevSnap
	setPrevSnapTxg
	setNextSnap
	setSnapNames
	setChildren
	setCreation
	setCreationTxg
	setDeadlist
	setReferenced
	setCompressed
	setUncompressed
	setUnique
	setFSID
	setGUID
	setFlags
	setPointer    // 16 words
	setNextClones = setPointer + 16
	setBonus      = 320 // bytes
)

const (
	originTxg      = 1 // in which a pool and its first dataset are made
	uniqueAccurate = 4 // DS_FLAG_UNIQUE_ACCURATE
	usedBreakdown  = 1 // DD_FLAG_USED_BREAKDOWN
)

// words is a bonus as an array of 64-bit words.
type words []byte

func (w words) set(i int, v uint64) { le.PutUint64(w[8*i:], v) }
func (w words) get(i int) uint64    { return le.Uint64(w[8*i:]) }
func (w words) add(i int, v uint64) { w.set(i, w.get(i)+v) }

// dsl writes the dataset and snapshot layer: what there is above the file
// systems.
type dsl struct {
	z   *Writer
	mos *mos
	err error // the first

	emptyBpobj uint64
	originSnap uint64
	// The origin's lists of what was made from it.
	clones, nextClones []zap.Entry
	made               uint64

	dirs    map[string]*dslDir // by dataset name
	mosDir  words
	bootfs  uint64
	objDir  uint64
	late    lateObjects
	numbers map[string]uint64
}

// dslDir is a dataset's directory, with its children's totals.
type dslDir struct {
	number   uint64
	bonus    words
	children []zap.Entry
}

func newDSL(z *Writer) *dsl {
	return &dsl{z: z, mos: newMOS(z), dirs: map[string]*dslDir{}, numbers: map[string]uint64{}}
}

// zap adds a ZAP; errors are kept.
func (d *dsl) zap(typ ondisk.ObjectType, entries ...zap.Entry) uint64 {
	number, err := d.mos.zap(typ, entries...)
	if d.err == nil {
		d.err = err
	}
	return number
}

// write writes the file systems' sets, everything of the pool, and the labels.
func (d *dsl) write() error {
	d.objDir = d.mos.object(ondisk.TypeObjectDirectory, ondisk.TypeNone, nil)
	d.emptyBpobj = d.mos.bpobj(ondisk.OldMaxBlock)
	for _, fs := range d.z.systems {
		d.addDir(fs.name)
	}
	d.addSpecial()
	for _, fs := range slices.Backward(d.z.systems) { // children first: their totals go up
		if err := d.addFilesystem(fs); err != nil {
			return fmt.Errorf("dataset %q: %w", fs.name, err)
		}
	}
	d.finishOrigin()
	root, err := d.finishPool()
	if err != nil {
		return err
	}
	if err := d.z.pipe.out.flush(); err != nil {
		return err
	}
	return d.z.writeLabels(d.z.out, root, d.late.metaslabArray)
}

// newDir adds a DSL directory below another.
func (d *dsl) newDir(parent uint64) *dslDir {
	bonus := words(make([]byte, dirBonus))
	bonus.set(dirCreation, uint64(d.z.opts.Epoch.Unix()))
	bonus.set(dirParent, parent)
	bonus.set(dirFlags, usedBreakdown)
	return &dslDir{number: d.mos.object(ondisk.TypeDSLDir, ondisk.TypeDSLDir, bonus), bonus: bonus}
}

// addDir adds a dataset's directory and its name in the one above.
func (d *dsl) addDir(name string) {
	parent := d.dirs[path.Dir(name)]
	var above uint64
	if parent != nil {
		above = parent.number
	}
	dir := d.newDir(above)
	d.dirs[name] = dir
	if parent != nil {
		parent.children = append(parent.children, zap.Uint64(path.Base(name), dir.number))
	}
}

// rootDir is the directory of the pool's root dataset.
func (d *dsl) rootDir() *dslDir { return d.dirs[d.z.opts.Pool] }

// addSpecial adds the directories that every pool has ($MOS, $FREE, $ORIGIN),
// and the origin's empty dataset and snapshot (dsl_pool_create).
func (d *dsl) addSpecial() {
	root := d.rootDir()
	special := func(name string) *dslDir {
		dir := d.newDir(root.number)
		dir.bonus.set(dirChildren, d.zap(ondisk.TypeDSLDirChildMap))
		dir.bonus.set(dirProps, d.zap(ondisk.TypeDSLProps))
		root.children = append(root.children, zap.Uint64(name, dir.number))
		return dir
	}
	d.mosDir = special("$MOS").bonus
	special("$FREE")
	origin := special("$ORIGIN")
	d.numbers["origin dir"] = origin.number

	head, headBonus := d.newSet(origin.number, originTxg, "$ORIGIN")
	snap, snapBonus := d.newSet(origin.number, originTxg, "$ORIGIN@$ORIGIN")
	origin.bonus.set(dirHead, head)
	headBonus.set(setPrevSnap, snap)
	headBonus.set(setPrevSnapTxg, originTxg)
	headBonus.set(setSnapNames, d.zap(ondisk.TypeDSLDatasetSnapMap, zap.Uint64("$ORIGIN", snap)))
	headBonus.set(setDeadlist, d.deadlist(0))
	snapBonus.set(setNextSnap, head)
	snapBonus.set(setDeadlist, d.deadlist())
	d.originSnap, d.made = snap, 1
}

// newSet adds a DSL dataset.
func (d *dsl) newSet(dir, txg uint64, name string) (uint64, words) {
	bonus := words(make([]byte, setBonus))
	bonus.set(setDir, dir)
	bonus.set(setCreation, uint64(d.z.opts.Epoch.Unix()))
	bonus.set(setCreationTxg, txg)
	bonus.set(setFSID, d.z.guid("fsid "+name)>>8) // 56 bits (unique_create)
	bonus.set(setGUID, d.z.guid("dataset "+name))
	bonus.set(setFlags, uniqueAccurate)
	return d.mos.object(ondisk.TypeDSLDataset, ondisk.TypeDSLDataset, bonus), bonus
}

// deadlist adds a deadlist that is empty since each of the groups: all share
// the pool's one empty list (com.delphix:empty_bpobj).
func (d *dsl) deadlist(since ...uint64) uint64 {
	const header = 320 // dsl_deadlist_phys_t
	number := d.mos.object(ondisk.TypeDeadlist, ondisk.TypeDeadlistHeader, make([]byte, header))
	var entries []zap.Entry
	for _, txg := range since {
		entries = append(entries, zap.Uint64(fmt.Sprintf("%x", txg), d.emptyBpobj))
		d.z.features.add(featEmptyBpobj)
	}
	if err := d.mos.fillZAP(number, entries); d.err == nil {
		d.err = err
	}
	return number
}

// addFilesystem writes a file system's set, and its datasets.
func (d *dsl) addFilesystem(fs *filesystem) error {
	ptr, err := fs.set.finish()
	if err != nil {
		return err
	}
	dir, txg := d.dirs[fs.name], uint64(birthTxg)
	if dir == d.rootDir() {
		txg = originTxg
	}
	head, bonus := d.newSet(dir.number, txg, fs.name)
	fs.describe(bonus, &ptr)
	bonus.set(setPrevSnap, d.originSnap)
	bonus.set(setPrevSnapTxg, originTxg)
	var names []zap.Entry
	if d.z.opts.Snapshot == "" {
		bonus.set(setDeadlist, d.deadlist(0))
		bonus.set(setUnique, fs.set.used)
		d.nextClones = append(d.nextClones, hexEntry(head))
	} else {
		snap, err := d.addSnapshot(fs, dir.number, head, &ptr)
		if err != nil {
			return err
		}
		bonus.set(setPrevSnap, snap)
		bonus.set(setPrevSnapTxg, birthTxg)
		bonus.set(setDeadlist, d.deadlist(0, originTxg))
		names = append(names, zap.Uint64(d.z.opts.Snapshot, snap))
		d.nextClones = append(d.nextClones, hexEntry(snap))
	}
	bonus.set(setSnapNames, d.zap(ondisk.TypeDSLDatasetSnapMap, names...))
	d.clones = append(d.clones, hexEntry(head))
	d.made++
	if fs.name == d.z.pool.bootfs {
		d.bootfs = head
	}
	if err := d.useFeatures(fs, head); err != nil {
		return err
	}
	d.finishDir(fs, dir, head)
	return d.err
}

func hexEntry(number uint64) zap.Entry { return zap.Uint64(fmt.Sprintf("%x", number), number) }

// describe fills in what a dataset and its snapshot have in common.
func (fs *filesystem) describe(bonus words, ptr *ondisk.BlockPtr) {
	bonus.set(setReferenced, fs.set.used)
	bonus.set(setCompressed, fs.set.compressed)
	bonus.set(setUncompressed, fs.set.uncompressed)
	copy(bonus[8*setPointer:], ptr[:])
}

// addSnapshot adds the snapshot between the origin and the head.
func (d *dsl) addSnapshot(fs *filesystem, dir, head uint64, ptr *ondisk.BlockPtr) (uint64, error) {
	snap, bonus := d.newSet(dir, birthTxg, fs.name+"@"+d.z.opts.Snapshot)
	fs.describe(bonus, ptr)
	bonus.set(setPrevSnap, d.originSnap)
	bonus.set(setPrevSnapTxg, originTxg)
	bonus.set(setNextSnap, head)
	bonus.set(setChildren, 1)
	bonus.set(setDeadlist, d.deadlist(0))
	return snap, d.useFeatures(fs, snap)
}

// useFeatures makes a dataset's object a ZAP that names the features its
// blocks need (dsl_dataset_activate_feature).
func (d *dsl) useFeatures(fs *filesystem, set uint64) error {
	var entries []zap.Entry
	for _, f := range []struct {
		guid string
		used bool
	}{
		{featZSTD, fs.set.zstd}, {featLargeBlocks, fs.set.largeBlocks}, {featLargeDnode, fs.set.largeDnodes},
		{featProjectQuota, fs.set.accounting.projects}, {featUserObj, fs.set.accounting.objects},
	} {
		if f.used && d.z.features.add(f.guid) {
			entries = append(entries, zap.Uint64(f.guid, 0))
		}
	}
	if len(entries) == 0 {
		return nil
	}
	d.z.features.add(featExtensible)
	d.mos.objects[set].Type = ondisk.TypeZAPMetadata
	return d.mos.fillZAP(set, entries)
}

// finishDir fills in a directory: its properties, children and totals, and
// adds these to the one above.
func (d *dsl) finishDir(fs *filesystem, dir *dslDir, head uint64) {
	b := dir.bonus
	b.set(dirHead, head)
	b.set(dirOrigin, d.originSnap)
	b.set(dirQuota, fs.own.number("quota", 0))
	b.add(dirUsed, fs.set.used)
	b.add(dirCompressed, fs.set.compressed)
	b.add(dirUncompressed, fs.set.uncompressed)
	b.set(dirUsedHead, fs.set.used)
	b.set(dirChildren, d.zap(ondisk.TypeDSLDirChildMap, dir.children...))
	b.set(dirProps, d.zap(ondisk.TypeDSLProps, fs.own.entries()...))
	if above := d.dirs[path.Dir(fs.name)]; above != nil {
		above.bonus.add(dirUsedChild, b.get(dirUsed))
		for _, i := range []int{dirUsed, dirCompressed, dirUncompressed} {
			above.bonus.add(i, b.get(i))
		}
	}
}

// finishOrigin fills in what was made from the origin's snapshot.
func (d *dsl) finishOrigin() {
	snap := words(d.mos.objects[d.originSnap].Bonus)
	snap.set(setChildren, d.made)
	snap.set(setNextClones, d.zap(ondisk.TypeNextClones, d.nextClones...))
	dir := words(d.mos.objects[d.numbers["origin dir"]].Bonus)
	dir.set(dirClones, d.zap(ondisk.TypeDSLClones, d.clones...))
}
