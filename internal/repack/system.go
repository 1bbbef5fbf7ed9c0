package repack

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/kldload/kldload/internal/seal"
	"github.com/kldload/kldload/internal/volume"
	"github.com/kldload/kldload/zfs"
)

// fileTree is one file system with owners and modes: a dataset, or a volume
// with ext4.
type fileTree struct {
	name   string // "rpool/home", "partition 3 (ext4)"
	volume *volume.Volume
	files  source
	// at is where it is mounted, clean and relative, "." for the root; "" where
	// that is not known.
	at string
	// joined says that the seal's plan of the whole root has its files.
	joined  bool
	dataset zfs.DatasetInfo // of ZFS

	removes func(name string) bool // by the name in the whole system
	writes  map[string]seal.File   // by the name in the tree
}

// look opens the input and finds its root.
func (j *job) look() (string, error) {
	var err error
	if j.disk, err = volume.Open(newCachedDisk(j.in, j.in.Size()), j.in.Size()); err != nil {
		return "", fmt.Errorf("reading the input: %w", err)
	}
	if err := j.admit(); err != nil {
		return "", err
	}
	if j.root, err = j.disk.Root(); err != nil {
		return "", fmt.Errorf("reading the input: %w\nhint: a machine's root is re-packed, on ext4 or ZFS; seal others while they run: kldload kexport seal", err)
	}
	if err := j.findTrees(); err != nil {
		return "", err
	}
	if err := j.settle(); err != nil {
		return "", err
	}
	j.report.Root = j.root.Volume.Name()
	if j.root.Tree != nil {
		j.report.Root = j.root.Dataset
	}
	return fmt.Sprintf("%d volumes, root %s", len(j.disk.Volumes), j.report.Root), nil
}

// admit refuses a disk with something that would be lost.
func (j *job) admit() error {
	var errs []error
	for _, v := range j.disk.Volumes {
		if err := j.admitVolume(v); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", v.Name(), err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("re-packing the input: %w", err)
	}
	return nil
}

func (j *job) admitVolume(v *volume.Volume) error {
	switch {
	case v.Err != nil:
		return v.Err
	case v.Kind == volume.Ext4 || v.Kind == volume.ZFS || v.Kind == volume.FAT || v.Kind == volume.Swap || isBIOSBoot(v):
		return nil
	case v.Kind == volume.None:
		zero, err := j.allZero(v.Partition.Start, v.Partition.Size)
		if err == nil && !zero {
			err = errors.New("it is not empty, and what it holds is not known: want ext4, ZFS, FAT, swap, or zeros" + liveHint)
		}
		return err
	}
	return fmt.Errorf("%s is not supported: want ext4 or ZFS for files, FAT for the EFI system partition, or swap%s", v.Kind, liveHint)
}

const liveHint = "\nhint: seal the machine while it runs (kldload kexport seal), power it off and convert its disk: kldload kexport convert"

// findTrees lists the file systems to write, the root's first.
func (j *job) findTrees() error {
	mounts, err := j.mountTable()
	if err != nil {
		return err
	}
	for _, v := range j.disk.Volumes {
		switch v.Kind {
		case volume.Ext4:
			t := &fileTree{name: v.Name(), volume: v, files: ext4Source{v.Ext4}, at: mounts.of(v)}
			if v == j.root.Volume {
				t.at, t.joined = ".", true
			}
			j.trees = append(j.trees, t)
		case volume.ZFS:
			if err := j.findDatasets(v, mounts); err != nil {
				return fmt.Errorf("%s: %w", v.Name(), err)
			}
		}
	}
	return nil
}

// findDatasets lists a pool's file systems but for other boot environments.
func (j *job) findDatasets(v *volume.Volume, mounts mountTable) error {
	list, err := v.Pool.Datasets()
	if err != nil {
		return err
	}
	joined := map[string]string{}
	if v == j.root.Volume {
		for _, m := range j.root.Tree.Mounts() {
			joined[m.Dataset] = m.Path
		}
	}
	others := otherEnvironments(list, v.Pool.Properties()["bootfs"])
	for _, d := range list {
		if below(others, d.Name) {
			j.leftOut("boot environment %s", d.Name)
			continue
		}
		if err := supported(d); err != nil {
			return fmt.Errorf("dataset %q: %w", d.Name, err)
		}
		if err := settled(v.Pool, d.Name); err != nil {
			return err
		}
		for _, s := range d.Snapshots {
			if s.Name != d.Name+"@"+golden {
				j.leftOut("snapshot %s", s.Name)
			}
		}
		files, err := v.Pool.Dataset(d.Name)
		if err != nil {
			return err
		}
		t := &fileTree{name: d.Name, volume: v, files: zfsSource{files}, dataset: d}
		if t.at, t.joined = joined[d.Name]; !t.joined {
			t.at = relative(d.Mountpoint)
			if t.at == "" {
				t.at = relative(mounts[d.Name])
			}
		}
		t.joined = t.at != "" && joined[d.Name] == t.at
		j.trees = append(j.trees, t)
	}
	return nil
}

