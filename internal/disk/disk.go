// Package disk makes one bootable disk of a root tree: a GUID partition table,
// a 512 MiB EFI system partition at 1 MiB and the root file system in the
// rest. Everything that is random elsewhere is derived from a seed.
//
// The root is ext4 or a ZFS pool; the tree is read once, as a stream, and never
// held.
package disk

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kldload/kldload/internal/boot"
	"github.com/kldload/kldload/internal/fat"
	"github.com/kldload/kldload/internal/gpt"
	"github.com/kldload/kldload/internal/tree"
	"github.com/kldload/kldload/internal/zpool"
)

// The layout (bytes). MinSize leaves the root enough to hold anything.
const (
	ESPStart = 1 << 20
	ESPSize  = 512 << 20
	MinSize  = 1 << 30
)

// Identity is every id a disk carries, all derived from one seed.
type Identity struct {
	Disk, ESPPart, RootPart gpt.GUID
	Root, HashSeed          [16]byte
	ESPVolume               uint32
	PoolSeed                string // of a ZFS pool's GUIDs
}

// NewIdentity derives the ids of a disk from what went into it.
func NewIdentity(seed string) Identity {
	derive := func(what string) (id [16]byte) {
		sum := sha256.Sum256([]byte("kldload disk\x00" + what + "\x00" + seed))
		copy(id[:], sum[:])
		id[6] = id[6]&0x0f | 0x40 // version 4 and variant of RFC 9562, 5.4
		id[8] = id[8]&0x3f | 0x80
		return id
	}
	volume, pool := derive("esp volume"), derive("pool")
	return Identity{
		Disk: guid(derive("disk")), ESPPart: guid(derive("esp")), RootPart: guid(derive("root partition")),
		Root: derive("root"), HashSeed: derive("hash"), ESPVolume: binary.BigEndian.Uint32(volume[:]),
		PoolSeed: UUID(pool),
	}
}

// guid stores a UUID in the mixed order of UEFI's GUIDs.
func guid(id [16]byte) gpt.GUID {
	g, err := gpt.ParseGUID(UUID(id))
	if err != nil {
		panic("disk: a derived UUID does not parse: " + err.Error())
	}
	return g
}

