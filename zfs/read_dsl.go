package zfs

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/kldload/kldload/zfs/internal/ondisk"
	"github.com/kldload/kldload/zfs/internal/zap"
)

const (
	maxDirDepth = 50 // ZFS_MAX_DATASET_NAME_LEN allows no more (zfs_max_dataset_nesting)
	dirBonusMin = 256
	setBonusMin = 264 // of the oldest pools; what is behind may be missing
	usedKinds   = 5   // DD_USED_NUM
)

// What dd_used_breakdown counts (sys/dsl_dir.h).
const (
	usedHead = iota
	usedSnap
	usedChild
	usedChildReserved
	usedRefReserved
)

// dirNode is a node of the tree of datasets (dsl_dir_phys_t, sys/dsl_dir.h).
type dirNode struct {
	id, head, parent, origin uint64
	children, props, clones  uint64
	created                  uint64
	used, quota, reserved    uint64
	breakdown                [usedKinds]uint64
	name                     string
	encrypted                bool
	internal                 bool // $MOS, $FREE, $ORIGIN
	up                       *dirNode
	own                      []propEntry // local properties
	snaps                    []*setNode
	set                      *setNode // the head; nil for $MOS and $FREE
}

// setNode is a file system, volume or snapshot (dsl_dataset_phys_t,
// sys/dsl_dataset.h).
type setNode struct {
	id, dir, prevSnap, prevSnapTxg, nextSnap uint64
	snapNames, children, created, createdTxg uint64
	deadlist, referenced, unique, guid       uint64
	flags                                    uint64
	bp                                       ondisk.BlockPtr
	props                                    uint64
	name                                     string
	in                                       *dirNode
}

func parseDir(b []byte) (*dirNode, error) {
	if len(b) < dirBonusMin {
		return nil, fmt.Errorf("%d bytes of bonus: want the %d of a directory", len(b), dirBonusMin)
	}
	w := func(i int) uint64 { return le64(b[8*i:]) }
	d := &dirNode{created: w(0), head: w(1), parent: w(2), origin: w(3), children: w(4), used: w(5), quota: w(8),
		reserved: w(9), props: w(10), clones: w(18)}
	for i := range d.breakdown {
		d.breakdown[i] = w(13 + i)
	}
	return d, nil
}

func parseDataset(b []byte) (*setNode, error) {
	if len(b) < setBonusMin {
		return nil, fmt.Errorf("%d bytes of bonus: want the %d of a dataset", len(b), setBonusMin)
	}
	w := func(i int) uint64 {
		if len(b) < 8*i+8 {
			return 0
		}
		return le64(b[8*i:])
	}
	s := &setNode{dir: w(0), prevSnap: w(1), prevSnapTxg: w(2), nextSnap: w(3), snapNames: w(4), children: w(5),
		created: w(6), createdTxg: w(7), deadlist: w(8), referenced: w(9), unique: w(12), guid: w(14), flags: w(15),
		props: w(33)}
	copy(s.bp[:], b[128:])
	return s, nil
}

// loadDirs reads the tree of datasets with their snapshots and local properties.
func (p *Pool) loadDirs() error {
	root, err := p.mos.need(directoryObject, "root_dataset")
	if err != nil {
		return err
	}
	seen := map[uint64]bool{}
	if err := p.loadDir(root, nil, p.Name(), seen); err != nil {
		return fmt.Errorf("reading the datasets: %w", err)
	}
	return nil
}

func (p *Pool) loadDir(id uint64, up *dirNode, name string, seen map[uint64]bool) error {
	if seen[id] || strings.Count(name, "/") > maxDirDepth {
		return fmt.Errorf("dataset %q: object %d is a dataset above it, or it is nested deeper than %d", name, id, maxDirDepth)
	}
	seen[id] = true
	d, err := p.readDir(id)
	if err != nil {
		return fmt.Errorf("dataset %q: %w", name, err)
	}
	d.id, d.up, d.name = id, up, name
	d.internal = up != nil && (up.internal || strings.HasPrefix(name[len(up.name)+1:], "$"))
	p.dirs = append(p.dirs, d)
	if d.props != 0 {
		if d.own, err = p.readProps(d.props); err != nil {
			return fmt.Errorf("properties of dataset %q: %w", name, err)
		}
	}
	if err := p.loadSets(d); err != nil {
		return fmt.Errorf("dataset %q: %w", name, err)
	}
	if d.children == 0 {
		return nil
	}
	names, ids, err := p.mos.numbers(d.children)
	if err != nil {
		return fmt.Errorf("children of dataset %q: %w", name, err)
	}
	for _, child := range names {
		if err := p.loadDir(ids[child], d, name+"/"+child, seen); err != nil {
			return err
		}
	}
	return nil
}

