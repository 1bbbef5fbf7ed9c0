package ondisk

import (
	"encoding/binary"
	"fmt"
)

var le = binary.LittleEndian

// DVA says where one copy of a block lies (dva_t, sys/spa.h).
type DVA struct {
	VDev   uint32
	ASize  uint64 // bytes allocated
	Offset uint64 // bytes behind LabelStart of the vdev
	Gang   bool   // a gang header lies there
}

// IsZero tells that there is no such copy.
func (d DVA) IsZero() bool { return d.ASize == 0 && d.Offset == 0 }

func (d DVA) String() string { return fmt.Sprintf("%d:%x:%x", d.VDev, d.Offset, d.ASize) }

// BlockPtr is a block pointer as stored (blkptr_t, sys/spa.h): three DVAs, a
// word of properties, births, the fill count and a checksum.
type BlockPtr [BlockPtrSize]byte

const (
	propWord       = 6
	physBirthWord  = 9
	birthWord      = 10
	fillWord       = 11
	embeddedBit    = 39
	encryptedBit   = 61
	dedupBit       = 62
	byteOrderBit   = 63
	embeddedMaxLen = 112
)

// EmbeddedMax is the most bytes a pointer can hold itself (BPE_PAYLOAD_SIZE).
const EmbeddedMax = embeddedMaxLen

// payloadWords are those that hold an embedded block: all but the properties
// and the birth.
var payloadWords = [...]int{0, 1, 2, 3, 4, 5, 7, 8, 9, 11, 12, 13, 14, 15}

func (b *BlockPtr) word(i int) uint64       { return le.Uint64(b[8*i:]) }
func (b *BlockPtr) setWord(i int, v uint64) { le.PutUint64(b[8*i:], v) }

// bits takes n bits of the properties from bit lo.
func (b *BlockPtr) bits(lo, n uint) uint64 { return b.word(propWord) >> lo & (1<<n - 1) }

// IsHole tells that the block is all zeros and stored nowhere.
func (b *BlockPtr) IsHole() bool {
	return !b.IsEmbedded() && b.word(0) == 0 && b.word(1) == 0
}

// IsZero tells that the pointer is 128 bytes of zeros.
func (b *BlockPtr) IsZero() bool { return *b == BlockPtr{} }

// IsEmbedded tells that the pointer holds the block itself.
func (b *BlockPtr) IsEmbedded() bool { return b.bits(embeddedBit, 1) == 1 }

// IsEncrypted tells that the block is encrypted or authenticated.
func (b *BlockPtr) IsEncrypted() bool { return b.bits(encryptedBit, 1) == 1 }

// IsDedup tells that the block is in the table of deduplicated ones.
func (b *BlockPtr) IsDedup() bool { return b.bits(dedupBit, 1) == 1 }

// LittleEndian tells the byte order of the block's content.
func (b *BlockPtr) LittleEndian() bool { return b.bits(byteOrderBit, 1) == 1 }

// Type of the object the block belongs to.
func (b *BlockPtr) Type() ObjectType { return ObjectType(b.bits(48, 8)) }

// Level is 0 for content, more for indirect blocks.
func (b *BlockPtr) Level() int { return int(b.bits(56, 5)) }

// Compression of the stored bytes.
func (b *BlockPtr) Compression() Compression { return Compression(b.bits(32, 7)) }

// Checksum tells which sum Sum is; of no meaning in embedded blocks.
func (b *BlockPtr) Checksum() Checksum { return Checksum(b.bits(40, 8)) }

// EmbeddedType is 0 for data (BP_EMBEDDED_TYPE_DATA).
func (b *BlockPtr) EmbeddedType() uint8 { return uint8(b.bits(40, 8)) }

// LSize is the block's size in bytes, uncompressed.
func (b *BlockPtr) LSize() int {
	if b.IsEmbedded() {
		return int(b.bits(0, 25)) + 1
	}
	return (int(b.bits(0, 16)) + 1) * SectorSize
}

// PSize is its size as stored, in bytes.
func (b *BlockPtr) PSize() int {
	if b.IsEmbedded() {
		return int(b.bits(25, 7)) + 1
	}
	return (int(b.bits(16, 16)) + 1) * SectorSize
}

// Birth is the transaction group that made the pointer.
func (b *BlockPtr) Birth() uint64 { return b.word(birthWord) }

