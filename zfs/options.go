package zfs

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/kldload/kldload/zfs/internal/ondisk"
)

// Options describe the pool to make. Everything that would be random or taken
// from the clock is given here.
type Options struct {
	// Size of the image in bytes: MinSize to MaxSize, a multiple of 256 KiB.
	Size int64
	// Pool is its name (zpoolconcepts(7)).
	Pool string
	// Seed is what all GUIDs and hash salts are derived from.
	Seed string
	// Epoch is the time of creation of pool, datasets and files that come
	// without one.
	Epoch time.Time
	// Properties of the pool by zpool's names: ashift is always 12; autoexpand,
	// autotrim, bootfs, comment, compatibility. See PoolProperties.
	Properties map[string]string
	// Datasets are the file systems, parents before children; the first is the
	// pool's root dataset and has its name.
	Datasets []Dataset
	// Snapshot, when set, is taken of every dataset.
	Snapshot string
	// Apart leaves mountpoints out of account: several datasets may have the same,
	// and files go in by Writer.Dataset alone.
	Apart bool
	// Root is where the tree's "." lies among the mountpoints; "" is "/".
	Root string
	// VdevPath is the device name in the labels, of no meaning to an import;
	// "" is /dev/POOL.
	VdevPath string
	// Workers compress and sum blocks; 0 is one for each processor.
	Workers int
}

// Dataset is one file system of the pool.
type Dataset struct {
	// Name in full: "rpool/ROOT/default".
	Name string
	// Properties by zfs's names (zfsprops(7)), as a person would set them:
	// "compression": "zstd-3", "quota": "10G", "mountpoint": "/home". What is
	// not given is inherited. User properties have a colon in their name.
	Properties map[string]string
}

// Header describes one file, as an entry for Writer.Create and as read by FS.
type Header struct {
	// Path is relative, separated by slashes and clean; "" or "." is the root.
	Path string
	// Mode is Linux's st_mode with the type bits.
	Mode     uint32
	UID, GID uint32
	// Size of the body; regular files only.
	Size int64
	// ModTime zero means Options.Epoch; the others zero mean ModTime.
	ModTime, AccessTime, ChangeTime time.Time
	// Major and Minor are of the device a node stands for.
	Major, Minor uint32
	// Linkname is the target of a symbolic link, 1 to 4095 bytes.
	Linkname string
	// Xattrs by full name ("security.capability", "user.x"); access control
	// lists in the form of the Linux system calls (version 2).
	Xattrs map[string][]byte
}

// poolOptions are the pool's properties as far as the writer acts on them.
type poolOptions struct {
	compatibility string
	comment       string
	bootfs        string
	// stored are those that the pool_props object holds.
	stored map[string]uint64
}

func (o *Options) check() error {
	switch {
	case o.Size < MinSize || o.Size%ondisk.LabelSize != 0:
		return fmt.Errorf("size %d: want at least %d, a multiple of %d", o.Size, int64(MinSize), ondisk.LabelSize)
	case o.Size > MaxSize:
		return fmt.Errorf("size %d: want at most %d", o.Size, int64(MaxSize))
	case o.Seed == "":
		return fmt.Errorf("no seed: want one, the GUIDs are derived from it")
	case len(o.Datasets) == 0 || o.Datasets[0].Name != o.Pool:
		return fmt.Errorf("the first dataset must be %q, the pool's root", o.Pool)
	case o.Root != "" && (!path.IsAbs(o.Root) || path.Clean(o.Root) != o.Root):
		return fmt.Errorf("root %q: want a clean absolute path", o.Root)
	case o.Epoch.IsZero():
		return fmt.Errorf("no epoch: want the time of creation")
	}
	if err := checkPoolName(o.Pool); err != nil {
		return err
	}
	if o.Snapshot != "" {
		if err := checkComponent(o.Snapshot); err != nil {
			return fmt.Errorf("snapshot %q: %w", o.Snapshot, err)
		}
	}
	return o.checkDatasets()
}

// checkPoolName holds zpool-create(8)'s rules.
func checkPoolName(name string) error {
	if err := checkComponent(name); err != nil {
		return fmt.Errorf("pool name %q: %w", name, err)
	}
	letter := name[0] >= 'a' && name[0] <= 'z' || name[0] >= 'A' && name[0] <= 'Z'
	if !letter {
		return fmt.Errorf("pool name %q: want a letter first", name)
	}
	for _, reserved := range []string{"mirror", "raidz", "draid", "spare", "log"} {
		if name == reserved || reserved != "log" && strings.HasPrefix(name, reserved) {
			return fmt.Errorf("pool name %q: it is reserved for vdevs", name)
		}
	}
	return nil
}

// maxDatasetName is the longest name with its snapshot (ZFS_MAX_DATASET_NAME_LEN).
const maxDatasetName = 255

// checkComponent holds the rules for each part of a dataset's name
// (zfs_namecheck.c).
func checkComponent(s string) error {
	if s == "" || s == "." || s == ".." {
		return fmt.Errorf("want a name")
	}
	for _, c := range s {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("-_.: ", c)) {
			return fmt.Errorf("character %q: want letters, digits, - _ . : and space", c)
		}
	}
	return nil
}

func (o *Options) checkDatasets() error {
	seen := map[string]bool{}
	for i, d := range o.Datasets {
		for _, part := range strings.Split(d.Name, "/") {
			if err := checkComponent(part); err != nil {
				return fmt.Errorf("dataset %q: %w", d.Name, err)
			}
		}
		if n := len(d.Name) + 1 + len(o.Snapshot); n > maxDatasetName {
			return fmt.Errorf("dataset %q: a name of %d bytes with its snapshot: want at most %d", d.Name, n, maxDatasetName)
		}
		if seen[d.Name] {
			return fmt.Errorf("dataset %q: it is there twice", d.Name)
		}
		if parent := path.Dir(d.Name); i > 0 && !seen[parent] {
			return fmt.Errorf("dataset %q: its parent %q does not come before it", d.Name, parent)
		}
		seen[d.Name] = true
	}
	return nil
}

func (o *Options) poolOptions() (poolOptions, error) {
	p := poolOptions{compatibility: DefaultCompatibility, stored: map[string]uint64{}}
	for name, value := range o.Properties {
		v, err := parseProperty(PoolProperty, name, value)
		if err != nil {
			return p, err
		}
		switch name {
		case "ashift": // the only one there is
		case "compatibility":
			p.compatibility = value
		case "comment":
			p.comment = value
		case "bootfs":
			if !slices.ContainsFunc(o.Datasets, func(d Dataset) bool { return d.Name == value }) {
				return p, fmt.Errorf("pool property bootfs=%q: no such dataset", value)
			}
			p.bootfs = value
		default:
			p.stored[name] = v.(uint64)
		}
	}
	return p, nil
}

// Owner gives the ids of the user and the group.
func (h *Header) Owner() (uid, gid uint32) { return h.UID, h.GID }
