package zfs

import (
	"time"
)

// Options describe the pool to make. Everything that would be random or taken
// from the clock is given here.
type Options struct {
	// Size of the image in bytes: at least MinSize, a multiple of 256 KiB.
	Size int64
	// Pool is its name (zpool-create(8)).
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
