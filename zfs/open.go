package zfs

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/kldload/kldload/zfs/internal/nvlist"
	"github.com/kldload/kldload/zfs/internal/ondisk"
)

const (
	directoryObject = 1 // DMU_POOL_DIRECTORY_OBJECT
	maxConfig       = 16 << 20
)

// Pool is an open pool of one top-level vdev. It reads and never writes. Safe
// for concurrent use when the underlying ReaderAt is.
type Pool struct {
	r        io.ReaderAt
	size     int64
	dev      *device
	vdev     *openVdev
	labels   []*labelCopy
	label    *labelCopy // the one the pool was opened by
	uber     *ondisk.Uberblock
	mos      *openSet
	config   nvlist.List
	features []Feature
	props    map[string]string
	dirs     []*dirNode // parents before children, siblings by name
}

// Open reads the pool on the first size bytes of r: labels, the best uberblock,
// and what the pool says of itself and of its datasets. r is a disk, a file or a
// partition that is the pool's only top-level vdev, or one member of a mirror that is.
//
// Not supported are raidz and draid, several top-level vdevs, missing log
// devices, removed vdevs, big-endian pools, and active features that are not
// known here: errors say which.
func Open(r io.ReaderAt, size int64) (*Pool, error) {
	p := &Pool{r: r, size: size, dev: &device{r: r}}
	if err := p.open(); err != nil {
		return nil, fmt.Errorf("zfs: opening a pool: %w", err)
	}
	return p, nil
}

func (p *Pool) open() error {
	if p.size < ondisk.LabelStart+ondisk.LabelEnd {
		return fmt.Errorf("%d bytes are too few for a vdev", p.size)
	}
	if err := p.openLabels(); err != nil {
		return err
	}
	if err := p.pickUberblock(); err != nil {
		return err
	}
	mos, err := p.dev.openObjset(mosName, &p.uber.Root)
	if err != nil {
		return fmt.Errorf("transaction group %d: %w", p.uber.Txg, err)
	}
	if mos.phys.Type != ondisk.ObjsetMeta {
		return fmt.Errorf("the uberblock leads to an object set of type %d: want %d", mos.phys.Type, ondisk.ObjsetMeta)
	}
	p.mos = mos
	if err := p.readFeatures(); err != nil {
		return err
	}
	if err := p.readConfig(); err != nil {
		return err
	}
	if err := p.loadDirs(); err != nil {
		return err
	}
	return p.readPoolProps()
}

// openLabels takes the label of the latest transaction group.
func (p *Pool) openLabels() error {
	p.labels = readLabels(p.r, p.size, p.dev.lax)
	var errs []error
	var best uint64
	for _, l := range p.labels {
		if l.err != nil {
			errs = append(errs, l.err)
			continue
		}
		if txg, _ := l.config.Uint64("txg"); p.label == nil || txg > best {
			p.label, best = l, txg
		}
	}
	if p.label == nil {
		return fmt.Errorf("no usable label: %w", errors.Join(errs...))
	}
	c := p.label.config
	if v, _ := c.Uint64("version"); v == 0 || v > ondisk.SpaVersion || v > 28 && v < 1000 {
		return fmt.Errorf("label %d: pool version %d: want 1 to 28 or %d", p.label.index, v, ondisk.SpaVersion)
	}
	if err := checkLabelFeatures(c); err != nil {
		return fmt.Errorf("label %d: %w", p.label.index, err)
	}
	tree, ok := c.List("vdev_tree")
	if !ok {
		return fmt.Errorf("label %d: no vdev tree: this is a spare or a cache device", p.label.index)
	}
	if err := singleVdev(c, tree); err != nil {
		return fmt.Errorf("label %d: %w", p.label.index, err)
	}
	v, err := parseVdev(tree)
	if err != nil {
		return fmt.Errorf("label %d: %w", p.label.index, err)
	}
	p.useVdev(v)
	return nil
}

func (p *Pool) useVdev(v *openVdev) { p.vdev, p.dev.asize = v, v.asize }

// singleVdev refuses a label that is not vdev 0's.
func singleVdev(config, tree nvlist.List) error {
	id, _ := tree.Uint64("id")
	n, _ := config.Uint64("vdev_children")
	if log, _ := tree.Uint64("is_log"); log != 0 {
		return fmt.Errorf("this is a log device, vdev %d of %d of the pool: want the one with its data", id, n)
	}
	if id != 0 {
		return fmt.Errorf("this is vdev %d of %d of the pool: pools of several top-level vdevs are not supported", id, n)
	}
	return nil
}

