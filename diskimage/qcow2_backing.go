package diskimage

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
)

// toQEMU gives the name by which QEMU knows a format that can be below a qcow2
// image, or nothing.
func toQEMU(f Format) string {
	switch f {
	case VHD:
		return "vpc"
	case Raw, QCOW2, VMDK, VHDX, VDI:
		return string(f)
	}
	return ""
}

// fromQEMU is toQEMU's inverse; it keeps names it does not know.
func fromQEMU(name string) Format {
	if name == "vpc" {
		return VHD
	}
	return Format(name)
}

// checkBacking checks the options about a backing file.
func (w *QCOW2Writer) checkBacking() error {
	o := &w.opts
	if o.Backing == nil {
		if o.BackingName != "" || o.BackingFormat != "" {
			return fmt.Errorf("qcow2 backing file %q of format %q: its disk is missing", o.BackingName, o.BackingFormat)
		}
		return nil
	}
	if n := len(o.BackingName); n == 0 || n > maxBackingName || strings.ContainsRune(o.BackingName, 0) {
		return fmt.Errorf("qcow2 backing file name %q of %d bytes, want 1 to %d without a zero", o.BackingName, n, maxBackingName)
	}
	if toQEMU(o.BackingFormat) == "" {
		return fmt.Errorf("qcow2 backing file %q: format %q, want one of %s, %s, %s, %s, %s, %s",
			o.BackingName, o.BackingFormat, Raw, QCOW2, VMDK, VHD, VHDX, VDI)
	}
	if end := w.backingNameAt() + int64(len(o.BackingName)); end > w.clusterSize() {
		return fmt.Errorf("qcow2 backing file %q: its name ends at byte %d, the header has only a cluster of %d bytes",
			o.BackingName, end, w.clusterSize())
	}
	return nil
}

// headerLen is the length of the header without extensions.
func (w *QCOW2Writer) headerLen() int64 {
	if w.opts.Compression == CompressZstd {
		return qcow2HeaderZ
	}
	return qcow2HeaderV3
}

// backingNameAt is where the header stores the name: behind the extension with
// the format, padded to 8 bytes, and the one that ends the list.
func (w *QCOW2Writer) backingNameAt() int64 {
	return w.headerLen() + 8 + ceilDiv(int64(len(toQEMU(w.opts.BackingFormat))), 8)*8 + 8
}

// putBacking stores the backing file's name and format in the header b
// ("Header extensions" of the specification).
func (w *QCOW2Writer) putBacking(b []byte) {
	if w.opts.Backing == nil {
		return
	}
	be, format, at := binary.BigEndian, toQEMU(w.opts.BackingFormat), w.backingNameAt()
	be.PutUint64(b[8:], uint64(at))
	be.PutUint32(b[16:], uint32(len(w.opts.BackingName)))
	x := b[w.headerLen():]
	be.PutUint32(x, extensionBacking)
	be.PutUint32(x[4:], uint32(len(format)))
	copy(x[8:], format)
	copy(b[at:], w.opts.BackingName)
}

// nextExtent implements extentUser: where the backing disk has data, the image
// has to say so when the disk has none. Extents begin and end on clusters, as
// what is decided in Encode does.
func (w *QCOW2Writer) nextExtent(off int64) (start, end int64, err error) {
	if w.opts.Backing == nil || off >= w.size {
		return w.size, w.size, nil
	}
	start, end, err = w.opts.Backing.NextData(off)
	if err != nil {
		return 0, 0, fmt.Errorf("backing file %q: %w", w.opts.BackingName, err)
	}
	if start >= end {
		return w.size, w.size, nil
	}
	cs := w.clusterSize()
	return max(off, start-start%cs), ceilDiv(end, cs) * cs, nil
}

// plan decides what becomes of each cluster of the block: clusterUnallocated,
// clusterZero, or clusterPlain for one to store, be it compressed or not.
func (w *QCOW2Writer) plan(b *Block) ([]clusterKind, error) {
	below, err := w.readBelow(b)
	if err != nil {
		return nil, err
	}
	if below != nil {
		defer w.below.Put(below)
	}
	cs := w.opts.ClusterSize
	plan := make([]clusterKind, ceilDiv(int64(len(b.Data)), int64(cs)))
	for i := range plan {
		cluster := b.buf[i*cs : (i+1)*cs]
		switch {
		case below != nil && bytes.Equal(cluster, (*below)[i*cs:(i+1)*cs]):
		case !isZero(cluster):
			plan[i] = clusterPlain
		case below != nil:
			plan[i] = clusterZero
		}
	}
	return plan, nil
}

// readBelow reads what the backing disk has in the place of a block, up to the
// end of the image; nil without one.
func (w *QCOW2Writer) readBelow(b *Block) (*[]byte, error) {
	if w.opts.Backing == nil {
		return nil, nil
	}
	p, ok := w.below.Get().(*[]byte)
	if !ok {
		p = new(make([]byte, len(b.buf)))
	}
	n := max(0, min(int64(len(b.buf)), min(w.size, w.opts.Backing.Size())-b.Offset))
	clear((*p)[n:])
	if n > 0 {
		if err := readFull(w.opts.Backing, (*p)[:n], b.Offset); err != nil {
			return nil, fmt.Errorf("backing file %q: reading at offset %#x: %w", w.opts.BackingName, b.Offset, err)
		}
	}
	return p, nil
}

// markZero makes cluster i of the block read as zeros where plan says so,
// whatever the backing disk holds.
func (w *QCOW2Writer) markZero(b *Block, plan []clusterKind, i int) error {
	if plan[i] != clusterZero {
		return nil
	}
	off := b.Offset + int64(i)<<w.clusterBits
	if err := w.selectL2(off); err != nil {
		return err
	}
	w.l2[w.index(off)] = entryZero
	return nil
}
