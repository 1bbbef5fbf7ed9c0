package diskimage

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"hash/crc32"
)

// identityUser is a sink that puts an identifier of the disk into its file:
// some programs refuse two disks with the same one, and the same input has to
// give the same bytes.
type identityUser interface {
	// wantsIdentity tells whether the caller gave none.
	wantsIdentity() bool
	// takeIdentity is called before Finish.
	takeIdentity(id [16]byte)
}

// identityPiece is the unit of the disk an identity is made from. It does not
// depend on the size of the engine's blocks.
const identityPiece = 64 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// diskIdentity derives a UUID (RFC 9562, version 8) from what
// the disk holds: SHA-256 over its size and the place and CRC-32C of each piece
// that is not zero. It tells disks apart, it is no proof of their content.
type diskIdentity struct {
	sum   hash.Hash
	users []identityUser
}

// newDiskIdentity returns nil when no sink wants an identity.
func newDiskIdentity(sinks []Sink) *diskIdentity {
	d := &diskIdentity{sum: sha256.New()}
	for _, s := range sinks {
		if u, ok := s.(identityUser); ok && u.wantsIdentity() {
			d.users = append(d.users, u)
		}
	}
	if len(d.users) == 0 {
		return nil
	}
	return d
}

// Begin implements worker.
func (d *diskIdentity) Begin(size int64) error {
	d.sum.Write(binary.BigEndian.AppendUint64([]byte("kldload disk identity 1\x00"), uint64(size)))
	return nil
}

// Encode implements worker.
func (d *diskIdentity) Encode(b *Block) (Commit, error) {
	var pieces []byte
	for at := 0; at < len(b.Data); at += identityPiece {
		p := b.Data[at:min(at+identityPiece, len(b.Data))]
		if !isZero(p) {
			pieces = binary.BigEndian.AppendUint64(pieces, uint64(b.Offset)+uint64(at))
			pieces = binary.BigEndian.AppendUint32(pieces, crc32.Checksum(p, castagnoli))
		}
	}
	return func(context.Context) error {
		d.sum.Write(pieces)
		return nil
	}, nil
}

// give hands the identity out.
func (d *diskIdentity) give() {
	id := [16]byte(d.sum.Sum(nil))
	id[6] = id[6]&0x0f | 0x80 // version 8
	id[8] = id[8]&0x3f | 0x80 // variant
	for _, u := range d.users {
		u.takeIdentity(id)
	}
}
