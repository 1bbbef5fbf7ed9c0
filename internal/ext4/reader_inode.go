package ext4

import (
	"errors"
	"fmt"
	"time"
)

// diskInode is an inode as read, with the parts that reading goes on from.
type diskInode struct {
	Node
	flags      uint32
	generation uint32
	block      [iblockSize]byte
	xattrBlock int64
	xattrs     []byte // what follows the fixed fields
}

func (f *FS) readInode(ino uint32) (*diskInode, error) {
	in, err := f.parseInode(ino)
	if err != nil {
		return nil, fmt.Errorf("inode %d: %w", ino, err)
	}
	return in, nil
}

func (f *FS) parseInode(ino uint32) (*diskInode, error) {
	if ino == 0 || ino > f.inodes {
		return nil, fmt.Errorf("there are %d", f.inodes)
	}
	table, err := f.inodeTable(int64((ino - 1) / f.inodesPerGroup))
	if err != nil {
		return nil, err
	}
	at := table*f.blockSize + int64((ino-1)%f.inodesPerGroup)*int64(f.inodeSize)
	b := make([]byte, f.inodeSize)
	if err := f.readTable(b, at); err != nil {
		return nil, err
	}
	extra := 0
	if f.inodeSize > 128 {
		extra = int(le.Uint16(b[0x80:]))
		if extra > f.inodeSize-128 || extra%4 != 0 {
			return nil, fmt.Errorf("%d extra bytes in an inode of %d", extra, f.inodeSize)
		}
	}
	if f.checksums {
		if err := f.checkInode(ino, b, extra); err != nil {
			return nil, fmt.Errorf("at %d: %w", at, err)
		}
	}
	return f.decodeInode(ino, b, extra)
}

func (f *FS) checkInode(ino uint32, b []byte, extra int) error {
	mask := uint32(0xFFFF)
	want := uint32(le.Uint16(b[offChecksumLo:]))
	c := append([]byte(nil), b...)
	le.PutUint16(c[offChecksumLo:], 0)
	if extra >= 4 {
		mask = 0xFFFFFFFF
		want |= uint32(le.Uint16(b[offChecksumHi:])) << 16
		le.PutUint16(c[offChecksumHi:], 0)
	}
	got := crc32c(inodeSeed(f.seed, ino, le.Uint32(b[0x64:])), c) & mask
	if got != want {
		return fmt.Errorf("checksum is %#x, computed %#x", want, got)
	}
	return nil
}

func (f *FS) decodeInode(ino uint32, b []byte, extra int) (*diskInode, error) {
	size := uint64(le.Uint32(b[0x04:])) | uint64(le.Uint32(b[0x6C:]))<<32
	if limit := uint64(f.blockSize) << 32; size > limit {
		return nil, fmt.Errorf("size %d is above %d", size, limit)
	}
	in := &diskInode{flags: le.Uint32(b[0x20:]), generation: le.Uint32(b[0x64:])}
	in.Ino = ino
	in.Links = uint32(le.Uint16(b[offLinks:]))
	in.Mode = uint32(le.Uint16(b[0x00:]))
	in.UID = uint32(le.Uint16(b[0x02:])) | uint32(le.Uint16(b[0x78:]))<<16
	in.GID = uint32(le.Uint16(b[0x18:])) | uint32(le.Uint16(b[0x7A:]))<<16
	in.Size = int64(size)
	in.Sectors = int64(le.Uint32(b[0x1C:])) | int64(le.Uint16(b[0x74:]))<<32
	if in.flags&flagHugeFile != 0 {
		in.Sectors *= f.blockSize / 512
	}
	in.AccessTime = getTime(b, 0x08, 0x8C, extra)
	in.ChangeTime = getTime(b, 0x0C, 0x84, extra)
	in.ModTime = getTime(b, 0x10, 0x88, extra)
	copy(in.block[:], b[0x28:])
	in.xattrBlock = int64(le.Uint32(b[0x68:])) | int64(le.Uint16(b[0x76:]))<<32
	if extra > 0 {
		in.xattrs = b[128+extra:]
	}
	switch in.Mode & modeType {
	case modeChar, modeBlock:
		in.Major, in.Minor = getDevice(in.block[:])
	case modeRegular, modeDir, modeSymlink, modeFIFO, modeSocket:
	default:
		return nil, fmt.Errorf("mode %#o has no known file type", in.Mode)
	}
	return in, nil
}

// getTime reads seconds and, where the inode is long enough, what extends them.
func getTime(b []byte, at, extraAt, extra int) time.Time {
	sec := int64(int32(le.Uint32(b[at:])))
	if extraAt+4 > 128+extra {
		return time.Unix(sec, 0).UTC()
	}
	x := le.Uint32(b[extraAt:])
	return time.Unix(sec+int64(x&3)<<32, int64(x>>2)%1e9).UTC()
}

// readable says why the content of a file is out of reach.
func (in *diskInode) readable() error {
	switch {
	case in.flags&flagEncrypt != 0:
		return errors.New("encrypted files are not supported")
	case in.flags&flagInlineData != 0:
		return errors.New("inline data is not supported")
	case in.flags&flagExtents == 0 && in.Size > 0:
		return errors.New("block-mapped files (ext2, ext3) are not supported")
	}
	return nil
}

// readLink gives the target of a symbolic link.
func (f *FS) readLink(in *diskInode) (string, error) {
	if in.Size < iblockSize && in.flags&(flagExtents|flagInlineData|flagEncrypt) == 0 {
		return string(in.block[:in.Size]), nil
	}
	if err := in.readable(); err != nil {
		return "", err
	}
	if in.Size >= f.blockSize {
		return "", fmt.Errorf("link target of %d bytes", in.Size)
	}
	b := make([]byte, in.Size)
	m := extentMap{fs: f, in: in}
	if err := m.read(b, 0); err != nil {
		return "", err
	}
	return string(b), nil
}