// UUID spells 16 bytes as RFC 9562 does.
func UUID(id [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

// RootUUID is how the kernel and fstab call the root.
func (i Identity) RootUUID() string { return UUID(i.Root) }

// ESPUUID is how fstab calls the EFI system partition.
func (i Identity) ESPUUID() string {
	return fmt.Sprintf("%04X-%04X", i.ESPVolume>>16, i.ESPVolume&0xffff)
}

// Options of a disk.
type Options struct {
	Size     int64 // bytes, whole MiB
	Identity Identity
	Boot     boot.Config
	Epoch    time.Time
	Label    string // of an ext4 root
	// Pool, when set, makes the root a ZFS pool; the snapshot Golden is taken of
	// each of its datasets.
	Pool *zpool.Layout
	// Progress, when set, is called with the bytes of file content written.
	Progress func(done int64, name string)
}

// Target is a fresh sparse file of Options.Size bytes.
type Target interface {
	io.WriterAt
}

// Golden is the snapshot of what the image was when it was made.
const Golden = "golden"

// Stats tells of a root on ZFS what is in it, in bytes.
type Stats struct {
	Partition int64 `json:"partition_bytes"`
	Logical   int64 `json:"logical_bytes,omitempty"`   // of file content
	Allocated int64 `json:"allocated_bytes,omitempty"` // in the pool, all copies and metadata
}

// Build writes the disk from a tree's stream. On error the target's content is
// of no use.
func Build(w Target, stream io.Reader, opts Options) (Stats, error) {
	if opts.Size < MinSize || opts.Size%(1<<20) != 0 {
		return Stats{}, fmt.Errorf("laying out the disk: size %d: want whole MiB, at least %d", opts.Size, int64(MinSize))
	}
	table := opts.table()
	if err := gpt.Write(w, table); err != nil {
		return Stats{}, err
	}
	espPart, rootPart := table.Partitions[0], table.Partitions[1]
	espFS, err := fat.NewWriter(&section{w, espPart.Start, espPart.Size}, fat.Options{
		Size: espPart.Size, Label: "ESP", VolumeID: opts.Identity.ESPVolume, Epoch: opts.Epoch,
		Type: fat.FAT32, HiddenSectors: uint32(espPart.Start / 512),
	})
	if err != nil {
		return Stats{}, err
	}
	root, err := opts.newRoot(&section{w, rootPart.Start, rootPart.Size}, rootPart)
	if err != nil {
		return Stats{}, err
	}
	b := &builder{root: root, esp: boot.NewESP(creator{espFS, opts.Epoch}, opts.Boot), progress: opts.Progress}
	err = b.fill(stream)
	if closed := root.Close(); err == nil { // it must be closed either way
		err = closed
	}
	if err == nil {
		err = espFS.Close()
	}
	stats := root.stats()
	stats.Partition = rootPart.Size
	return stats, err
}

func (o Options) table() gpt.Table {
	t := gpt.Table{DiskGUID: o.Identity.Disk, Size: o.Size}
	_, end := t.Usable()
	rootStart := int64(ESPStart + ESPSize)
	// The root ends on a whole MiB, as partitioning tools align it.
	rootSize := (end - rootStart) / (1 << 20) * (1 << 20)
	t.Partitions = []gpt.Partition{
		{Type: gpt.TypeESP, GUID: o.Identity.ESPPart, Name: "esp", Start: ESPStart, Size: ESPSize},
		{Type: gpt.TypeLinuxRootX8664, GUID: o.Identity.RootPart, Name: "root", Start: rootStart, Size: rootSize},
	}
	if o.Pool != nil {
		t.Partitions[1].Type, t.Partitions[1].Name = gpt.TypeZFS, o.Pool.Pool
	}
	return t
}

// creator gives every file of the ESP the epoch.
type creator struct {
	fs    *fat.Writer
	epoch time.Time
}

func (c creator) Create(name string, size int64, body io.Reader) error {
	return c.fs.Create(name, size, body, c.epoch)
}

type builder struct {
	root     root
	esp      *boot.ESP
	done     int64
	progress func(int64, string)
}

func (b *builder) fill(stream io.Reader) error {
	if err := tree.Read(stream, b.entry); err != nil {
		return fmt.Errorf("filling the disk: %w", err)
	}
	return b.esp.Finish()
}

// entry puts one file on the root and, where it concerns the ESP, there too.
func (b *builder) entry(e *tree.Entry, body io.Reader) error {
	if e.HardLink != "" {
		return b.root.Link(e.Path, e.HardLink)
	}
	if b.progress != nil {
		b.done += e.Size
		b.progress(b.done, e.Path)
	}
	if e.Mode&unix.S_IFMT != unix.S_IFREG || !b.esp.Wants(e.Path) {
		return b.root.create(e, body)
	}
	return b.both(e, body)
}

// both reads body once for the ESP and the root.
func (b *builder) both(e *tree.Entry, body io.Reader) error {
	pr, pw := io.Pipe()
	taken := make(chan error, 1)
	go func() {
		err := b.esp.Take(e.Path, e.Size, pr)
		pr.CloseWithError(err)
		taken <- err
	}()
	err := b.root.create(e, io.TeeReader(body, pw))
	pw.CloseWithError(err)
	if espErr := <-taken; err == nil {
		err = espErr
	}
	return err // where the ESP failed, the root's error quotes it
}

// section is a part of the target, and no more of it.
type section struct {
	w      io.WriterAt
	offset int64
	size   int64
}

func (s *section) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > s.size {
		return 0, fmt.Errorf("writing %d bytes at %d: the partition has %d", len(p), off, s.size)
	}
	return s.w.WriteAt(p, s.offset+off)
}
