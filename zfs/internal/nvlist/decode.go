package nvlist

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Decode reads a packed list; bytes behind its end are ignored, as labels have
// zeros there. Memory is bounded by a small multiple of len(b), nesting by 32.
func Decode(b []byte) (List, error) {
	if len(b) < 4 {
		return nil, fmt.Errorf("decoding nvlist: %d bytes, wanted a header of 4", len(b))
	}
	var l List
	var err error
	switch {
	case b[1] > littleEndian:
		return nil, fmt.Errorf("decoding nvlist: byte order %d, wanted 0 or 1", b[1])
	case b[0] == encodingXDR:
		d := decoder{b: b[4:]}
		l, err = d.list(0)
	case b[0] == encodingNative && b[1] == littleEndian:
		d := nativeDecoder{b[4:]}
		l, err = d.packed()
	case b[0] == encodingNative:
		err = errors.New("native encoding of a big-endian machine, wanted XDR or little-endian")
	default:
		err = fmt.Errorf("encoding %d, wanted 0 (native) or 1 (XDR)", b[0])
	}
	if err != nil {
		return nil, fmt.Errorf("decoding nvlist: %w", err)
	}
	return l, nil
}

// decoder takes XDR off the front of b. The first read past the end sets short, and
// gives zeros from then on.
type decoder struct {
	b     []byte
	short bool
}

// take returns the next n bytes, or nil past the end.
func (d *decoder) take(n int) []byte {
	if n < 0 || n > len(d.b) {
		d.short, d.b = true, nil
		return nil
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) u32() uint32 {
	if b := d.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if b := d.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// opaque returns n bytes and steps over their padding to four.
func (d *decoder) opaque(n uint32) []byte {
	if uint64(n) > uint64(len(d.b)) {
		return d.take(-1)
	}
	b := d.take(align4(int(n)))
	if b == nil {
		return nil
	}
	return b[:n]
}

func (d *decoder) text() string { return string(d.opaque(d.u32())) }

var errShort = errors.New("the list goes on past the end of its bytes")

// list reads version, flags and pairs up to two zero words.
func (d *decoder) list(depth int) (List, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("lists are nested deeper than %d", maxDepth)
	}
	if v := d.u32(); v != version {
		return nil, fmt.Errorf("version %d, wanted %d", v, version)
	}
	d.u32() // flags: names are unique or not
	var l List
	for {
		if d.short || len(d.b) < 8 {
			return nil, errShort
		}
		size := binary.BigEndian.Uint32(d.b)
		if size == 0 && binary.BigEndian.Uint32(d.b[4:]) == 0 {
			d.take(8)
			return l, nil
		}
		if size < 8 || uint64(size) > uint64(len(d.b)) {
			return nil, fmt.Errorf("pair %d of %d bytes, wanted 8 to %d", len(l), size, len(d.b))
		}
		p := decoder{b: d.take(int(size))[8:]}
		pair, err := p.pair(depth)
		if err != nil {
			return nil, err
		}
		l = append(l, pair)
	}
}

// pair reads name, type, number of elements and value; b ends where the pair does.
func (d *decoder) pair(depth int) (Pair, error) {
	name := d.text()
	t, n := d.u32(), d.u32()
	v, err := d.value(t, n, depth)
	if err == nil && d.short {
		err = errShort
	}
	if err == nil && len(d.b) > 0 {
		err = fmt.Errorf("%d bytes are left behind a value of type %d", len(d.b), t)
	}
	if err != nil {
		return Pair{}, fmt.Errorf("%q: %w", name, err)
	}
	return Pair{name, v}, nil
}

func (d *decoder) value(t, n uint32, depth int) (any, error) {
	switch t {
	case typeList:
		return d.list(depth + 1)
	case typeListArray:
		return d.lists(n, depth)
	case typeBoolean:
		return Boolean{}, nil
	case typeString:
		return d.text(), nil
	case typeStringArray:
		return d.texts(n)
	case typeByteArray:
		return append([]byte{}, d.opaque(n)...), nil
	}
	if v := scalar(t, d.u32, d.u64); v != nil {
		return v, nil
	}
	return d.array(t, n)
}

func (d *decoder) lists(n uint32, depth int) (any, error) {
	if uint64(n) > uint64(len(d.b))/16 {
		return nil, fmt.Errorf("%d lists in %d bytes", n, len(d.b))
	}
	out := make([]List, 0, n)
	for range n {
		l, err := d.list(depth + 1)
		if err != nil {
			return nil, fmt.Errorf("[%d]: %w", len(out), err)
		}
		out = append(out, l)
	}
	return out, nil
}

func (d *decoder) texts(n uint32) (any, error) {
	if uint64(n) > uint64(len(d.b))/4 {
		return nil, fmt.Errorf("%d strings in %d bytes", n, len(d.b))
	}
	out := make([]string, n)
	for i := range out {
		out[i] = d.text()
	}
	return out, nil
}

// scalar makes the number of type t from the next one of u32 or u64, or returns nil
// if t is no number's type.
func scalar(t uint32, u32 func() uint32, u64 func() uint64) any {
	switch t {
	case typeBooleanValue:
		return u32() != 0
	case typeByte:
		return Byte(u32())
	case typeInt8:
		return int8(u32())
	case typeUint8:
		return uint8(u32())
	case typeInt16:
		return int16(u32())
	case typeUint16:
		return uint16(u32())
	case typeInt32:
		return int32(u32())
	case typeUint32:
		return u32()
	case typeInt64:
		return int64(u64())
	case typeUint64:
		return u64()
	case typeHRTime:
		return HRTime(u64())
	case typeDouble:
		return math.Float64frombits(u64())
	}
	return nil
}

// array reads an array of numbers: its count, which says n again, and the numbers.
func (d *decoder) array(t, n uint32) (any, error) {
	width := 4
	if t == typeInt64Array || t == typeUint64Array {
		width = 8
	}
	if t > typeDouble || t == 0 {
		return nil, fmt.Errorf("values of type %d are not supported", t)
	}
	if count := d.u32(); count != n {
		return nil, fmt.Errorf("array of %d elements counts %d", n, count)
	}
	if uint64(n) > uint64(len(d.b)/width) {
		return nil, fmt.Errorf("%d elements in %d bytes", n, len(d.b))
	}
	return numbers(t, int(n), d.u32, d.u64), nil
}

// numbers makes the array of type t; u32 and u64 give the elements in order.
func numbers(t uint32, n int, u32 func() uint32, u64 func() uint64) any {
	switch t {
	case typeInt8Array:
		return fill[int8](n, u32)
	case typeUint8Array:
		return Uint8s(fill[uint8](n, u32))
	case typeInt16Array:
		return fill[int16](n, u32)
	case typeUint16Array:
		return fill[uint16](n, u32)
	case typeInt32Array:
		return fill[int32](n, u32)
	case typeUint32Array:
		return fill[uint32](n, u32)
	case typeInt64Array:
		return fill[int64](n, u64)
	case typeUint64Array:
		return fill[uint64](n, u64)
	}
	out := make([]bool, n) // typeBooleanArray
	for i := range out {
		out[i] = u32() != 0
	}
	return out
}

func fill[T int8 | uint8 | int16 | uint16 | int32 | uint32 | int64 | uint64, W uint32 | uint64](n int, next func() W) []T {
	out := make([]T, n)
	for i := range out {
		out[i] = T(next())
	}
	return out
}
