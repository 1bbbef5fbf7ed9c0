package scan

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/kldload/kldload/internal/volume"
	"github.com/kldload/kldload/zfs"
)

// datasets looks at all datasets of a pool, mounted or not, and at what their
// snapshots have and they have not.
func (s *imageScan) datasets(p *zfs.Pool, loc Location, depth int) {
	list, err := p.Datasets()
	s.noted(loc, err)
	for _, d := range list {
		l := loc
		l.Dataset = d.Name
		switch {
		case s.ctx.Err() != nil:
			return
		case d.Encrypted:
			s.e.Note(l, "not looked into: the dataset is encrypted")
		case d.Type == zfs.Filesystem:
			s.dataset(p, d, l)
		case d.Type == zfs.Volume:
			s.volumes(p, d, l, depth)
		}
	}
}

// dataset looks at a file system, then at its snapshots from the latest on. Of
// these it looks at files that are not as in the one before.
func (s *imageScan) dataset(p *zfs.Pool, d zfs.DatasetInfo, loc Location) {
	mount := d.Mountpoint
	if mount == "none" || mount == "legacy" {
		mount = ""
	}
	newer, last := map[uint64]zfs.Identity{}, d.Name
	look := func(name string, l Location) {
		f, err := p.Dataset(name)
		if err != nil {
			s.noted(l, err)
			return
		}
		s.files(&walked{fsys: f, loc: l, mount: mount, newer: newer})
	}
	changed := slices.DeleteFunc(slices.Clone(d.Snapshots), func(snap zfs.SnapshotInfo) bool { return p.Unchanged(d.Name, snap.Name) })
	if len(changed) == 0 {
		newer = nil
	}
	look(d.Name, loc)
	for _, snap := range slices.Backward(changed) {
		if s.ctx.Err() != nil {
			return
		}
		if p.Unchanged(last, snap.Name) {
			continue
		}
		last = snap.Name
		look(snap.Name, s.snapshot(loc, d.Name, snap.Name))
	}
}

// snapshot is the location of a snapshot: "snapshot @golden".
func (s *imageScan) snapshot(loc Location, dataset, name string) Location {
	loc.Where = "snapshot " + name[len(dataset):]
	return loc
}

// volumes looks at a volume of a pool as at a disk of its own, and at its
// snapshots where they differ.
func (s *imageScan) volumes(p *zfs.Pool, d zfs.DatasetInfo, loc Location, depth int) {
	names := []string{d.Name}
	for _, snap := range slices.Backward(d.Snapshots) {
		if !p.Unchanged(names[len(names)-1], snap.Name) {
			names = append(names, snap.Name)
		}
	}
	for _, name := range names {
		if err := s.volume(p, name, loc.Volume, depth); err != nil {
			l := loc
			l.Dataset = name
			s.noted(l, err)
		}
	}
}

func (s *imageScan) volume(p *zfs.Pool, name, in string, depth int) error {
	if depth >= maxNested {
		return fmt.Errorf("volumes of pools in volumes of pools, deeper than %d", maxNested)
	}
	f, err := p.Volume(name)
	if err != nil {
		return err
	}
	inner, err := volume.Open(f, f.Size())
	if err != nil { // a damaged table: one volume of unknown content
		loc := Location{Volume: within(in, name), Where: rawBytes}
		s.e.unread(loc, err.Error())
		s.region(loc, &bytesOf{r: f, size: f.Size()}, 0, f.Size())
		return nil
	}
	s.disk(inner, within(in, name), depth+1)
	return nil
}

// poolSpace looks at the space of a pool that nothing refers to: at the bytes as
// they are, and at the blocks of the past that are unpacked from them.
func (s *imageScan) poolSpace(p *zfs.Pool, loc Location, b *bytesOf) {
	s.unused(loc, b, func(yield func(kind string, off, size int64) error) error {
		return p.Unused(func(kind string, off, size int64) error {
			if kind == zfs.FreeSpace {
				if err := s.remnants(p, loc, b, off, size); err != nil {
					return err
				}
			}
			return yield(kind, off, size)
		})
	})
}

// remnants looks at the blocks that begin in a part of free space.
func (s *imageScan) remnants(p *zfs.Pool, loc Location, b *bytesOf, off, size int64) error {
	sector, end := int64(p.SectorSize()), off+size
	for off < end {
		start, stop, err := b.nextData(off, end)
		if err != nil {
			return err
		}
		at := start - (start-off)%sector
		off = min(end, stop+(sector-(stop-off)%sector)%sector)
		if at >= off {
			return nil
		}
		to := off
		s.do(loc, func() error {
			return p.Remnants(s.ctx, at, to-at, func(x zfs.Remnant) error {
				l := loc
				l.Where = fmt.Sprintf("%s > deleted block (%s)", zfs.FreeSpace, x.Form)
				return s.e.Raw(s.ctx, l, x.Offset, bytes.NewReader(x.Data))
			})
		})
	}
	return s.ctx.Err()
}
