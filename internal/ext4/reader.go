package ext4

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
)

const (
	readableIncompat = incompatFiletype | incompatMetaBG | incompatExtents | incompat64bit | incompatMMP |
		incompatFlexBG | incompatEAInode | incompatCsumSeed | incompatLargeDir | incompatInlineData |
		incompatEncrypt | incompatCasefold
)

// FS reads an ext4 file system. It is an [io/fs.FS] whose Stat and Open do not
// follow symbolic links; [FS.Resolve] does. Safe for concurrent use when the
// underlying ReaderAt is.
type FS struct {
	r              io.ReaderAt
	blockSize      int64
	blocks         int64
	firstBlock     int64
	blocksPerGroup int64
	inodesPerGroup uint32
	inodes         uint32
	inodeSize      int
	descSize       int64
	groups         int64
	incompat       uint32
	firstMetaBG    int64
	checksums      bool // metadata_csum
	seed           uint32
	sparseSuper    bool   // few groups hold a copy of the superblock
	reservedGDT    int64  // blocks behind the descriptors, for those of a grown file system
	journal        uint32 // inode of the journal; 0 is none, or one elsewhere
	uuid           [16]byte
	label          string

	mu     sync.Mutex
	tables map[int64]int64 // inode table of a group, once verified
	dirs   dirCache

	inodePieces pieceCache
}

// Open reads the superblock of the file system in the first size bytes of r.
func Open(r io.ReaderAt, size int64) (*FS, error) {
	b := make([]byte, superSize)
	if size < superOffset+superSize {
		return nil, fmt.Errorf("ext4: %d bytes are too few for a superblock", size)
	}
	if _, err := r.ReadAt(b, superOffset); err != nil && err != io.EOF {
		return nil, fmt.Errorf("ext4: reading the superblock: %w", err)
	}
	f := &FS{r: r, tables: map[int64]int64{}}
	if err := f.parseSuper(b, size); err != nil {
		return nil, fmt.Errorf("ext4: superblock at %d: %w", superOffset, err)
	}
	return f, nil
}

// UUID of the file system.
func (f *FS) UUID() [16]byte { return f.uuid }

// Label of the file system, without padding.
func (f *FS) Label() string { return f.label }

// Size in bytes, as the superblock gives it.
func (f *FS) Size() int64 { return f.blocks * f.blockSize }

func (f *FS) parseSuper(b []byte, size int64) error {
	if m := le.Uint16(b[0x38:]); m != superMagic {
		return fmt.Errorf("magic is %#x, want %#x", m, superMagic)
	}
	f.incompat = le.Uint32(b[0x60:])
	rocompat := le.Uint32(b[0x64:])
	f.checksums = rocompat&roMetaCsum != 0
	f.sparseSuper = rocompat&roSparseSuper != 0
	if f.checksums {
		if got, want := crc32c(^uint32(0), b[:0x3FC]), le.Uint32(b[0x3FC:]); got != want {
			return fmt.Errorf("checksum is %#x, computed %#x", want, got)
		}
		if b[0x175] != checksumCRC32C {
			return fmt.Errorf("checksum type %d, want %d (crc32c)", b[0x175], checksumCRC32C)
		}
	}
	switch unknown := f.incompat &^ readableIncompat; {
	case unknown&incompatRecover != 0:
		return errors.New("the journal needs recovery; mount the image or run e2fsck once")
	case unknown != 0:
		return fmt.Errorf("incompatible features %#x are not supported", unknown)
	case f.incompat&incompatFiletype == 0:
		return errors.New("file system without the filetype feature (ext2 of old) is not supported")
	case rocompat&roBigalloc != 0:
		return errors.New("bigalloc is not supported")
	}
	copy(f.uuid[:], b[0x68:])
	label, _, _ := bytes.Cut(b[0x78:0x88], []byte{0})
	f.label = string(label)
	f.seed = crc32c(^uint32(0), f.uuid[:])
	if f.incompat&incompatCsumSeed != 0 {
		f.seed = le.Uint32(b[0x270:])
	}
	return f.parseSizes(b, size)
}