// PhysBirth is the one that wrote the block, where it is another; 0 if not.
func (b *BlockPtr) PhysBirth() uint64 {
	if b.IsEmbedded() {
		return 0
	}
	return b.word(physBirthWord)
}

// Fill is the count of blocks below, of dnodes for dnode and objset blocks.
func (b *BlockPtr) Fill() uint64 {
	switch {
	case b.IsEmbedded():
		return 1
	case b.IsHole():
		return 0
	case b.IsEncrypted(): // the other half is a part of the IV
		return b.word(fillWord) & (1<<32 - 1)
	}
	return b.word(fillWord)
}

// Sum is the stored checksum.
func (b *BlockPtr) Sum() [4]uint64 {
	return [4]uint64{b.word(12), b.word(13), b.word(14), b.word(15)}
}

// DVA gives copy i, 0 to 2; a zero one when there is none.
func (b *BlockPtr) DVA(i int) DVA {
	w0, w1 := b.word(2*i), b.word(2*i+1)
	return DVA{
		VDev: uint32(w0 >> 32 & (1<<24 - 1)), ASize: (w0 & (1<<24 - 1)) * SectorSize,
		Offset: w1 &^ (1 << 63) * SectorSize, Gang: w1>>63 == 1,
	}
}

// Copies counts the DVAs in use.
func (b *BlockPtr) Copies() int {
	if b.IsEmbedded() {
		return 0
	}
	n := 0
	for i := 0; i < 3; i++ {
		if b.word(2*i) != 0 || b.word(2*i+1) != 0 {
			n++
		}
	}
	return n
}

// ASize is the bytes allocated for all copies.
func (b *BlockPtr) ASize() uint64 {
	if b.IsEmbedded() {
		return 0
	}
	return b.DVA(0).ASize + b.DVA(1).ASize + b.DVA(2).ASize
}

// Payload is the content of an embedded pointer, PSize bytes, compressed as
// Compression says. A pointer whose PSize is beyond the payload is damaged.
func (b *BlockPtr) Payload() ([]byte, error) {
	n := b.PSize()
	if n > embeddedMaxLen {
		return nil, fmt.Errorf("embedded block of %d bytes: want at most %d", n, embeddedMaxLen)
	}
	out := make([]byte, 0, embeddedMaxLen)
	for _, w := range payloadWords {
		out = append(out, b[8*w:8*w+8]...)
	}
	return out[:n], nil
}

// Block describes a stored block, for NewBlockPtr.
type Block struct {
	DVAs         [3]DVA
	LSize, PSize int // bytes, multiples of SectorSize
	Compression  Compression
	Checksum     Checksum
	Type         ObjectType
	Level        int
	Birth, Fill  uint64
	Sum          [4]uint64
}

// NewBlockPtr makes the pointer to a stored block.
func NewBlockPtr(k Block) (b BlockPtr) {
	for i, d := range k.DVAs {
		b.setWord(2*i, d.ASize/SectorSize|uint64(d.VDev)<<32)
		b.setWord(2*i+1, d.Offset/SectorSize)
	}
	b.setWord(propWord, uint64(k.LSize/SectorSize-1)|uint64(k.PSize/SectorSize-1)<<16|uint64(k.Compression)<<32|
		uint64(k.Checksum)<<40|uint64(k.Type)<<48|uint64(k.Level)<<56|1<<byteOrderBit)
	b.setWord(birthWord, k.Birth)
	b.setWord(fillWord, k.Fill)
	for i, s := range k.Sum {
		b.setWord(12+i, s)
	}
	return b
}

// NewEmbedded makes a pointer that holds the block itself: payload is at most
// EmbeddedMax bytes that decompress to lsize ones.
func NewEmbedded(payload []byte, lsize int, c Compression, t ObjectType, level int, birth uint64) (b BlockPtr) {
	var padded [embeddedMaxLen]byte
	copy(padded[:], payload)
	for i, w := range payloadWords {
		copy(b[8*w:8*w+8], padded[8*i:])
	}
	b.setWord(propWord, uint64(lsize-1)|uint64(len(payload)-1)<<25|uint64(c)<<32|1<<embeddedBit|
		uint64(t)<<48|uint64(level)<<56|1<<byteOrderBit)
	b.setWord(birthWord, birth)
	return b
}
