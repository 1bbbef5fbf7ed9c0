package nvlist

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
)

// Encode returns l packed as XDR: the header 01 01 00 00 (XDR, packed by a
// little-endian machine) and the list. It fails for a name that is empty, holds a
// NUL or occurs twice, for a string with a NUL, and for a value of another type
// than [Pair] lists.
func Encode(l List) ([]byte, error) {
	e := encoder{b: []byte{encodingXDR, littleEndian, 0, 0}}
	if err := e.list(l, 0); err != nil {
		return nil, fmt.Errorf("encoding nvlist: %w", err)
	}
	return e.b, nil
}

type encoder struct{ b []byte }

func (e *encoder) u32(v uint32) { e.b = binary.BigEndian.AppendUint32(e.b, v) }

func (e *encoder) u64(v uint64) { e.b = binary.BigEndian.AppendUint64(e.b, v) }

func (e *encoder) opaque(s string) {
	e.b = append(e.b, s...)
	e.b = append(e.b, "\x00\x00\x00"[:align4(len(s))-len(s)]...)
}

func (e *encoder) text(s string) error {
	if strings.IndexByte(s, 0) >= 0 {
		return fmt.Errorf("string %q holds a NUL", s)
	}
	e.u32(uint32(len(s)))
	e.opaque(s)
	return nil
}

// list writes version, flags, the pairs and two zero words as their end.
func (e *encoder) list(l List, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("lists are nested deeper than %d", maxDepth)
	}
	e.u32(version)
	e.u32(uniqueName)
	seen := make(map[string]bool, len(l))
	for _, p := range l {
		if p.Name == "" || seen[p.Name] {
			return fmt.Errorf("name %q is empty or there twice", p.Name)
		}
		seen[p.Name] = true
		if err := e.pair(p, depth); err != nil {
			return fmt.Errorf("%q: %w", p.Name, err)
		}
	}
	e.u64(0)
	return nil
}

// pair writes the sizes encoded and in memory, name, type, number of elements and
// value.
func (e *encoder) pair(p Pair, depth int) error {
	start := len(e.b)
	e.u64(0)
	if err := e.text(p.Name); err != nil {
		return err
	}
	if len(p.Name) >= math.MaxInt16 { // nvp_name_sz is an int16_t
		return fmt.Errorf("name of %d bytes, at most %d fit", len(p.Name), math.MaxInt16-1)
	}
	head := len(e.b)
	e.u64(0)
	t, n, size, err := e.value(p.Value, depth)
	if err != nil {
		return err
	}
	size = align8(pairSize+len(p.Name)+1) + align8(size)
	if total := len(e.b) - start; total > math.MaxInt32 || size > math.MaxInt32 {
		return fmt.Errorf("value of %d bytes, less than 2 GiB fit", total)
	}
	binary.BigEndian.PutUint32(e.b[start:], uint32(len(e.b)-start))
	binary.BigEndian.PutUint32(e.b[start+4:], uint32(size))
	binary.BigEndian.PutUint32(e.b[head:], uint32(t))
	binary.BigEndian.PutUint32(e.b[head+4:], uint32(n))
	return nil
}

// value writes v and returns its type, number of elements and bytes in memory.
func (e *encoder) value(v any, depth int) (t, n, size int, err error) {
	switch v := v.(type) {
	case Boolean:
		return typeBoolean, 0, 0, nil
	case string:
		return typeString, 1, len(v) + 1, e.text(v)
	case []string:
		size = 8 * len(v)
		for _, s := range v {
			if err := e.text(s); err != nil {
				return 0, 0, 0, err
			}
			size += len(s) + 1
		}
		return typeStringArray, len(v), size, nil
	case []byte:
		e.opaque(string(v))
		return typeByteArray, len(v), len(v), nil
	case List:
		return typeList, 1, listSize, e.list(v, depth+1)
	case []List:
		for _, l := range v {
			if err := e.list(l, depth+1); err != nil {
				return 0, 0, 0, err
			}
		}
		return typeListArray, len(v), (8 + listSize) * len(v), nil
	}
	if t, size, ok := e.scalar(v); ok {
		return t, 1, size, nil
	}
	if t, n, size, ok := e.array(v); ok {
		return t, n, size, nil
	}
	return 0, 0, 0, fmt.Errorf("a value of type %T has no encoding", v)
}

// scalar writes one number, in 4 bytes or 8.
func (e *encoder) scalar(v any) (t, size int, ok bool) {
	switch v := v.(type) {
	case bool:
		e.bool(v)
		return typeBooleanValue, 4, true
	case Byte:
		e.u32(uint32(v))
		return typeByte, 1, true
	case int8:
		e.u32(uint32(v))
		return typeInt8, 1, true
	case uint8:
		e.u32(uint32(v))
		return typeUint8, 1, true
	case int16:
		e.u32(uint32(v))
		return typeInt16, 2, true
	case uint16:
		e.u32(uint32(v))
		return typeUint16, 2, true
	case int32:
		e.u32(uint32(v))
		return typeInt32, 4, true
	case uint32:
		e.u32(v)
		return typeUint32, 4, true
	case int64:
		e.u64(uint64(v))
		return typeInt64, 8, true
	case uint64:
		e.u64(v)
		return typeUint64, 8, true
	case HRTime:
		e.u64(uint64(v))
		return typeHRTime, 8, true
	case float64:
		e.u64(math.Float64bits(v))
		return typeDouble, 8, true
	}
	return 0, 0, false
}

func (e *encoder) bool(v bool) {
	if v {
		e.u32(1)
	} else {
		e.u32(0)
	}
}

// array writes a count and the numbers, each in 4 bytes or 8.
func (e *encoder) array(v any) (t, n, size int, ok bool) {
	switch v := v.(type) {
	case []bool:
		e.u32(uint32(len(v)))
		for _, x := range v {
			e.bool(x)
		}
		return typeBooleanArray, len(v), 4 * len(v), true
	case []int8:
		words(e, v)
		return typeInt8Array, len(v), len(v), true
	case Uint8s:
		words(e, v)
		return typeUint8Array, len(v), len(v), true
	case []int16:
		words(e, v)
		return typeInt16Array, len(v), 2 * len(v), true
	case []uint16:
		words(e, v)
		return typeUint16Array, len(v), 2 * len(v), true
	case []int32:
		words(e, v)
		return typeInt32Array, len(v), 4 * len(v), true
	case []uint32:
		words(e, v)
		return typeUint32Array, len(v), 4 * len(v), true
	case []int64:
		longs(e, v)
		return typeInt64Array, len(v), 8 * len(v), true
	case []uint64:
		longs(e, v)
		return typeUint64Array, len(v), 8 * len(v), true
	}
	return 0, 0, 0, false
}

func words[T int8 | uint8 | int16 | uint16 | int32 | uint32](e *encoder, v []T) {
	e.u32(uint32(len(v)))
	for _, x := range v {
		e.u32(uint32(x))
	}
}

func longs[T int64 | uint64](e *encoder, v []T) {
	e.u32(uint32(len(v)))
	for _, x := range v {
		e.u64(uint64(x))
	}
}