// parseSizes checks all numbers that later arithmetic rests on.
func (f *FS) parseSizes(b []byte, size int64) error {
	logSize := le.Uint32(b[0x18:])
	if logSize > 6 {
		return fmt.Errorf("block size of 1024 << %d", logSize)
	}
	f.blockSize = 1024 << logSize
	blocks := uint64(le.Uint32(b[0x04:]))
	f.descSize = 32
	if f.incompat&incompat64bit != 0 {
		blocks |= uint64(le.Uint32(b[0x150:])) << 32
		f.descSize = int64(le.Uint16(b[0xFE:]))
	}
	f.blocks = int64(blocks)
	f.firstBlock = int64(le.Uint32(b[0x14:]))
	f.blocksPerGroup = int64(le.Uint32(b[0x20:]))
	f.inodesPerGroup = le.Uint32(b[0x28:])
	f.inodes = le.Uint32(b[0x00:])
	f.inodeSize = 128
	if le.Uint32(b[0x4C:]) > 0 {
		f.inodeSize = int(le.Uint16(b[0x58:]))
	}
	f.firstMetaBG = int64(le.Uint32(b[0x104:]))
	f.reservedGDT = int64(le.Uint16(b[0xCE:]))
	if le.Uint32(b[0x5C:])&compatJournal != 0 {
		f.journal = le.Uint32(b[0xE0:])
	}
	bits := 8 * f.blockSize
	switch {
	case blocks > uint64(size/f.blockSize):
		return fmt.Errorf("%d blocks of %d bytes do not fit %d bytes", blocks, f.blockSize, size)
	case f.firstBlock >= f.blocks || f.firstBlock > 1:
		return fmt.Errorf("first data block is %d of %d", f.firstBlock, f.blocks)
	case f.blocksPerGroup < 8 || f.blocksPerGroup > bits:
		return fmt.Errorf("%d blocks per group, want 8 to %d", f.blocksPerGroup, bits)
	case f.inodesPerGroup == 0 || int64(f.inodesPerGroup) > bits:
		return fmt.Errorf("%d inodes per group, want 1 to %d", f.inodesPerGroup, bits)
	case f.inodeSize < 128 || int64(f.inodeSize) > f.blockSize || f.inodeSize&(f.inodeSize-1) != 0:
		return fmt.Errorf("inodes of %d bytes", f.inodeSize)
	case f.descSize < 32 || f.descSize > 1024 || f.descSize&(f.descSize-1) != 0,
		f.incompat&incompat64bit != 0 && f.descSize < 64:
		return fmt.Errorf("group descriptors of %d bytes", f.descSize)
	}
	f.groups = ceilDiv(f.blocks-f.firstBlock, f.blocksPerGroup)
	if int64(f.inodes) != f.groups*int64(f.inodesPerGroup) {
		return fmt.Errorf("%d inodes, but %d groups of %d", f.inodes, f.groups, f.inodesPerGroup)
	}
	return nil
}

// readBlock reads one block that must lie inside the file system.
func (f *FS) readBlock(n int64) ([]byte, error) {
	if n <= f.firstBlock || n >= f.blocks { // before the product overflows
		return nil, fmt.Errorf("block %d is not within %d and %d", n, f.firstBlock+1, f.blocks)
	}
	b := make([]byte, f.blockSize)
	return b, f.readAt(b, n*f.blockSize)
}

// readAt fills b from an offset inside the file system.
func (f *FS) readAt(b []byte, off int64) error {
	if off < 0 || off > f.Size()-int64(len(b)) {
		return fmt.Errorf("%d bytes at %d are outside of the file system's %d", len(b), off, f.Size())
	}
	got, err := f.r.ReadAt(b, off)
	if got == len(b) {
		return nil
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("reading %d bytes at %d: %w", len(b), off, err)
}

// descOffset locates a group descriptor: in one table behind the superblock, or
// with meta_bg at the start of each meta group.
func (f *FS) descOffset(group int64) int64 {
	perBlock := f.blockSize / f.descSize
	block := group / perBlock
	if f.incompat&incompatMetaBG == 0 || block < f.firstMetaBG {
		return (f.firstBlock+1)*f.blockSize + group*f.descSize
	}
	first := block * perBlock
	at := f.firstBlock + first*f.blocksPerGroup
	if hasSuper(int(first)) {
		at++
	}
	return at*f.blockSize + group%perBlock*f.descSize
}
