package zfs

import (
	"fmt"
	"io"

	"github.com/kldload/kldload/zfs/internal/nvlist"
	"github.com/kldload/kldload/zfs/internal/ondisk"
	"github.com/kldload/kldload/zfs/internal/zap"
)

// uberTxg is the group of the uberblock. It is well behind that of the blocks,
// so that an import does not go looking at the newest of them
// (spa_load_verify, TXG_DEFER_SIZE).
const uberTxg = birthTxg + 4

// finishPool writes the pool's own objects, and gives the pointer to the meta
// object set.
func (d *dsl) finishPool() (ondisk.BlockPtr, error) {
	if d.err != nil {
		return ondisk.BlockPtr{}, d.err
	}
	d.late.featuresForWrite = d.mos.object(ondisk.TypeZAPMetadata, ondisk.TypeNone, nil)
	d.late.metaslabArray = d.mos.object(ondisk.TypeObjectArray, ondisk.TypeNone, nil)
	if err := d.fillDirectory(); err != nil {
		return ondisk.BlockPtr{}, err
	}
	maps, used, err := d.mos.plan(d.featureBlocks())
	if err != nil {
		return ondisk.BlockPtr{}, err
	}
	d.late.maps = maps
	for range maps {
		number := d.mos.object(ondisk.TypeSpaceMap, ondisk.TypeSpaceMapHeader, make([]byte, spaceMapBonus))
		if d.late.firstMap == 0 {
			d.late.firstMap = number
		}
		d.z.features.add(featHistogram)
	}
	d.account(used)
	if err := d.checkQuotas(); err != nil {
		return ondisk.BlockPtr{}, err
	}
	root, err := d.mos.finish(d.late, d.features(true))
	if err == nil && d.mos.set.used != used {
		err = fmt.Errorf("the meta object set takes %d bytes: it was planned with %d", d.mos.set.used, used)
	}
	return root, err
}

// account adds what the meta object set takes to $MOS and to the pool.
func (d *dsl) account(used uint64) {
	for _, i := range []int{dirUsed, dirCompressed, dirUncompressed, dirUsedHead} {
		d.mosDir.set(i, used)
	}
	root := d.rootDir().bonus
	for _, i := range []int{dirUsed, dirCompressed, dirUncompressed, dirUsedChild} {
		root.add(i, used)
	}
}

// checkQuotas refuses datasets that hold more than they may: nothing could be
// written to them.
func (d *dsl) checkQuotas() error {
	for _, fs := range d.z.systems {
		for _, q := range []struct {
			name string
			used uint64
		}{{"quota", d.dirs[fs.name].bonus.get(dirUsed)}, {"refquota", fs.set.used}} {
			if limit := fs.own.number(q.name, 0); limit != 0 && q.used > limit {
				return fmt.Errorf("dataset %q: %d bytes are in use: %s allows %d\nhint: a larger %s", fs.name, q.used, q.name, limit, q.name)
			}
		}
	}
	return nil
}

// features are the counts of the pool's features, by whether reading needs
// them or only writing.
func (d *dsl) features(write bool) (entries []zap.Entry) {
	for _, f := range d.z.features.list {
		if f.write == write {
			entries = append(entries, zap.Uint64(f.guid, d.z.features.refs[f.guid]))
		}
	}
	return entries
}

// featureBlocks are the sizes of the blocks that features_for_write will take.
func (d *dsl) featureBlocks() (sizes []int) {
	layout, err := zap.Plan(d.features(true), zap.Options{})
	if err != nil {
		d.err = err
		return nil
	}
	for range layout.Blocks() {
		sizes = append(sizes, layout.BlockSize())
	}
	return sizes
}

// fillDirectory writes the object directory and what it names
// (dmu.h, DMU_POOL_*).
func (d *dsl) fillDirectory() error {
	var enabled, props []zap.Entry
	for _, f := range d.z.features.list {
		enabled = append(enabled, zap.Uint64(f.guid, birthTxg))
	}
	for _, p := range poolProperties {
		if v, ok := d.z.pool.stored[p.name]; ok {
			props = append(props, zap.Uint64(p.name, v))
		}
	}
	if d.bootfs != 0 {
		props = append(props, zap.Uint64("bootfs", d.bootfs))
	}
	config, err := d.config()
	if err != nil {
		return err
	}
	entries := []zap.Entry{
		zap.Uint64("config", config),
		zap.Uint64("root_dataset", d.rootDir().number),
		zap.Uint64("sync_bplist", d.mos.bpobj(16<<10)),
		zap.Uint64("free_bpobj", d.mos.bpobj(ondisk.OldMaxBlock)),
		zap.Uint64("empty_bpobj", d.emptyBpobj),
		zap.Uint64("features_for_read", d.zap(ondisk.TypeZAPMetadata, d.features(false)...)),
		zap.Uint64("features_for_write", d.late.featuresForWrite),
		zap.Uint64("feature_descriptions", d.zap(ondisk.TypeZAPMetadata)),
		zap.Uint64("feature_enabled_txg", d.zap(ondisk.TypeZAPMetadata, enabled...)),
		zap.Uint64("pool_props", d.zap(ondisk.TypePoolProps, props...)),
		zap.Uint64("creation_version", ondisk.SpaVersion),
		zap.Uint64("deflate", 1),
	}
	if d.err != nil {
		return d.err
	}
	return d.mos.fillZAP(d.objDir, entries)
}

