package ondisk

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// Parts of a label (vdev_label_t, sys/vdev_impl.h), bytes from its start.
const (
	LabelBootOffset   = 8 << 10
	LabelBootSize     = 8 << 10
	LabelConfigOffset = 16 << 10
	LabelConfigSize   = 112 << 10
	LabelRingOffset   = 128 << 10
	LabelRingSize     = 128 << 10
)

// LabelOffset is where label i, 0 to 3, of a vdev of size bytes lies.
func LabelOffset(i int, size int64) int64 {
	if i < 2 {
		return int64(i) * LabelSize
	}
	return size/LabelSize*LabelSize - int64(4-i)*LabelSize
}

// UberblockSize is the size of a slot of the ring, by the vdev's ashift
// (VDEV_UBERBLOCK_SHIFT: 1 KiB to 8 KiB).
func UberblockSize(ashift int) int { return 1 << min(max(ashift, 10), 13) }

const (
	embeddedMagic  = 0x0210da7ab10c7a11 // ZEC_MAGIC
	embeddedSize   = 40                 // zio_eck_t: magic and four words
	uberblockMagic = 0x00bab10c
	mmpMagic       = 0xa11cea11
)

// Uberblock is the root of a pool's state (uberblock_t, sys/uberblock_impl.h).
type Uberblock struct {
	Version, Txg, GUIDSum, Timestamp uint64
	Root                             BlockPtr
	SoftwareVersion                  uint64
	CheckpointTxg                    uint64
}

// Put encodes it into a zeroed slot; SealLabelPart must follow.
func (u *Uberblock) Put(b []byte) {
	for i, v := range []uint64{uberblockMagic, u.Version, u.Txg, u.GUIDSum, u.Timestamp} {
		le.PutUint64(b[8*i:], v)
	}
	copy(b[40:], u.Root[:])
	le.PutUint64(b[168:], u.SoftwareVersion)
	le.PutUint64(b[176:], mmpMagic)
}

// ErrNoUberblock says that a slot of the ring is empty.
var ErrNoUberblock = fmt.Errorf("no uberblock")

// ParseUberblock decodes a slot, whose checksum CheckLabelPart knows.
func ParseUberblock(b []byte) (*Uberblock, error) {
	if len(b) < 1024 {
		return nil, fmt.Errorf("uberblock slot of %d bytes: want at least 1024", len(b))
	}
	switch magic := le.Uint64(b); magic {
	case uberblockMagic:
	case 0x0cb1ba0000000000:
		return nil, fmt.Errorf("uberblock of a big-endian pool: want a little-endian one")
	case 0:
		return nil, ErrNoUberblock
	default:
		return nil, fmt.Errorf("uberblock magic %#x: want %#x", magic, uint64(uberblockMagic))
	}
	u := &Uberblock{
		Version: le.Uint64(b[8:]), Txg: le.Uint64(b[16:]), GUIDSum: le.Uint64(b[24:]), Timestamp: le.Uint64(b[32:]),
		SoftwareVersion: le.Uint64(b[168:]), CheckpointTxg: le.Uint64(b[200:]),
	}
	copy(u.Root[:], b[40:])
	return u, nil
}

// SealLabelPart sums a part of a label into its last 40 bytes, as the LABEL
// checksum does: SHA-256 over the part with the offset in place of the sum.
// offset is the part's on the vdev, in bytes.
func SealLabelPart(b []byte, offset int64) {
	e := b[len(b)-embeddedSize:]
	le.PutUint64(e, embeddedMagic)
	sum := labelSum(b, offset)
	copy(e[8:], sum[:])
}

// CheckLabelPart tells whether a part's sum is right.
func CheckLabelPart(b []byte, offset int64) bool {
	e := b[len(b)-embeddedSize:]
	if le.Uint64(e) != embeddedMagic {
		return false
	}
	sum := labelSum(append([]byte(nil), b...), offset)
	return string(sum[:]) == string(e[8:])
}

// labelSum overwrites the place of the sum.
func labelSum(b []byte, offset int64) (out [32]byte) {
	e := b[len(b)-embeddedSize+8:]
	clear(e)
	le.PutUint64(e, uint64(offset))
	sum := sha256.Sum256(b)
	for i := 0; i < 32; i += 8 { // words of SHA-256 are big-endian, stored in the pool's order
		le.PutUint64(out[i:], binary.BigEndian.Uint64(sum[i:]))
	}
	return out
}
