// Package zap writes and reads ZAP objects, the tables of ZFS from names to
// integers: directories, properties, the registries of the pool.
//
// [Build] and [Plan] give the bytes of all blocks of an object: a micro ZAP where
// the entries allow it, else a fat ZAP of 16 KiB blocks with an embedded or an
// external pointer table. The same entries and salt give the same bytes. [Open]
// reads both kinds, of any block size, from a source of blocks and trusts no field.
//
// Not supported: normalised or case-insensitive names and binary keys in what is
// written (both are read; names are then compared byte by byte), names longer than
// 255 bytes in what is written, big-endian objects.
//
// Facts are those of OpenZFS: include/sys/zap_impl.h and zap_leaf.h (layout),
// module/zfs/zap.c, zap_leaf.c, zap_micro.c (rules). docs/design/zfs-zap.md has the
// decisions.
package zap

import (
	"encoding/binary"
	"hash/crc64"
)

// Block types, the first 8 bytes of a block (ZBT_* of zap_impl.h). Blocks of the
// external pointer table have none.
const (
	TypeLeaf   = 1 << 63
	TypeHeader = 1<<63 + 1 // the first block of a fat ZAP
	TypeMicro  = 1<<63 + 3 // the only block of a micro ZAP
)

const (
	headerMagic = 0x2F52AB2AB // ZAP_MAGIC
	leafMagic   = 0x2AB1EAF   // ZAP_LEAF_MAGIC

	flagHash64     = 1 << 0 // ZAP_FLAG_HASH64: 48 bits of hash instead of 28
	flagUint64Key  = 1 << 1 // ZAP_FLAG_UINT64_KEY: names are 64-bit words
	flagPreHashed  = 1 << 2 // ZAP_FLAG_PRE_HASHED_KEY: the first word is the hash
	knownFlags     = flagHash64 | flagUint64Key | flagPreHashed
	hashBits       = 28
	hashBits64     = 48
	maxNameWritten = 255  // ZAP_MAXNAMELEN without its NUL
	maxNameRead    = 1023 // ZAP_MAXNAMELEN_NEW (feature longname) without its NUL
	maxValue       = 8192 // bytes, ZAP_MAXVALUELEN

	microHead    = 64        // bytes before the entries of a micro ZAP
	microEntry   = 64        // bytes, MZAP_ENT_LEN
	microNameLen = 50        // bytes with NUL, MZAP_NAME_LEN
	microMax     = 128 << 10 // bytes, MZAP_MAX_BLKSZ

	fatShift     = 14 // log2 of the block size written, fzap_default_block_shift
	leafHead     = 48 // bytes before a leaf's hash table
	chunkSize    = 24 // bytes, ZAP_LEAF_CHUNKSIZE
	arrayBytes   = 21 // payload of a chunk of names and values
	chainEnd     = 0xffff
	chunkArray   = 251
	chunkEntry   = 252
	chunkFree    = 253
	offPtrtbl    = 16 // header: zap_ptrtbl, five words
	offFreeBlock = 56
	offLeaves    = 64
	offEntries   = 72
	offSalt      = 80
	offNormFlags = 88
	offFlags     = 96
)

var (
	le = binary.LittleEndian
	be = binary.BigEndian // integers in chunks of names and values
)

var crcTable = crc64.MakeTable(crc64.ECMA)

// geometry is what follows from a fat ZAP's block size.
type geometry struct {
	shift   uint // log2 of the block size
	buckets int  // entries of a leaf's hash table
	chunks  int  // chunks of a leaf
}

func newGeometry(shift uint) geometry {
	buckets := 1 << (shift - 5)
	return geometry{shift, buckets, (1<<shift-2*buckets)/chunkSize - 2}
}

// embeddedShift is the log2 of the number of pointers in the header's second half.
func (g geometry) embeddedShift() uint { return g.shift - 4 }

// bucket is the place of hash in the hash table of a leaf with that prefix length.
func (g geometry) bucket(hash uint64, prefixLen uint) int {
	return int(hash>>(64-(g.shift-5)-prefixLen)) & (g.buckets - 1)
}

// prefix returns the first n bits of hash.
func prefix(hash uint64, n uint) uint64 { return hash >> 1 >> (63 - n) }

// hashName is the hash of name in a ZAP without flags, of 28 bits.
func hashName(salt uint64, name string) uint64 { return cutHash(crc(salt, name), hashBits) }

// crc is the CRC-64 (ECMA-182, reflected, not inverted) of name, started with salt.
func crc(salt uint64, name string) uint64 {
	for i := range len(name) {
		salt = salt>>8 ^ crcTable[byte(salt)^name[i]]
	}
	return salt
}

// cutHash keeps the first n bits of a hash.
func cutHash(h uint64, n uint) uint64 { return h &^ (1<<(64-n) - 1) }