// numbers reads a ZAP of names to numbers; the names are sorted.
func (s *openSet) numbers(id uint64) (names []string, ids map[string]uint64, err error) {
	ids = map[string]uint64{}
	err = s.walkZAP(id, func(e zap.Entry) error {
		v, ok := e.Uint64()
		if _, twice := ids[e.Name]; twice || !ok {
			return fmt.Errorf("entry %q is there twice or is no number", e.Name)
		}
		ids[e.Name] = v
		names = append(names, e.Name)
		return nil
	})
	slices.Sort(names)
	return names, ids, err
}

// readDir reads a dataset directory. One with features of its own is a ZAP with
// the same bonus.
func (p *Pool) readDir(id uint64) (*dirNode, error) {
	ob, err := p.mos.object(id)
	if err != nil {
		return nil, err
	}
	if ob.dn.BonusType != ondisk.TypeDSLDir {
		return nil, fmt.Errorf("object %d has a bonus of type %d: want %d", id, ob.dn.BonusType, ondisk.TypeDSLDir)
	}
	d, err := parseDir(ob.dn.Bonus)
	if err != nil {
		return nil, fmt.Errorf("object %d: %w", id, err)
	}
	if ob.dn.Type == ondisk.TypeZAPMetadata {
		if _, d.encrypted, err = p.mos.lookup(id, "com.datto:crypto_key_obj"); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// readDataset reads a dataset object.
func (p *Pool) readDataset(id uint64) (*setNode, error) {
	ob, err := p.mos.object(id)
	if err != nil {
		return nil, err
	}
	if ob.dn.BonusType != ondisk.TypeDSLDataset {
		return nil, fmt.Errorf("object %d has a bonus of type %d: want %d", id, ob.dn.BonusType, ondisk.TypeDSLDataset)
	}
	s, err := parseDataset(ob.dn.Bonus)
	if err != nil {
		return nil, fmt.Errorf("object %d: %w", id, err)
	}
	s.id = id
	return s, nil
}

// loadSets reads the head of a directory and its snapshots, oldest first.
func (p *Pool) loadSets(d *dirNode) error {
	if d.head == 0 {
		return nil
	}
	head, err := p.readDataset(d.head)
	if err != nil {
		return err
	}
	if head.dir != d.id {
		return fmt.Errorf("object %d is the dataset of directory %d: want %d", d.head, head.dir, d.id)
	}
	head.name, head.in, d.set = d.name, d, head
	if head.snapNames == 0 {
		return nil
	}
	names, ids, err := p.mos.numbers(head.snapNames)
	if err != nil {
		return fmt.Errorf("snapshots: %w", err)
	}
	for _, name := range names {
		s, err := p.readDataset(ids[name])
		if err != nil {
			return fmt.Errorf("snapshot %q: %w", name, err)
		}
		s.name, s.in = d.name+"@"+name, d
		d.snaps = append(d.snaps, s)
	}
	slices.SortStableFunc(d.snaps, func(a, b *setNode) int { return cmp.Compare(a.createdTxg, b.createdTxg) })
	return nil
}

// sets goes over all datasets and their snapshots, the snapshots before the head.
func (d *dirNode) sets() []*setNode {
	all := slices.Clone(d.snaps)
	if d.set != nil {
		all = append(all, d.set)
	}
	return all
}

// findSet finds a dataset or snapshot by name.
func (p *Pool) findSet(name string) *setNode {
	for _, d := range p.dirs {
		if d.internal {
			continue
		}
		for _, s := range d.sets() {
			if s.name == name {
				return s
			}
		}
	}
	return nil
}

// setByID finds a dataset or snapshot by its object.
func (p *Pool) setByID(id uint64) *setNode {
	for _, d := range p.dirs {
		for _, s := range d.sets() {
			if s.id == id {
				return s
			}
		}
	}
	return nil
}
