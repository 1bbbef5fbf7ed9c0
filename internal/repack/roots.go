package repack

import (
	"fmt"
	"strings"

	"github.com/kldload/kldload/internal/disk"
	"github.com/kldload/kldload/internal/ext4"
	"github.com/kldload/kldload/internal/volume"
	"github.com/kldload/kldload/internal/zpool"
	"github.com/kldload/kldload/zfs"
)

// golden is the snapshot of what an image was when it was made.
const golden = disk.Golden

// writeExt4 makes a file system with the ids and measures of the old one, so
// that what names it still finds it.
func (j *job) writeExt4(v *volume.Volume) (VolumeStats, error) {
	s, err := v.Ext4.Settings()
	if err != nil {
		return VolumeStats{}, err
	}
	size := v.Ext4.Size()
	if s.JournalBlocks > size/4096/2 {
		s.JournalBlocks = 0 // what mke2fs would choose
	}
	w, err := ext4.NewWriter(j.section(v), ext4.Options{
		Size: size, UUID: v.Ext4.UUID(), HashSeed: s.HashSeed, Label: v.Ext4.Label(), Epoch: j.epoch.Unix(),
		Inodes: s.Inodes, JournalBlocks: s.JournalBlocks, ReservedPercent: s.ReservedPercent,
	})
	if err != nil {
		return VolumeStats{}, err
	}
	stats, err := j.copyTree(j.treesOf(v)[0], ext4Sink{w})
	if err != nil {
		return stats, err
	}
	return stats, w.Close()
}

// treesOf are the trees of a volume.
func (j *job) treesOf(v *volume.Volume) (list []*fileTree) {
	for _, t := range j.trees {
		if t.volume == v {
			list = append(list, t)
		}
	}
	return list
}

type ext4Sink struct{ *ext4.Writer }

func (s ext4Sink) create(it *item) error {
	h := zpool.Header(it.Entry)
	return s.Create(ext4.Header{
		Path: h.Path, Mode: h.Mode, UID: h.UID, GID: h.GID, Size: h.Size, ModTime: h.ModTime, AccessTime: h.AccessTime, ChangeTime: h.ChangeTime,
		Major: h.Major, Minor: h.Minor, Linkname: h.Linkname, Xattrs: h.Xattrs, NoHoles: it.noHoles,
	}, it.body)
}

type zfsSink struct{ *zfs.DatasetWriter }

func (s zfsSink) create(it *item) error { return s.Create(zpool.Header(it.Entry), it.body) }

// writePool makes a pool of the same name with the same datasets.
func (j *job) writePool(v *volume.Volume) (stats VolumeStats, err error) {
	trees := j.treesOf(v)
	opts := j.poolOptions(v, trees)
	w, err := zfs.NewWriter(j.section(v), opts)
	if err != nil {
		return stats, err
	}
	for _, t := range trees {
		one, err := j.copyDataset(w, t)
		if err != nil {
			_ = w.Close() // ends its goroutines; the error is known
			return stats, err
		}
		stats.Files, stats.Bytes = stats.Files+one.Files, stats.Bytes+one.Bytes
	}
	return stats, w.Close()
}

func (j *job) copyDataset(w *zfs.Writer, t *fileTree) (VolumeStats, error) {
	to, err := w.Dataset(t.name)
	if err != nil {
		return VolumeStats{}, err
	}
	return j.copyTree(t, zfsSink{to})
}

// labelSize is what a pool's size is a multiple of (vdev_label_t).
const labelSize = 256 << 10

func (j *job) poolOptions(v *volume.Volume, trees []*fileTree) zfs.Options {
	pool := v.Pool
	o := zfs.Options{
		Size: v.Partition.Size / labelSize * labelSize, Pool: pool.Name(), Seed: fmt.Sprintf("repack %016x", pool.GUID()), Epoch: j.epoch,
		Properties: map[string]string{}, Snapshot: golden, Apart: true,
	}
	if !v.Partition.GUID.IsZero() {
		o.VdevPath = "/dev/disk/by-partuuid/" + strings.ToLower(v.Partition.GUID.String())
	}
	props := pool.Properties()
	for _, name := range []string{"comment", "compatibility"} { // kept in the configuration
		if text, ok := pool.Config()[name].(string); ok && text != "" {
			props[name] = text
		}
	}
	what := fmt.Sprintf("pool %s: property", pool.Name())
	j.keepProperties(o.Properties, zfs.PoolProperty, what, props)
	for _, t := range trees {
		d := zfs.Dataset{Name: t.name, Properties: map[string]string{}}
		j.keepProperties(d.Properties, zfs.DatasetProperty, fmt.Sprintf("dataset %s: property", t.name), t.dataset.Properties)
		o.Datasets = append(o.Datasets, d)
	}
	return o
}

// keepProperties takes those that the writer knows and reports the others.
func (j *job) keepProperties(to map[string]string, kind zfs.PropertyKind, what string, from map[string]string) {
	for _, name := range sortedKeys(from) {
		if byDefault(name, from[name]) {
			continue
		}
		if zfs.CheckProperty(kind, name, from[name]) != nil {
			j.leftOut("%s %s=%s", what, name, from[name])
			continue
		}
		to[name] = from[name]
	}
}
