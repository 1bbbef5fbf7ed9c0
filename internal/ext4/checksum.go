package ext4

import (
	"encoding/binary"
	"hash/crc32"
)

var le = binary.LittleEndian

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// crc32c is the kernel's: no inversion before or after, so results chain.
func crc32c(seed uint32, p []byte) uint32 {
	return ^crc32.Update(^seed, castagnoli, p)
}

func crc32c32(seed, v uint32) uint32 {
	var b [4]byte
	le.PutUint32(b[:], v)
	return crc32c(seed, b[:])
}

func crc32c64(seed uint32, v uint64) uint32 {
	var b [8]byte
	le.PutUint64(b[:], v)
	return crc32c(seed, b[:])
}

// inodeSeed starts the checksum of everything that belongs to one inode.
func inodeSeed(fsSeed, ino, generation uint32) uint32 {
	return crc32c32(crc32c32(fsSeed, ino), generation)
}
