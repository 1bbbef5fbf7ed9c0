package ext4

import "time"

// Inode numbers with a meaning: "Special inodes".
const (
	inoRoot      = 2
	inoResize    = 7
	inoJournal   = 8
	inoLostFound = 11
	firstFreeIno = 12
	firstIno     = 11 // s_first_ino
)

// File type bits of i_mode, as in Linux's st_mode.
const (
	modeType    = 0xF000
	modeSocket  = 0xC000
	modeSymlink = 0xA000
	modeRegular = 0x8000
	modeBlock   = 0x6000
	modeDir     = 0x4000
	modeChar    = 0x2000
	modeFIFO    = 0x1000
)

const (
	flagIndex      = 0x1000
	flagEncrypt    = 0x800
	flagHugeFile   = 0x40000
	flagExtents    = 0x80000
	flagInlineData = 0x10000000

	extraIsize = 32 // what this writer uses behind the first 128 bytes
	maxLinks   = 65000
	iblockSize = 60

	offLinks      = 0x1A
	offChecksumLo = 0x7C
	offChecksumHi = 0x82
)

// inode is one on-disk inode before its encoding.
type inode struct {
	mode                        uint16
	uid, gid                    uint32
	links                       uint32
	size                        int64
	blocks                      int64 // of data and metadata
	flags                       uint32
	atime, ctime, mtime, crtime time.Time
	block                       [iblockSize]byte
	xattrBlock                  int64
	xattrs                      []byte // in-inode attributes
}

// encode gives the 256 bytes of the inode; "Index Nodes".
func (in *inode) encode(b *[inodeSize]byte, seed, ino uint32) (checksum uint32) {
	*b = [inodeSize]byte{}
	sectors := in.blocks * (blockSize / 512)
	le.PutUint16(b[0x00:], in.mode)
	le.PutUint16(b[0x02:], uint16(in.uid))
	le.PutUint32(b[0x04:], uint32(in.size))
	putTime(b[:], 0x08, 0x8C, in.atime)
	putTime(b[:], 0x0C, 0x84, in.ctime)
	putTime(b[:], 0x10, 0x88, in.mtime)
	le.PutUint16(b[0x18:], uint16(in.gid))
	le.PutUint16(b[offLinks:], uint16(in.links))
	le.PutUint32(b[0x1C:], uint32(sectors))
	le.PutUint32(b[0x20:], in.flags)
	copy(b[0x28:], in.block[:])
	le.PutUint32(b[0x68:], uint32(in.xattrBlock))
	le.PutUint32(b[0x6C:], uint32(in.size>>32))
	le.PutUint16(b[0x74:], uint16(sectors>>32))
	le.PutUint16(b[0x76:], uint16(in.xattrBlock>>32))
	le.PutUint16(b[0x78:], uint16(in.uid>>16))
	le.PutUint16(b[0x7A:], uint16(in.gid>>16))
	le.PutUint16(b[0x80:], extraIsize)
	putTime(b[:], 0x90, 0x94, in.crtime)
	copy(b[0x80+extraIsize:], in.xattrs)
	checksum = crc32c(inodeSeed(seed, ino, 0), b[:])
	putInodeChecksum(b, checksum)
	return checksum
}

func putInodeChecksum(b *[inodeSize]byte, sum uint32) {
	le.PutUint16(b[offChecksumLo:], uint16(sum))
	le.PutUint16(b[offChecksumHi:], uint16(sum>>16))
}

// Times are 34 bits of seconds from 1901 and 30 bits of nanoseconds; what lies
// outside is moved to the edge, as the kernel does.
const (
	minSeconds = -1 << 31
	maxSeconds = 1<<34 + minSeconds - 1
)

func putTime(b []byte, at, extraAt int, t time.Time) {
	sec, nsec := t.Unix(), uint32(t.Nanosecond())
	if sec < minSeconds {
		sec, nsec = minSeconds, 0
	} else if sec > maxSeconds {
		sec, nsec = maxSeconds, 0
	}
	le.PutUint32(b[at:], uint32(sec))
	epoch := uint32((sec - int64(int32(sec))) >> 32)
	le.PutUint32(b[extraAt:], nsec<<2|epoch&3)
}

// relinked gives the checksum of an inode after its link count has changed from
// one value to another. A CRC is linear: the checksums of two inodes differ by
// the CRC (from 0) of their difference. So the writer need not keep or read back
// inodes to count hard links, only their checksums.
func relinked(sum uint32, from, to uint16) uint32 {
	var diff [inodeSize]byte
	le.PutUint16(diff[offLinks:], from^to)
	return sum ^ crc32c(0, diff[:])
}

// putDevice stores a device number as the kernel's init_special_inode users do:
// old 16-bit form in the first word where it fits, else the new form in the second.
func putDevice(b []byte, major, minor uint32) {
	if major < 256 && minor < 256 {
		le.PutUint32(b[0:], major<<8|minor)
		return
	}
	le.PutUint32(b[4:], minor&0xFF|major<<8|(minor&^0xFF)<<12)
}

func getDevice(b []byte) (major, minor uint32) {
	if v := le.Uint32(b); v != 0 {
		return v >> 8 & 0xFF, v & 0xFF
	}
	v := le.Uint32(b[4:])
	return v >> 8 & 0xFFF, v&0xFF | v>>12&0xFFF00
}
