package diskimage

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

const (
	// zlibHeader (RFC 1950, section 2.2) says deflate, a window of 32 KiB and
	// the default level. Ours never look back more than 4 KiB and could say so
	// (CINFO 4); a larger window is as true, and these two bytes are the ones
	// that every reader has met.
	zlibHeader = "\x78\x9c"

	// maxStored is what one stored block holds (RFC 1951, section 3.2.4).
	maxStored = 65535

	// streamOverhead is where the first marker stands: header, descriptor and
	// zeros up to a grain, as VMware's tools have it.
	streamOverhead = vmdkGrainSize
)

// encodedGrain is a compressed grain but for its place in the file.
type encodedGrain struct {
	deflate []byte // raw, RFC 1951; the grain itself when it does not shrink; nil for zeros
	adler   uint32
}

// encodeGrains does the work on a block's grains that needs its data, once for
// a VMDK and an OVA.
func encodeGrains(b *Block) ([]encodedGrain, error) {
	if b.grains != nil {
		return b.grains, nil
	}
	packed, err := b.compressed(packing{size: vmdkGrainSize})
	if err != nil {
		return nil, err
	}
	grains := make([]encodedGrain, len(packed))
	for i, p := range packed {
		if p != nil {
			grains[i] = encodedGrain{p, adler(b.buf[i*vmdkGrainSize : (i+1)*vmdkGrainSize])}
		}
	}
	b.grains = grains
	return grains, nil
}

// beginStream writes what is known before the data: the header, whose grain
// directory is at the end, and the descriptor.
func (w *VMDKWriter) beginStream() error {
	w.h.version = 3
	w.h.flags |= vmdkFlagCompressed | vmdkFlagMarkers
	w.h.compression = vmdkDeflate
	w.h.gdOffset = vmdkGDAtEnd
	w.h.overhead = streamOverhead / vmdkSector
	w.end = 0
	if !w.opts.NoDigest {
		w.sum = sha256.New()
	}
	return w.append(w.h.encode(), vmdkDescriptor(&w.opts, w.size/vmdkSector),
		zeros[:streamOverhead-(1+vmdkDescriptorSectors)*vmdkSector])
}

// append writes the pieces at the end of the file.
func (w *VMDKWriter) append(pieces ...[]byte) error {
	for _, p := range pieces {
		if w.sum != nil {
			w.sum.Write(p)
		}
		if err := w.out.write(p, w.end); err != nil {
			return err
		}
		w.end += int64(len(p))
	}
	return nil
}

func (w *VMDKWriter) commitStream(b *Block, grains []encodedGrain) error {
	for i, g := range grains {
		if g.deflate == nil {
			continue
		}
		off := b.Offset + int64(i)*vmdkGrainSize
		if err := w.selectTable(off); err != nil {
			return err
		}
		if err := w.setGrain(off, w.end); err != nil {
			return err
		}
		if err := w.appendGrain(off, g); err != nil {
			return err
		}
	}
	return nil
}

// appendGrain writes a grain marker with its zlib stream, up to a sector.
func (w *VMDKWriter) appendGrain(off int64, g encodedGrain) error {
	parts := [][]byte{nil, g.deflate, nil}
	if len(g.deflate) == vmdkGrainSize {
		parts = [][]byte{nil, storedBlock(0, maxStored), g.deflate[:maxStored],
			storedBlock(1, vmdkGrainSize-maxStored), g.deflate[maxStored:], nil}
	}
	size := len(zlibHeader) + adlerSize
	for _, p := range parts {
		size += len(p)
	}
	head := make([]byte, vmdkMarkerBytes, vmdkMarkerBytes+len(zlibHeader))
	binary.LittleEndian.PutUint64(head, uint64(off/vmdkSector))
	binary.LittleEndian.PutUint32(head[8:], uint32(size))
	parts[0] = append(head, zlibHeader...)
	parts[len(parts)-1] = binary.BigEndian.AppendUint32(nil, g.adler)
	pad := -(vmdkMarkerBytes + size) & (vmdkSector - 1)
	return w.append(append(parts, zeros[:pad])...)
}

// storedBlock returns what precedes n bytes that are not compressed.
func storedBlock(final byte, n uint16) []byte {
	b := binary.LittleEndian.AppendUint16([]byte{final}, n)
	return binary.LittleEndian.AppendUint16(b, ^n)
}

// appendTable writes a grain table behind its grains.
func (w *VMDKWriter) appendTable(table []byte) error {
	if err := w.append(vmdkMarker(markerGrainTable, int64(len(table))/vmdkSector)); err != nil {
		return err
	}
	w.gd[w.cur] = uint32(w.end / vmdkSector)
	return w.append(table)
}

// finishStream writes the grain directory, the footer that tells where it is,
// and the end.
func (w *VMDKWriter) finishStream() error {
	directory := littleEndian32(w.gd)
	footer := w.h
	footer.gdOffset = uint64(w.end/vmdkSector) + 1
	if err := w.append(vmdkMarker(markerGrainDirectory, int64(len(directory))/vmdkSector), directory,
		vmdkMarker(markerFooter, 1), footer.encode(), vmdkMarker(markerEndOfStream, 0)); err != nil {
		return err
	}
	if w.end > vmdkMaxSectors*vmdkSector {
		return fmt.Errorf("vmdk file of %d bytes: its tables hold sectors of 32 bits, want at most 2 TiB", w.end)
	}
	return w.out.flush()
}
