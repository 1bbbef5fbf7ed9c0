package diskimage

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Fields and limits of docs/interop/qcow2.rst, "Header" and below.
const (
	qcow2Magic    = 0x514649fb
	qcow2HeaderV2 = 72
	qcow2HeaderV3 = 104
	qcow2HeaderZ  = 112 // with the compression type byte and its padding

	minClusterBits = 9
	maxClusterBits = 21

	featureDirty       = 1 << 0
	featureCorrupt     = 1 << 1
	featureDataFile    = 1 << 2
	featureCompression = 1 << 3
	featureExtendedL2  = 1 << 4

	compressionDeflate = 0
	compressionZstd    = 1

	extensionEnd     = 0
	extensionBacking = 0xe2792aca // backing file format name

	maxBackingName = 1023

	// maxL1Bytes and maxRefTableBytes are what QEMU itself accepts
	// (QCOW_MAX_L1_SIZE, QCOW_MAX_REFTABLE_SIZE in block/qcow2.h).
	maxL1Bytes       = 32 << 20
	maxRefTableBytes = 8 << 20

	// Bits of L1 and L2 entries.
	entryCopied     = 1 << 63
	entryCompressed = 1 << 62
	entryZero       = 1 << 0
	entryOffset     = 0x00fffffffffffe00
)

// qcow2Header holds what a reader needs of the header, checked.
type qcow2Header struct {
	version       uint32
	clusterBits   uint
	size          int64
	l1Offset      int64
	l1Entries     int64
	refTable      int64
	refClusters   int64
	zstd          bool
	backingName   string
	backingFormat Format
}

func (h *qcow2Header) clusterSize() int64 { return 1 << h.clusterBits }

// l2Span is the number of guest bytes one L2 table maps.
func (h *qcow2Header) l2Span() int64 { return 1 << (2*h.clusterBits - 3) }

// parseQCOW2Header reads the header of an image file of fileSize bytes.
func parseQCOW2Header(r io.ReaderAt, fileSize int64) (*qcow2Header, error) {
	b := make([]byte, min(fileSize, qcow2HeaderZ))
	if err := readFull(r, b, 0); err != nil {
		return nil, fmt.Errorf("reading qcow2 header: %w", err)
	}
	if len(b) < qcow2HeaderV2 {
		return nil, corruptf("reading qcow2 header: file has %d bytes, want at least %d", fileSize, qcow2HeaderV2)
	}
	if m := binary.BigEndian.Uint32(b); m != qcow2Magic {
		return nil, corruptf("reading qcow2 header: magic %#08x, want %#08x", m, uint32(qcow2Magic))
	}
	h := &qcow2Header{version: binary.BigEndian.Uint32(b[4:])}
	if h.version != 2 && h.version != 3 {
		return nil, unsupportedf("reading qcow2 header: version %d (have 2, 3)", h.version)
	}
	bits := binary.BigEndian.Uint32(b[20:])
	if bits < minClusterBits || bits > maxClusterBits {
		return nil, corruptf("reading qcow2 header: cluster_bits %d, want %d to %d", bits, minClusterBits, maxClusterBits)
	}
	h.clusterBits = uint(bits)
	headerLen := int64(qcow2HeaderV2)
	if h.version == 3 {
		var err error
		if headerLen, err = h.parseFeatures(b); err != nil {
			return nil, err
		}
	}
	if m := binary.BigEndian.Uint32(b[32:]); m != 0 {
		return nil, unsupportedf("reading qcow2 header: encrypted image (crypt_method %d)", m)
	}
	if err := h.parseTables(b, fileSize); err != nil {
		return nil, err
	}
	return h, h.parseBacking(r, b, headerLen, fileSize)
}

// parseFeatures reads the version 3 fields and returns the header's length.
func (h *qcow2Header) parseFeatures(b []byte) (int64, error) {
	if len(b) < qcow2HeaderV3 {
		return 0, corruptf("reading qcow2 header: cut at %d bytes, version 3 has %d", len(b), qcow2HeaderV3)
	}
	length := int64(binary.BigEndian.Uint32(b[100:]))
	if length < qcow2HeaderV3 || length > h.clusterSize() || length%8 != 0 {
		return 0, corruptf("reading qcow2 header: header_length %d, want a multiple of 8 from %d to the cluster size", length, qcow2HeaderV3)
	}
	if order := binary.BigEndian.Uint32(b[96:]); order > 6 {
		return 0, corruptf("reading qcow2 header: refcount_order %d, want at most 6", order)
	}
	f := binary.BigEndian.Uint64(b[72:])
	switch {
	case f&featureCorrupt != 0:
		return 0, unsupportedf("reading qcow2 header: image is marked corrupt (incompatible feature bit 1)")
	case f&featureDataFile != 0:
		return 0, unsupportedf("reading qcow2 header: external data file (incompatible feature bit 2)")
	case f&featureExtendedL2 != 0:
		return 0, unsupportedf("reading qcow2 header: extended L2 entries (incompatible feature bit 4)")
	}
	// A dirty image has stale refcounts; the mapping is sound.
	if rest := f &^ (featureDirty | featureCompression); rest != 0 {
		return 0, unsupportedf("reading qcow2 header: unknown incompatible features %#x", rest)
	}
	kind := byte(compressionDeflate)
	if length >= qcow2HeaderZ && len(b) >= qcow2HeaderZ {
		kind = b[104]
	}
	if kind > compressionZstd {
		return 0, unsupportedf("reading qcow2 header: compression type %d (have deflate 0, zstd 1)", kind)
	}
	if (kind != compressionDeflate) != (f&featureCompression != 0) {
		return 0, corruptf("reading qcow2 header: compression type %d contradicts incompatible feature bit 3", kind)
	}
	h.zstd = kind == compressionZstd
	return length, nil
}

