package ext4

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"time"
)

const (
	outBuffer   = 4 << 20
	tableBuffer = 256 << 10

	defaultInodeRatio = 16384
	maxLabel          = 16
)

// Options describe the file system to make. Everything that would be random or
// taken from the clock is given here.
type Options struct {
	// Size of the image in bytes, rounded down to whole blocks of 4096; a last
	// group too small to be of use is left out, as mke2fs does.
	Size int64
	UUID [16]byte
	// HashSeed is the seed of the directory hash; zero means the hash's own.
	HashSeed [16]byte
	// Label of at most 16 bytes.
	Label string
	// Epoch in seconds is the creation time of the file system and of all inodes,
	// and the time of those that come without one.
	Epoch int64
	// InodeRatio is bytes of image per inode; 0 means 16384.
	InodeRatio int64
	// Inodes is how many there are at least; 0 follows from InodeRatio.
	Inodes int64
	// JournalBlocks of 4096 bytes; 0 means mke2fs's choice by size (none below
	// 8 MiB), negative no journal.
	JournalBlocks int64
	// ReservedPercent of the blocks is kept for root; 0 means 5, negative none.
	ReservedPercent int
}

// Writer puts files into a new file system. It is not safe for concurrent use.
// After an error from the image, a body or lack of space it stays broken: each
// later call gives that error.
type Writer struct {
	opts     Options
	geo      *geometry
	seed     uint32 // of checksums
	hashSeed [4]uint32
	epoch    time.Time
	alloc    allocator
	out      pending // file data, directories, metadata
	table    pending // inodes, in order

	journal  *inode
	dirs     []*dir // in order of inode numbers, lost+found apart
	byPath   map[string]*dir
	nextIno  uint32
	sums     []uint32          // inode checksums from firstFreeIno on
	relinks  map[uint32]uint32 // link counts above 1
	usedDirs []uint32          // by group

	broken error
	closed bool
}

// NewWriter starts a file system in w, whose first opts.Size bytes must read as
// zeros: blocks of zeros are never written, so a sparse file stays sparse.
func NewWriter(w io.WriterAt, opts Options) (*Writer, error) {
	if len(opts.Label) > maxLabel {
		return nil, fmt.Errorf("ext4: label %q is longer than %d bytes", opts.Label, maxLabel)
	}
	if opts.InodeRatio == 0 {
		opts.InodeRatio = defaultInodeRatio
	}
	if opts.ReservedPercent > 50 {
		return nil, fmt.Errorf("ext4: %d percent of reserved blocks: want at most 50", opts.ReservedPercent)
	}
	if opts.Epoch < 0 || opts.Epoch > maxSeconds {
		return nil, fmt.Errorf("ext4: epoch %d is not within 0 and %d", opts.Epoch, int64(maxSeconds))
	}
	geo, err := newGeometry(opts.Size, opts.InodeRatio, opts.Inodes)
	if err != nil {
		return nil, err
	}
	journal, err := opts.journalBlocks(geo.blocks)
	if err != nil {
		return nil, err
	}
	x := &Writer{
		opts: opts, geo: geo,
		seed:     crc32c(^uint32(0), opts.UUID[:]),
		epoch:    time.Unix(opts.Epoch, 0),
		alloc:    allocator{end: geo.blocks, reserved: geo.reserved, free: geo.blocks - geo.reservedBlocks()},
		out:      pending{w: w, buf: make([]byte, outBuffer)},
		table:    pending{w: w, buf: make([]byte, tableBuffer)},
		byPath:   map[string]*dir{},
		nextIno:  firstFreeIno,
		relinks:  map[uint32]uint32{},
		usedDirs: make([]uint32, geo.groups),
	}
	for i := range x.hashSeed {
		x.hashSeed[i] = le.Uint32(opts.HashSeed[4*i:])
	}
	if err := x.writeSystem(journal); err != nil {
		return nil, fmt.Errorf("ext4: %w", err)
	}
	return x, nil
}