// config writes the packed configuration, without what is the label's alone.
func (d *dsl) config() (uint64, error) {
	vdev := d.z.vdev(d.late.metaslabArray)
	tree := nvlist.List{
		{Name: "type", Value: "root"}, {Name: "id", Value: uint64(0)}, {Name: "guid", Value: d.z.guid("pool")},
		{Name: "create_txg", Value: uint64(birthTxg)}, {Name: "children", Value: []nvlist.List{vdev}},
	}
	packed, err := nvlist.Encode(d.z.poolConfig(tree, nil))
	if err != nil {
		return 0, fmt.Errorf("packing the pool's configuration: %w", err)
	}
	const blockSize = 16 << 10
	if len(packed) > blockSize {
		return 0, fmt.Errorf("the pool's configuration has %d bytes: want at most %d", len(packed), blockSize)
	}
	size := words(make([]byte, 8))
	size.set(0, uint64(len(packed)))
	number := d.mos.object(ondisk.TypePackedNvlist, ondisk.TypePackedNvlistSize, size)
	return number, d.mos.fill(number, [][]byte{append(packed, make([]byte, blockSize-len(packed))...)})
}

// poolConfig is the configuration as labels and the pool have it
// (spa_config_generate); the state is that of an exported pool, and no host is
// named.
func (z *Writer) poolConfig(tree nvlist.List, label nvlist.List) nvlist.List {
	const stateExported = 1
	c := nvlist.List{
		{Name: "version", Value: uint64(ondisk.SpaVersion)}, {Name: "name", Value: z.opts.Pool}, {Name: "state", Value: uint64(stateExported)},
		{Name: "txg", Value: uint64(birthTxg)}, {Name: "pool_guid", Value: z.guid("pool")}, {Name: "errata", Value: uint64(0)},
	}
	if z.pool.comment != "" {
		c = append(c, nvlist.Pair{Name: "comment", Value: z.pool.comment})
	}
	c = append(c, nvlist.Pair{Name: "compatibility", Value: z.pool.compatibility})
	c = append(c, label...)
	return append(c, nvlist.List{
		{Name: "vdev_children", Value: uint64(1)}, {Name: "vdev_tree", Value: tree},
		// The features that must be known before anything else is read.
		{Name: "features_for_read", Value: nvlist.List{
			{Name: "com.delphix:hole_birth", Value: nvlist.Boolean{}}, {Name: "com.delphix:embedded_data", Value: nvlist.Boolean{}},
		}},
	}...)
}

// vdev describes the one device (vdev_config_generate).
func (z *Writer) vdev(metaslabArray uint64) nvlist.List {
	device := z.opts.VdevPath
	if device == "" {
		device = "/dev/" + z.opts.Pool
	}
	return nvlist.List{
		{Name: "type", Value: "disk"}, {Name: "id", Value: uint64(0)}, {Name: "guid", Value: z.guid("vdev")},
		{Name: "path", Value: device}, {Name: "whole_disk", Value: uint64(0)}, {Name: "metaslab_array", Value: metaslabArray},
		{Name: "metaslab_shift", Value: uint64(z.space.shift)}, {Name: "ashift", Value: uint64(ashift)},
		{Name: "asize", Value: z.space.asize}, {Name: "is_log", Value: uint64(0)}, {Name: "create_txg", Value: uint64(birthTxg)},
	}
}

// writeLabels writes the four labels, each with the configuration and one
// uberblock, the one that makes the pool.
func (z *Writer) writeLabels(w io.WriterAt, root ondisk.BlockPtr, metaslabArray uint64) error {
	guid := z.guid("vdev")
	config, err := nvlist.Encode(z.poolConfig(z.vdev(metaslabArray), nvlist.List{{Name: "top_guid", Value: guid}, {Name: "guid", Value: guid}}))
	if err != nil {
		return fmt.Errorf("packing the label: %w", err)
	}
	const room = ondisk.LabelConfigSize - 40 // the rest is its checksum
	if len(config) > room {
		return fmt.Errorf("the label's configuration has %d bytes: want at most %d", len(config), room)
	}
	uber := ondisk.Uberblock{
		Version: ondisk.SpaVersion, Txg: uberTxg, GUIDSum: z.guid("pool") + guid, Timestamp: uint64(z.opts.Epoch.Unix()),
		Root: root, SoftwareVersion: ondisk.SpaVersion,
	}
	slot := ondisk.UberblockSize(ashift)
	at := ondisk.LabelRingOffset + uberTxg%(ondisk.LabelRingSize/slot)*slot
	for i := range 4 {
		offset := ondisk.LabelOffset(i, z.opts.Size)
		label := make([]byte, ondisk.LabelSize)
		copy(label[ondisk.LabelConfigOffset:], config)
		uber.Put(label[at : at+slot])
		for _, part := range [][2]int{{ondisk.LabelBootOffset, ondisk.LabelBootSize}, {ondisk.LabelConfigOffset, ondisk.LabelConfigSize}, {at, slot}} {
			ondisk.SealLabelPart(label[part[0]:part[0]+part[1]], offset+int64(part[0]))
		}
		if _, err := w.WriteAt(label, offset); err != nil {
			return fmt.Errorf("writing label %d at %d: %w", i, offset, err)
		}
	}
	return nil
}