// supported refuses what would not be the same dataset when written anew.
func supported(d zfs.DatasetInfo) error {
	switch {
	case d.Type == zfs.Volume:
		return errors.New("volumes are not re-packed\nhint: copy its content elsewhere and destroy it in the running machine: zfs destroy " + d.Name)
	case d.Encrypted:
		return errors.New("encrypted datasets are not re-packed: their files are out of reach without the key\nhint: move its files to a dataset that is not encrypted (zfs send without -w | zfs receive), or seal the machine while it runs: kldload kexport seal")
	}
	for _, name := range []string{"casesensitivity", "normalization", "utf8only"} {
		if v := d.Properties[name]; v != "" && v != "off" && v != "none" && v != "sensitive" {
			return fmt.Errorf("%s=%s is not re-packed: want the default\nhint: move its files to a new dataset in the running machine", name, v)
		}
	}
	return nil
}

// settled refuses a dataset whose files lack what is in its intent log.
func settled(pool *zfs.Pool, dataset string) error {
	n, err := pool.LogRecords(dataset)
	if err == nil && n > 0 {
		err = fmt.Errorf("dataset %q: %d writes are in its intent log alone: the machine was not shut down\nhint: boot it once and power it off, or import the pool and export it", dataset, n)
	}
	return err
}

// otherEnvironments are the datasets beside bootfs that are roots like it.
func otherEnvironments(list []zfs.DatasetInfo, bootfs string) (names []string) {
	for _, d := range list {
		if bootfs != "" && d.Name != bootfs && path.Dir(d.Name) == path.Dir(bootfs) && d.Mountpoint == "/" {
			names = append(names, d.Name)
		}
	}
	return names
}

// below tells whether a dataset is one of those or a child of one.
func below(names []string, dataset string) bool {
	for _, n := range names {
		if dataset == n || strings.HasPrefix(dataset, n+"/") {
			return true
		}
	}
	return false
}

// relative makes a mountpoint a name in the system; "" where it is none.
func relative(mountpoint string) string {
	if !strings.HasPrefix(mountpoint, "/") {
		return ""
	}
	if p := path.Clean(mountpoint)[1:]; p != "" {
		return p
	}
	return "."
}

// mountTable is what the root's fstab mounts where, by device or dataset.
type mountTable map[string]string

func (j *job) mountTable() (mountTable, error) {
	name, err := j.root.Resolve("etc/fstab")
	var text []byte
	if err == nil {
		text, err = fs.ReadFile(j.root, name)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return mountTable{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the input's /etc/fstab: %w", err)
	}
	m := mountTable{}
	for line := range strings.SplitSeq(string(text), "\n") {
		if f := strings.Fields(line); len(f) >= 3 && !strings.HasPrefix(f[0], "#") {
			m[strings.ReplaceAll(f[0], `"`, "")] = f[1]
		}
	}
	return m, nil
}

// partitionDevice is the name of a partition of some disk.
var partitionDevice = regexp.MustCompile(`^/dev/(?:[svx]?v?d[a-z]|nvme\d+n\d+p|mmcblk\d+p)(\d+)$`)

// of finds where an ext4 volume is mounted.
func (m mountTable) of(v *volume.Volume) string {
	p := v.Partition
	guid := strings.ToLower(p.GUID.String())
	names := []string{"UUID=" + uuid(v.Ext4.UUID()), "/dev/disk/by-uuid/" + uuid(v.Ext4.UUID()), "PARTUUID=" + guid, "/dev/disk/by-partuuid/" + guid}
	if label := v.Ext4.Label(); label != "" {
		names = append(names, "LABEL="+label, "/dev/disk/by-label/"+label)
	}
	if p.Name != "" {
		names = append(names, "PARTLABEL="+p.Name, "/dev/disk/by-partlabel/"+p.Name)
	}
	for _, device := range sortedKeys(m) {
		at := m[device]
		if n := partitionDevice.FindStringSubmatch(device); n != nil && n[1] == fmt.Sprint(p.Number) {
			return relative(at)
		}
		for _, name := range names {
			if strings.EqualFold(name, device) {
				return relative(at)
			}
		}
	}
	return ""
}

func uuid(id [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

// settle decides on times and on the name of machines.
func (j *job) settle() error {
	j.seal, j.epoch = j.opts.Seal, j.opts.Seal.Epoch
	if j.epoch.IsZero() {
		created, err := j.created()
		if err != nil {
			return err
		}
		j.epoch = created
	}
	j.seal.Epoch = j.epoch
	if j.seal.Hostname != "" {
		return nil
	}
	name, err := j.root.Resolve(seal.RecordFile)
	if err != nil {
		return nil //nolint:nilerr // never sealed
	}
	record, err := fs.ReadFile(j.root, name)
	if err != nil {
		return fmt.Errorf("reading the input's /%s: %w", seal.RecordFile, err)
	}
	for line := range strings.SplitSeq(string(record), "\n") {
		if host, ok := strings.CutPrefix(line, "hostname "); ok {
			j.seal.Hostname = host
		}
	}
	return nil
}

// created is when the root's file system was made.
func (j *job) created() (time.Time, error) {
	if j.root.Tree == nil {
		s, err := j.root.Volume.Ext4.Settings()
		return time.Unix(s.Epoch, 0).UTC(), err
	}
	for _, t := range j.trees {
		if t.volume == j.root.Volume {
			return t.dataset.Created, nil // the pool's root dataset comes first
		}
	}
	return time.Time{}, errors.New("the input's pool has no dataset")
}