// writeSystem makes what mke2fs makes beside the tables.
func (w *Writer) writeSystem(journal int64) error {
	if w.geo.reservedDescs > 0 {
		if err := w.writeResizeInode(); err != nil {
			return err
		}
	}
	if journal > 0 {
		if err := w.writeJournal(journal); err != nil {
			return err
		}
	}
	root := w.addDir(inoRoot, inoRoot, "", w.systemInode(modeDir|0o755))
	w.addDir(inoLostFound, inoRoot, "lost+found", w.systemInode(modeDir|0o700))
	root.add("lost+found", inoLostFound, modeDir>>12)
	root.subdirs++
	return nil
}

func (w *Writer) systemInode(mode uint16) *inode {
	return &inode{mode: mode, links: 1, atime: w.epoch, ctime: w.epoch, mtime: w.epoch, crtime: w.epoch}
}

func (w *Writer) addDir(ino, parent uint32, path string, in *inode) *dir {
	d := &dir{ino: ino, parent: parent, path: path, in: in}
	w.dirs = append(w.dirs, d)
	w.byPath[path] = d
	w.usedDirs[int(ino-1)/w.geo.inodesPerGroup]++
	return d
}

// Close writes the directories and all metadata. The image is complete when it
// returns nil; w itself is not closed.
func (w *Writer) Close() error {
	if w.closed {
		return errors.New("ext4: closing a closed writer")
	}
	w.closed = true
	if w.broken != nil {
		return w.broken
	}
	for _, d := range w.dirs {
		if err := w.writeDir(d); err != nil {
			return wrapPath(cmp.Or(d.path, "."), err)
		}
	}
	if err := w.writeMetadata(); err != nil {
		return fmt.Errorf("ext4: %w", err)
	}
	return nil
}

func (w *Writer) writeMetadata() error {
	for _, d := range w.dirs {
		if err := w.patchInode(d.ino, d.in); err != nil {
			return err
		}
	}
	if err := w.writeRelinks(); err != nil {
		return err
	}
	if err := w.writeGroups(); err != nil {
		return err
	}
	return errors.Join(w.table.flush(), w.out.flush())
}

// writeRelinks brings the link counts of hard-linked files up to date.
func (w *Writer) writeRelinks() error {
	for ino := uint32(firstFreeIno); ino < w.nextIno; ino++ {
		links := w.relinks[ino]
		if links == 0 {
			continue
		}
		sum := relinked(w.sums[ino-firstFreeIno], 1, uint16(links))
		at := w.geo.inodeOffset(ino)
		for _, f := range []struct {
			off int64
			v   uint16
		}{{offLinks, uint16(links)}, {offChecksumLo, uint16(sum)}, {offChecksumHi, uint16(sum >> 16)}} {
			if err := w.table.write(le.AppendUint16(nil, f.v), at+f.off); err != nil {
				return err
			}
		}
	}
	return nil
}

// patchInode writes one inode in its place. All writes to the tables go through
// one buffer, so a later one wins.
func (w *Writer) patchInode(ino uint32, in *inode) error {
	var b [inodeSize]byte
	in.encode(&b, w.seed, ino)
	return w.table.write(b[:], w.geo.inodeOffset(ino))
}

// appendInode gives the next free number to an inode and queues it.
func (w *Writer) appendInode(in *inode) error {
	var b [inodeSize]byte
	w.sums = append(w.sums, in.encode(&b, w.seed, w.nextIno))
	err := w.table.write(b[:], w.geo.inodeOffset(w.nextIno))
	w.nextIno++
	return err
}

func (w *Writer) allocBlock(path string) (int64, error) {
	at, n := w.alloc.alloc(1)
	if n == 0 {
		return 0, w.noBlocks(path, 1)
	}
	return at, nil
}

func (w *Writer) writeBlock(path string, b []byte) (int64, error) {
	at, err := w.allocBlock(path)
	if err != nil {
		return 0, err
	}
	return at, w.out.write(b, at*blockSize)
}

func (w *Writer) noBlocks(path string, needed int64) error {
	return &NoSpaceError{path, "blocks", needed, w.alloc.free, w.geo.blocks * blockSize}
}
