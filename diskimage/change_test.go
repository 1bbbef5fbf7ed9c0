package diskimage

import "encoding/binary"

// change damages an image, which it may do in place.
type change = func(b []byte) []byte

// put32 and put64 set a big-endian number.
func put32(off int, v uint32) change {
	return func(b []byte) []byte { binary.BigEndian.PutUint32(b[off:], v); return b }
}

func put64(off int, v uint64) change {
	return func(b []byte) []byte { binary.BigEndian.PutUint64(b[off:], v); return b }
}

// le32 and le64 set a little-endian number; negative offsets count from the end.
func le32(off int, v uint32) change {
	return func(b []byte) []byte { binary.LittleEndian.PutUint32(b[(off+len(b))%len(b):], v); return b }
}

func le64(off int, v uint64) change {
	return func(b []byte) []byte { binary.LittleEndian.PutUint64(b[(off+len(b))%len(b):], v); return b }
}
