package nvlist

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// nativeDecoder takes pairs as a little-endian machine has them in memory off the
// front of b. Lists in a pair follow it, and end as the outermost does: with a pair
// of size zero, which is four bytes.
type nativeDecoder struct{ b []byte }

// packed reads version and flags, which only the outermost list has, and its pairs.
func (d *nativeDecoder) packed() (List, error) {
	if len(d.b) < 8 {
		return nil, errShort
	}
	if v := binary.LittleEndian.Uint32(d.b); v != version {
		return nil, fmt.Errorf("version %d, wanted %d", v, version)
	}
	d.b = d.b[8:]
	return d.list(0)
}

func (d *nativeDecoder) list(depth int) (List, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("lists are nested deeper than %d", maxDepth)
	}
	var l List
	for {
		if len(d.b) < 4 {
			return nil, errShort
		}
		size := binary.LittleEndian.Uint32(d.b)
		if size == 0 {
			d.b = d.b[4:]
			return l, nil
		}
		if size <= pairSize || uint64(size) > uint64(len(d.b)) {
			return nil, fmt.Errorf("pair %d of %d bytes, wanted %d to %d", len(l), size, pairSize+1, len(d.b))
		}
		raw := d.b[:size]
		d.b = d.b[size:]
		p, err := d.pair(raw, depth)
		if err != nil {
			return nil, err
		}
		l = append(l, p)
	}
}

// pair reads an nvpair_t: size, bytes of the name with NUL (int16), two unused
// bytes, number of elements, type, name, and the value at a multiple of 8.
func (d *nativeDecoder) pair(raw []byte, depth int) (Pair, error) {
	nameEnd := pairSize + int(binary.LittleEndian.Uint16(raw[4:]))
	if nameEnd > len(raw) {
		return Pair{}, fmt.Errorf("name of %d bytes in a pair of %d", nameEnd-pairSize, len(raw))
	}
	name := string(bytes.TrimRight(raw[pairSize:nameEnd], "\x00"))
	n, t := binary.LittleEndian.Uint32(raw[8:]), binary.LittleEndian.Uint32(raw[12:])
	data := raw[min(align8(nameEnd), len(raw)):]
	v, err := d.value(t, n, data, depth)
	if err != nil {
		return Pair{}, fmt.Errorf("%q: %w", name, err)
	}
	return Pair{name, v}, nil
}

func (d *nativeDecoder) value(t, n uint32, data []byte, depth int) (any, error) {
	if uint64(n) > uint64(len(data)) {
		return nil, fmt.Errorf("%d elements in %d bytes", n, len(data))
	}
	switch t {
	case typeList:
		return d.list(depth + 1)
	case typeListArray:
		return d.lists(int(n), depth)
	case typeBoolean:
		return Boolean{}, nil
	case typeString:
		s, err := cutStrings(data, 1)
		if err != nil {
			return nil, err
		}
		return s[0], nil
	case typeStringArray:
		if 8*uint64(n) > uint64(len(data)) {
			return nil, fmt.Errorf("%d strings in %d bytes", n, len(data))
		}
		return cutStrings(data[8*n:], int(n)) // behind pointers, zero on disk
	case typeByteArray:
		return append([]byte{}, data[:n]...), nil
	}
	return nativeNumbers(t, n, data)
}

func (d *nativeDecoder) lists(n, depth int) (any, error) {
	if n > len(d.b)/4 {
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

// cutStrings cuts n strings that end in NUL each off the front of data.
func cutStrings(data []byte, n int) ([]string, error) {
	out := make([]string, 0, n)
	for range n {
		s, rest, ok := bytes.Cut(data, []byte{0})
		if !ok {
			return nil, fmt.Errorf("string %d of %d has no NUL", len(out), n)
		}
		out, data = append(out, string(s)), rest
	}
	return out, nil
}

// nativeWidth is the size of a number of type t in memory, or 0.
func nativeWidth(t uint32) int {
	switch t {
	case typeByte, typeInt8, typeUint8, typeInt8Array, typeUint8Array:
		return 1
	case typeInt16, typeUint16, typeInt16Array, typeUint16Array:
		return 2
	case typeInt32, typeUint32, typeBooleanValue, typeInt32Array, typeUint32Array, typeBooleanArray:
		return 4
	case typeInt64, typeUint64, typeHRTime, typeDouble, typeInt64Array, typeUint64Array:
		return 8
	}
	return 0
}

// nativeNumbers reads n numbers of the width their type has.
func nativeNumbers(t, n uint32, data []byte) (any, error) {
	width := nativeWidth(t)
	if width == 0 {
		return nil, fmt.Errorf("values of type %d are not supported", t)
	}
	if n == 0 && scalar(t, zero[uint32], zero[uint64]) != nil || uint64(n)*uint64(width) > uint64(len(data)) {
		return nil, fmt.Errorf("%d elements of type %d in %d bytes", n, t, len(data))
	}
	u64 := func() (v uint64) {
		for i := range width {
			v |= uint64(data[i]) << (8 * i)
		}
		data = data[width:]
		return v
	}
	u32 := func() uint32 { return uint32(u64()) }
	if v := scalar(t, u32, u64); v != nil {
		return v, nil
	}
	return numbers(t, int(n), u32, u64), nil
}

func zero[T uint32 | uint64]() T { return 0 }
