package block

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"fmt"

	"github.com/kldload/kldload/zfs/internal/ondisk"
)

// SumError says that bytes are not those that a checksum was made from.
type SumError struct {
	Checksum  ondisk.Checksum
	Got, Want [4]uint64
}

func (e *SumError) Error() string {
	return fmt.Sprintf("%s is %x, wanted %x", e.Checksum, e.Got, e.Want)
}

// UnsupportedSumError names a checksum that is not known here, so that a block
// cannot be verified.
type UnsupportedSumError struct{ Checksum ondisk.Checksum }

func (e *UnsupportedSumError) Error() string {
	return fmt.Sprintf("the checksum %s is not supported", e.Checksum)
}

// Verify holds a block as stored against its pointer's checksum. Blocks of
// checksum off are always right. Errors are [*SumError], [*UnsupportedSumError].
func Verify(b []byte, c ondisk.Checksum, want [4]uint64) error {
	if c == ondisk.ChecksumOff || c == ondisk.ChecksumNoParity {
		return nil
	}
	got, err := Sum(b, c)
	if err != nil {
		return err
	}
	if got != want {
		return &SumError{c, got, want}
	}
	return nil
}

// Sum computes a checksum over a block as stored, a multiple of 16 bytes. The
// words are those of a little-endian pool.
func Sum(b []byte, c ondisk.Checksum) (sum [4]uint64, err error) {
	switch c {
	case ondisk.ChecksumFletcher2:
		return sumFletcher2(b), nil
	case ondisk.ChecksumFletcher4, ondisk.ChecksumZilog2:
		return Fletcher4(b), nil
	case ondisk.ChecksumSHA256, ondisk.ChecksumLabel, ondisk.ChecksumGangHeader:
		return words(sha256.Sum256(b), binary.BigEndian), nil // module/zfs/sha2_zfs.c turns these round
	case ondisk.ChecksumSHA512:
		return words(sha512.Sum512_256(b), binary.LittleEndian), nil // and not those
	}
	return sum, &UnsupportedSumError{c}
}

func words(digest [32]byte, order binary.ByteOrder) (sum [4]uint64) {
	for i := range sum {
		sum[i] = order.Uint64(digest[8*i:])
	}
	return sum
}

// sumFletcher2 takes pairs of 64-bit words (zfs_fletcher.c).
func sumFletcher2(b []byte) [4]uint64 {
	var a0, a1, b0, b1 uint64
	for ; len(b) >= 16; b = b[16:] {
		a0 += binary.LittleEndian.Uint64(b)
		a1 += binary.LittleEndian.Uint64(b[8:])
		b0 += a0
		b1 += a1
	}
	return [4]uint64{a0, a1, b0, b1}
}