// parseTables reads the size and the places of the L1 and refcount tables.
func (h *qcow2Header) parseTables(b []byte, fileSize int64) error {
	size := binary.BigEndian.Uint64(b[24:])
	if size > 1<<62 {
		return corruptf("reading qcow2 header: disk size %#x, want at most 2^62", size)
	}
	h.size = int64(size)
	h.l1Entries = int64(binary.BigEndian.Uint32(b[36:]))
	if h.l1Entries*8 > maxL1Bytes {
		return corruptf("reading qcow2 header: L1 table of %d entries, want at most %d", h.l1Entries, maxL1Bytes/8)
	}
	if need := ceilDiv(h.size, h.l2Span()); h.l1Entries < need {
		return corruptf("reading qcow2 header: L1 table of %d entries, a disk of %d bytes needs %d", h.l1Entries, h.size, need)
	}
	l1 := binary.BigEndian.Uint64(b[40:])
	if h.l1Entries > 0 {
		if l1%uint64(h.clusterSize()) != 0 || l1 == 0 {
			return corruptf("reading qcow2 header: L1 table at offset %#x, want a multiple of the cluster size %d", l1, h.clusterSize())
		}
		if l1 > uint64(fileSize) || h.l1Entries*8 > fileSize-int64(l1) {
			return corruptf("reading qcow2 header: L1 table of %d entries at offset %#x reaches past the end of the file at %#x", h.l1Entries, l1, fileSize)
		}
	}
	h.l1Offset = int64(l1)
	if ref := binary.BigEndian.Uint64(b[48:]); ref < uint64(fileSize) {
		h.refTable = int64(ref)
		h.refClusters = int64(binary.BigEndian.Uint32(b[56:]))
	}
	return nil
}

// parseBacking reads the backing file's name and, from the header extensions,
// its format.
func (h *qcow2Header) parseBacking(r io.ReaderAt, b []byte, headerLen, fileSize int64) error {
	at := binary.BigEndian.Uint64(b[8:])
	if at == 0 {
		return nil
	}
	n := binary.BigEndian.Uint32(b[16:])
	end := min(h.clusterSize(), fileSize)
	if n == 0 || n > maxBackingName || at < uint64(headerLen) || at > uint64(end) || int64(n) > end-int64(at) {
		return corruptf("reading qcow2 header: backing file name of %d bytes at offset %#x, want it within the first cluster", n, at)
	}
	name := make([]byte, n)
	if err := readFull(r, name, int64(at)); err != nil {
		return fmt.Errorf("reading backing file name at offset %#x: %w", at, err)
	}
	h.backingName = string(name)
	extensions, err := readExtensions(r, headerLen, int64(at))
	if err != nil {
		return err
	}
	for _, x := range extensions {
		if x.kind == extensionBacking {
			h.backingFormat = fromQEMU(string(x.data))
		}
	}
	return nil
}

// extension is one header extension.
type extension struct {
	kind   uint32
	offset int64
	data   []byte
}

// readExtensions reads the header extensions from start up to end at most.
func readExtensions(r io.ReaderAt, start, end int64) ([]extension, error) {
	b := make([]byte, max(0, end-start))
	if err := readFull(r, b, start); err != nil {
		return nil, fmt.Errorf("reading header extensions at offset %#x: %w", start, err)
	}
	var all []extension
	for pos := start; len(b) >= 8; {
		kind, n := binary.BigEndian.Uint32(b), int64(binary.BigEndian.Uint32(b[4:]))
		if kind == extensionEnd {
			break
		}
		if n > int64(len(b))-8 {
			return nil, corruptf("reading header extension %#x at offset %#x: length %d reaches past the header", kind, pos, n)
		}
		all = append(all, extension{kind, pos, b[8 : 8+n]})
		step := min(8+(n+7)/8*8, int64(len(b)))
		b, pos = b[step:], pos+step
	}
	return all, nil
}

const maxClusterSize = 1 << maxClusterBits

func ceilDiv(a, b int64) int64 { return (a + b - 1) / b }
