// Package nvlist encodes and decodes lists of named values as ZFS keeps them on
// disk: labels, the pool's configuration, system-attribute xattrs (DXATTR).
//
// Written is the XDR encoding alone (RFC 4506), with the four-byte header of a
// packed list. Read are XDR and, for the records of the pool's history, the
// native encoding of little-endian machines. Native lists of big-endian machines
// are an error.
//
// Facts are those of OpenZFS: include/sys/nvpair.h (types, version, flags) and
// module/nvpair/nvpair.c (both encodings).
package nvlist

// List is a list in its order. Names are unique in what [Encode] writes.
type List []Pair

// Pair is one named value. The type of Value is one of
//
//	Boolean, bool, Byte, int8, uint8, int16, uint16, int32, uint32, int64, uint64,
//	float64, HRTime, string, List
//
// or a slice: []bool, []byte (BYTE_ARRAY), []int8, Uint8s (UINT8_ARRAY), []int16,
// []uint16, []int32, []uint32, []int64, []uint64, []string, []List.
type Pair struct {
	Name  string
	Value any
}

// Boolean is a value that says something by being there (DATA_TYPE_BOOLEAN).
type Boolean struct{}

// Byte is a DATA_TYPE_BYTE; a plain uint8 is a DATA_TYPE_UINT8.
type Byte uint8

// HRTime is a DATA_TYPE_HRTIME, in nanoseconds.
type HRTime int64

// Uint8s is a DATA_TYPE_UINT8_ARRAY; a plain []byte is a DATA_TYPE_BYTE_ARRAY.
type Uint8s []uint8

// Value types, as numbered by data_type_t of include/sys/nvpair.h.
const (
	typeBoolean      = 1
	typeByte         = 2
	typeInt16        = 3
	typeUint16       = 4
	typeInt32        = 5
	typeUint32       = 6
	typeInt64        = 7
	typeUint64       = 8
	typeString       = 9
	typeByteArray    = 10
	typeInt16Array   = 11
	typeUint16Array  = 12
	typeInt32Array   = 13
	typeUint32Array  = 14
	typeInt64Array   = 15
	typeUint64Array  = 16
	typeStringArray  = 17
	typeHRTime       = 18
	typeList         = 19
	typeListArray    = 20
	typeBooleanValue = 21
	typeInt8         = 22
	typeUint8        = 23
	typeBooleanArray = 24
	typeInt8Array    = 25
	typeUint8Array   = 26
	typeDouble       = 27
)

const (
	encodingNative = 0
	encodingXDR    = 1
	littleEndian   = 1 // the byte order of the machine that packed it

	version    = 0 // NV_VERSION
	uniqueName = 1 // NV_UNIQUE_NAME

	pairSize = 16 // nvpair_t in memory, without name and value
	listSize = 24 // nvlist_t in memory

	maxDepth = 32 // lists in lists; labels use three
)

func align8(n int) int { return (n + 7) &^ 7 }

func align4(n int) int { return (n + 3) &^ 3 }

// lookup returns the value called name if it is there and a T.
func lookup[T any](l List, name string) (T, bool) {
	for _, p := range l {
		if p.Name == name {
			v, ok := p.Value.(T)
			return v, ok
		}
	}
	var none T
	return none, false
}

// Has says whether there is a value called name, of any type.
func (l List) Has(name string) bool {
	for _, p := range l {
		if p.Name == name {
			return true
		}
	}
	return false
}

// Uint64 returns the uint64 called name.
func (l List) Uint64(name string) (uint64, bool) { return lookup[uint64](l, name) }

// String returns the string called name.
func (l List) String(name string) (string, bool) { return lookup[string](l, name) }

// Bytes returns the byte array called name.
func (l List) Bytes(name string) ([]byte, bool) { return lookup[[]byte](l, name) }

// List returns the list called name.
func (l List) List(name string) (List, bool) { return lookup[List](l, name) }

// Lists returns the array of lists called name.
func (l List) Lists(name string) ([]List, bool) { return lookup[[]List](l, name) }