// pickUberblock takes the best of all rings.
func (p *Pool) pickUberblock() error {
	var errs []error
	for _, l := range p.labels {
		for _, s := range l.slots(p.vdev.ashift, p.dev.lax) {
			if s.err != nil && len(errs) < labels {
				errs = append(errs, fmt.Errorf("slot %d at %d: %w", s.index, s.offset, s.err))
			}
			if s.uber != nil && (p.uber == nil || newerThan(s.uber, p.uber)) {
				p.uber = s.uber
			}
		}
	}
	if p.uber == nil {
		return fmt.Errorf("no usable uberblock in %d labels: %w", len(p.labels), errors.Join(errs...))
	}
	return nil
}

// packedList reads an object that is an nvlist; its bonus is the size.
func (s *openSet) packedList(id uint64) (nvlist.List, error) {
	ob, err := s.typed(id, ondisk.TypePackedNvlist)
	if err != nil {
		return nil, err
	}
	if len(ob.dn.Bonus) < 8 {
		return nil, fmt.Errorf("%q object %d: %d bytes of bonus: want the size in 8", s.name, id, len(ob.dn.Bonus))
	}
	b, err := ob.bytes(le64(ob.dn.Bonus), maxConfig)
	if err != nil {
		return nil, err
	}
	l, err := nvlist.Decode(b)
	if err != nil {
		return nil, fmt.Errorf("%q object %d: %w", s.name, id, err)
	}
	return l, nil
}

// readConfig reads the pool's own configuration, which knows all vdevs.
func (p *Pool) readConfig() error {
	id, err := p.mos.need(directoryObject, "config")
	if err != nil {
		return err
	}
	if p.config, err = p.mos.packedList(id); err != nil {
		return fmt.Errorf("reading the pool's configuration: %w", err)
	}
	root, ok := p.config.List("vdev_tree")
	if !ok {
		return errors.New("the pool's configuration has no vdev tree")
	}
	tops, _ := root.Lists("children")
	if len(tops) == 0 {
		return errors.New("the pool's configuration has no vdevs")
	}
	for i, t := range tops[1:] {
		if err := refuseTop(i+1, t); err != nil {
			return err
		}
	}
	v, err := parseVdev(tops[0])
	if err != nil {
		return fmt.Errorf("the pool's configuration: vdev 0: %w", err)
	}
	if v.ashift != p.vdev.ashift || v.guid != p.vdev.guid {
		return fmt.Errorf("the pool's configuration: vdev 0 has GUID %d and ashift %d, the label's %d and %d",
			v.guid, v.ashift, p.vdev.guid, p.vdev.ashift)
	}
	p.useVdev(v)
	return nil
}

// refuseTop says why a further top-level vdev is in the way; a hole is not.
func refuseTop(i int, t nvlist.List) error {
	kind, _ := t.String("type")
	if kind == "hole" {
		return nil
	}
	if kind == "indirect" {
		return fmt.Errorf("vdev %d was removed and its blocks are mapped to others: not supported", i)
	}
	if log, _ := t.Uint64("is_log"); log != 0 {
		return fmt.Errorf("vdev %d is a log device (%s) and is not here: not supported", i, kind)
	}
	return fmt.Errorf("vdev %d (%s) is not here: pools of several top-level vdevs are not supported", i, kind)
}

// Name of the pool.
func (p *Pool) Name() string { s, _ := p.label.config.String("name"); return s }

// GUID of the pool.
func (p *Pool) GUID() uint64 { n, _ := p.label.config.Uint64("pool_guid"); return n }

// Txg is the transaction group that is read: the last one that was finished.
func (p *Pool) Txg() uint64 { return p.uber.Txg }

// Features of the pool, by name.
func (p *Pool) Features() []Feature { return slices.Clone(p.features) }

// Config is the pool's configuration as stored in it: numbers are uint64, lists
// map[string]any, arrays of lists []map[string]any.
func (p *Pool) Config() map[string]any { return plainList(p.config) }

func plainList(l nvlist.List) map[string]any {
	m := make(map[string]any, len(l))
	for _, pair := range l {
		switch v := pair.Value.(type) {
		case nvlist.List:
			m[pair.Name] = plainList(v)
		case []nvlist.List:
			all := make([]map[string]any, len(v))
			for i := range v {
				all[i] = plainList(v[i])
			}
			m[pair.Name] = all
		case nvlist.Boolean:
			m[pair.Name] = true
		default:
			m[pair.Name] = v
		}
	}
	return m
}

// Label is what the labels say of the pool, as Config gives it: "state" is 0
// for a pool in use and 1 for one that was exported, "hostid" that of the last
// host, absent where it had none.
func (p *Pool) Label() map[string]any { return plainList(p.label.config) }
