// Package volume finds the file systems of a disk and opens those that we
// read: ext4, ZFS and FAT, in a GUID or MBR partition table or on the whole
// disk. It believes nothing the disk says of itself beyond what the readers
// check.
//
// What it does not read it names (xfs, btrfs, LUKS, LVM, swap), so that a
// command can say what it met. Extended MBR partitions are not followed.
package volume

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/kldload/kldload/internal/ext4"
	"github.com/kldload/kldload/internal/fat"
	"github.com/kldload/kldload/internal/gpt"
	"github.com/kldload/kldload/zfs"
)

// Kind is what a volume holds, told by its content.
type Kind string

// The kinds; the first three are read. None is a volume without a signature
// that we know.
const (
	Ext4  Kind = "ext4"
	ZFS   Kind = "zfs"
	FAT   Kind = "fat"
	XFS   Kind = "xfs"
	Btrfs Kind = "btrfs"
	LUKS  Kind = "luks"
	LVM   Kind = "lvm"
	Swap  Kind = "swap"
	Ext23 Kind = "ext2/ext3"
	MD    Kind = "md raid"
	None  Kind = ""
)

// Volume is a partition, or a disk without a table.
type Volume struct {
	// Partition is zero but for Start and Size where the disk has no table, and
	// has no GUIDs where it is an MBR.
	Partition gpt.Partition
	Kind      Kind
	// Reader is the volume's bytes.
	Reader *io.SectionReader
	// One of them is set when Kind is read and Err is nil.
	Ext4 *ext4.FS
	Pool *zfs.Pool
	FAT  *fat.FS
	// Err says why a volume of a Kind that is read cannot be opened.
	Err error
}

// Name is how messages call it: "partition 2 (ext4)", or "the disk (zfs)".
func (v *Volume) Name() string {
	what := string(v.Kind)
	if v.Kind == None {
		what = "unknown content"
	}
	if v.Partition.Number == 0 {
		return fmt.Sprintf("the disk (%s)", what)
	}
	return fmt.Sprintf("partition %d (%s)", v.Partition.Number, what)
}

// Disk is a disk with its volumes, in the order of the table.
type Disk struct {
	Reader  io.ReaderAt
	Size    int64
	Table   *gpt.Table // nil without a GUID partition table
	MBR     bool
	Volumes []*Volume
}

// Open looks at a disk of size bytes. A volume that is damaged is in the list
// with its Err; an error is a table that cannot be read.
func Open(r io.ReaderAt, size int64) (*Disk, error) {
	d := &Disk{Reader: r, Size: size}
	parts, err := d.partitions()
	if err != nil {
		return nil, err
	}
	for _, p := range parts {
		d.Volumes = append(d.Volumes, open(r, p))
	}
	return d, nil
}

// partitions reads the table; a file system that begins at the disk's first
// byte comes before an MBR, which a FAT's boot sector looks like.
func (d *Disk) partitions() ([]gpt.Partition, error) {
	whole := gpt.Partition{Size: d.Size}
	table, err := gpt.Read(d.Reader, d.Size)
	if err == nil {
		d.Table = &table
		return table.Partitions, nil
	}
	if k := probe(io.NewSectionReader(d.Reader, 0, d.Size)); k != None {
		return []gpt.Partition{whole}, nil
	}
	parts, protective := readMBR(d.Reader, d.Size)
	if protective {
		return nil, err // a GPT that is damaged
	}
	if len(parts) == 0 {
		return []gpt.Partition{whole}, nil
	}
	d.MBR = true
	return parts, nil
}

func open(r io.ReaderAt, p gpt.Partition) *Volume {
	v := &Volume{Partition: p, Reader: io.NewSectionReader(r, p.Start, p.Size)}
	v.Kind = probe(v.Reader)
	switch v.Kind {
	case Ext4:
		v.Ext4, v.Err = ext4.Open(v.Reader, p.Size)
	case ZFS:
		v.Pool, v.Err = zfs.Open(v.Reader, p.Size)
	case FAT:
		v.FAT, v.Err = fat.Open(v.Reader, p.Size)
	}
	return v
}

// Files is a file system of whatever kind: names have no leading slash.
type Files interface {
	fs.ReadDirFS
	// Lstat does not follow the last link.
	Lstat(name string) (fs.FileInfo, error)
	ReadLink(name string) (string, error)
	// Resolve gives the name that a path with links leads to.
	Resolve(name string) (string, error)
	Xattrs(name string) (map[string][]byte, error)
}

// Root is the system that a boot of the disk would mount at "/".
type Root struct {
	Files
	Volume *Volume
	// Dataset is bootfs where the root is on ZFS; its other datasets are joined
	// at their mountpoints.
	Dataset string
	Tree    *zfs.Tree // on ZFS
}

// ErrNoRoot says that no volume of a disk is a root file system we read.
var ErrNoRoot = errors.New("no root file system")

// Root finds the root: the volume that holds etc/ and usr/ (etc/ and bin/ in a
// small one). The error names what was met in its place.
func (d *Disk) Root() (*Root, error) {
	var met []error
	for _, v := range d.Volumes {
		root, err := v.root()
		if err == nil && root != nil {
			return root, nil
		}
		if err != nil {
			met = append(met, fmt.Errorf("%s: %w", v.Name(), err))
		}
	}
	return nil, errors.Join(append([]error{fmt.Errorf("%w that is ext4 or ZFS", ErrNoRoot)}, met...)...)
}

// root is nil without an error where the volume holds something else.
func (v *Volume) root() (*Root, error) {
	switch {
	case v.Err != nil:
		return nil, v.Err
	case v.Ext4 != nil && isRoot(v.Ext4):
		return &Root{Files: v.Ext4, Volume: v}, nil
	case v.Pool != nil:
		tree, err := v.Pool.Tree("")
		if err != nil {
			return nil, err
		}
		return &Root{Files: tree, Volume: v, Dataset: v.Pool.Properties()["bootfs"], Tree: tree}, nil
	case v.Kind == XFS || v.Kind == Btrfs || v.Kind == LUKS || v.Kind == LVM || v.Kind == Ext23 || v.Kind == MD:
		return nil, errors.New("not supported: want ext4 or ZFS")
	}
	return nil, nil
}

func isRoot(f fs.FS) bool {
	for _, dir := range []string{"etc", "usr"} {
		if st, err := fs.Stat(f, dir); err != nil || !st.IsDir() {
			return false
		}
	}
	return true
}

// ESP is the EFI system partition: the first of that type, or the first FAT
// with an EFI folder. Nil when there is none.
func (d *Disk) ESP() *Volume {
	for _, v := range d.Volumes {
		if v.FAT != nil && v.Partition.Type == gpt.TypeESP {
			return v
		}
	}
	for _, v := range d.Volumes {
		if v.FAT == nil {
			continue
		}
		if _, err := v.FAT.Stat("EFI"); err == nil {
			return v
		}
	}
	return nil
}
