package zfs

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kldload/kldload/zfs/internal/ondisk"
)

// DatasetType tells file systems from volumes.
type DatasetType string

// The types of datasets, as zfs list prints them.
const (
	Filesystem DatasetType = "filesystem"
	Volume     DatasetType = "volume"
)

// DatasetInfo describes a file system or volume.
type DatasetInfo struct {
	Name string
	// Type is "" where the dataset's own blocks are unreadable.
	Type DatasetType
	GUID uint64
	// Created is when, CreateTxg in which transaction group.
	Created   time.Time
	CreateTxg uint64
	// Mountpoint is where the dataset is mounted: its own or one that follows
	// from a dataset above; "none" and "legacy" as they are.
	Mountpoint string
	// CanMount is on, off or noauto.
	CanMount string
	// Properties are those set on this dataset, by zfs's names, as zfs get -p
	// prints them.
	Properties map[string]string
	// Encrypted datasets are listed; their files cannot be read.
	Encrypted bool
	// Origin is the snapshot that a clone was made of.
	Origin string
	// Bytes as the pool accounts for them: Used is the sum of the UsedBy ones.
	Used, Referenced, UsedByDataset, UsedBySnapshots, UsedByChildren, UsedByRefReservation uint64
	// Quota and Reservation in bytes, 0 for none.
	Quota, Reservation uint64
	// Snapshots from the oldest to the latest.
	Snapshots []SnapshotInfo
}

// SnapshotInfo describes a snapshot.
type SnapshotInfo struct {
	// Name in full: "rpool/home@golden".
	Name       string
	GUID       uint64
	Created    time.Time
	CreateTxg  uint64
	Referenced uint64
	// Unique is the bytes that nothing else holds.
	Unique uint64
}

// Datasets lists all file systems and volumes, parents before children and
// siblings by name. The list is complete also with an error, which says what of
// each dataset of no type is unreadable.
func (p *Pool) Datasets() ([]DatasetInfo, error) {
	var all []DatasetInfo
	var errs []error
	for _, d := range p.dirs {
		if d.internal || d.set == nil {
			continue
		}
		info, err := p.describe(d)
		if err != nil {
			errs = append(errs, fmt.Errorf("zfs: reading dataset %q: %w", d.name, err))
		}
		all = append(all, info)
	}
	return all, errors.Join(errs...)
}

func (p *Pool) describe(d *dirNode) (DatasetInfo, error) {
	s := d.set
	info := DatasetInfo{
		Name: d.name, Type: Filesystem, GUID: s.guid, Created: unixTime(d.created), CreateTxg: s.createdTxg,
		Mountpoint: d.mountpoint(), CanMount: "on", Properties: map[string]string{}, Encrypted: d.encrypted,
		Used: d.used, Referenced: s.referenced, UsedByDataset: d.breakdown[usedHead], UsedBySnapshots: d.breakdown[usedSnap],
		UsedByChildren:       d.breakdown[usedChild] + d.breakdown[usedChildReserved],
		UsedByRefReservation: d.breakdown[usedRefReserved], Quota: d.quota, Reservation: d.reserved,
	}
	for _, e := range d.own {
		info.Properties[e.shownName()] = e.shown()
	}
	if c := info.Properties["canmount"]; c != "" {
		info.CanMount = c
	}
	if d.quota != 0 {
		info.Properties["quota"] = propEntry{num: d.quota, isNo: true}.shown()
	}
	if d.reserved != 0 {
		info.Properties["reservation"] = propEntry{num: d.reserved, isNo: true}.shown()
	}
	if o := p.setByID(d.origin); d.origin != 0 && o != nil && !o.in.internal {
		info.Origin = o.name
	}
	for _, snap := range d.snaps {
		info.Snapshots = append(info.Snapshots, SnapshotInfo{Name: snap.name, GUID: snap.guid,
			Created: unixTime(snap.created), CreateTxg: snap.createdTxg, Referenced: snap.referenced, Unique: snap.unique})
	}
	if s.bp.IsHole() {
		return info, nil
	}
	set, err := p.dev.openObjset(d.name, &s.bp)
	switch {
	case err != nil:
		info.Type = ""
	case set.phys.Type == ondisk.ObjsetZVOL:
		info.Type, info.Mountpoint, info.CanMount = Volume, "none", "off"
		var size uint64
		if size, err = set.need(volumeObject, "size"); err == nil {
			info.Properties["volsize"] = strconv.FormatUint(size, 10)
		}
	case set.phys.Type == ondisk.ObjsetZFS && !d.encrypted:
		err = info.readNaming(set)
	}
	return info, err
}

// naming are the properties that a file system has from its creation on; they
// are stored in its master node, and shown here where they are not the default.
var naming = []string{"casesensitivity", "normalization", "utf8only"}

func (i *DatasetInfo) readNaming(set *openSet) error {
	for _, name := range naming {
		v, ok, err := set.lookup(masterObject, name)
		if err != nil {
			return err
		}
		if ok && v != 0 {
			i.Properties[name] = propEntry{name: name, num: v, isNo: true}.shown()
		}
	}
	return nil
}

// volumeObject holds what a volume is (ZVOL_ZAP_OBJ).
const volumeObject = 2

func unixTime(sec uint64) time.Time { return time.Unix(int64(sec), 0).UTC() }

// property finds a local property.
func (d *dirNode) property(name string) (propEntry, bool) {
	i := slices.IndexFunc(d.own, func(e propEntry) bool { return e.name == name })
	if i < 0 {
		return propEntry{}, false
	}
	return d.own[i], true
}

// mountpoint is the dataset's own, or the nearest one above with the names in
// between behind it; the pool's own default is its name.
func (d *dirNode) mountpoint() string {
	for at := d; at != nil; at = at.up {
		own := ""
		if e, ok := at.property("mountpoint"); ok {
			own = e.text
		} else if at.up == nil {
			own = "/" + at.name
		} else {
			continue
		}
		if own == "none" || own == "legacy" {
			return own
		}
		return path.Join(own, strings.TrimPrefix(d.name, at.name))
	}
	return "none"
}

// canMount tells whether a boot mounts the dataset by itself.
func (d *dirNode) canMount() bool {
	e, ok := d.property("canmount")
	return !ok || e.num == 1
}
