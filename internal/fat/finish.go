package fat

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
)

// finish gives every directory its clusters, top down, and writes them, the
// tables and the boot sectors.
func (w *Writer) finish() error {
	dirs := []*node{w.root}
	for i := 0; i < len(dirs); i++ { // grows: breadth first
		w.place(dirs[i])
		for _, c := range dirs[i].children {
			if c.dir {
				dirs = append(dirs, c)
			}
		}
	}
	for _, d := range dirs {
		if err := w.writeDir(d); err != nil {
			return err
		}
	}
	if err := w.writeTables(); err != nil {
		return err
	}
	return w.writeBoot()
}

// place allocates the clusters of a directory. A larger FAT32 root goes on
// from cluster 2 in a second run.
func (w *Writer) place(d *node) {
	start := w.take(w.dirClusters(d, d.entries))
	switch {
	case d != w.root:
		d.start = start
	case start != 0:
		w.runs[0].next = start
	}
}

// writeDir writes the entries of one directory. The target's zeros end it.
func (w *Writer) writeDir(d *node) error {
	shortNames(d.children)
	b := make([]byte, 0, d.entries*entrySize)
	switch {
	case d != w.root:
		dot, up := *d, *d.parent
		dot.size, up.mod = 0, d.mod
		if d.parent == w.root {
			up.start = 0 // MS "Directory Structure": so for the root, on FAT32 too
		}
		b = appendShort(b, padShort(".", ""), attrDir, &dot)
		b = appendShort(b, padShort("..", ""), attrDir, &up)
	case w.opts.Label != "":
		b = appendShort(b, w.g.label, attrVolume, &node{mod: w.opts.Epoch})
	}
	for _, c := range d.children {
		b = appendEntry(b, c)
	}
	if d != w.root {
		return w.w.write(b, w.g.clusterOffset(d.start))
	}
	if w.g.typ != FAT32 {
		return w.w.write(b, w.g.rootOffset())
	}
	head := min(int64(len(b)), w.g.clusterBytes())
	if err := w.w.write(b[:head], w.g.clusterOffset(w.g.root)); err != nil {
		return err
	}
	return w.w.write(b[head:], w.g.clusterOffset(w.runs[0].next)) // nothing when it is an end mark
}

// writeTables writes both tables up to the last cluster in use.
func (w *Writer) writeTables() error {
	t := tableWriter{w: w}
	// MS "FAT Data Structure": entry 0 carries the media byte, entry 1 an end
	// mark whose top bits say that the volume is clean and had no read errors.
	end := w.g.typ.end()
	err := t.put(end&^0xFF | media)
	if err == nil {
		err = t.put(end)
	}
	for _, r := range w.runs {
		for i := uint32(1); i < r.count && err == nil; i++ {
			err = t.put(r.start + i)
		}
		if err == nil {
			err = t.put(r.next)
		}
	}
	if err != nil {
		return err
	}
	return t.flush()
}

// tableWriter packs table entries and writes them to all copies in pieces.
type tableWriter struct {
	w    *Writer
	buf  []byte
	off  int64
	half bool // FAT12: the last byte of buf has room for four bits
}

func (t *tableWriter) put(v uint32) error {
	switch {
	case t.w.g.typ == FAT32:
		t.buf = binary.LittleEndian.AppendUint32(t.buf, v)
	case t.w.g.typ == FAT16:
		t.buf = binary.LittleEndian.AppendUint16(t.buf, uint16(v))
	case t.half:
		t.buf[len(t.buf)-1] |= byte(v << 4)
		t.buf = append(t.buf, byte(v>>4))
		t.half = false
	default:
		t.buf = append(t.buf, byte(v), byte(v>>8))
		t.half = true
	}
	if len(t.buf) >= 1<<18 && !t.half {
		return t.flush()
	}
	return nil
}

func (t *tableWriter) flush() error {
	for i := range t.w.g.fats {
		if err := t.w.w.write(t.buf, t.w.g.fatOffset(i)+t.off); err != nil {
			return err
		}
	}
	t.off += int64(len(t.buf))
	t.buf = t.buf[:0]
	return nil
}

// writeBoot makes the volume valid: copies first, sector 0 last.
func (w *Writer) writeBoot() error {
	g := &w.g
	if g.typ == FAT32 {
		info := g.fsInfo(uint32(g.clusters+2-int64(w.next)), w.next)
		if g.clusters+2 == int64(w.next) {
			info = g.fsInfo(0, 0xFFFFFFFF) // no free cluster to hint at
		}
		for _, s := range []struct {
			sector int64
			data   []byte
		}{{backupSector + infoSector, info}, {backupSector, g.bootSector()}, {infoSector, info}} {
			if err := w.w.write(s.data, s.sector*g.sector); err != nil {
				return err
			}
		}
	}
	return w.w.write(g.bootSector(), 0)
}

// sparseWriter leaves zeros out.
type sparseWriter struct{ w io.WriterAt }

const hole = 4096 // the block of common file systems

func (s sparseWriter) write(p []byte, off int64) error {
	for start := 0; start < len(p); {
		end := start
		for end < len(p) && !isZero(p[end:min(end+hole, len(p))]) {
			end = min(end+hole, len(p))
		}
		if end > start {
			if _, err := s.w.WriteAt(p[start:end], off+int64(start)); err != nil {
				return fmt.Errorf("writing %d bytes at %d: %w", end-start, off+int64(start), err)
			}
		}
		start = min(end+hole, len(p)) // end is at a zero block or at the end
	}
	return nil
}

func isZero(p []byte) bool {
	for len(p) > 512 {
		if !bytes.Equal(p[:512], zeros[:]) {
			return false
		}
		p = p[512:]
	}
	return bytes.Equal(p, zeros[:len(p)])
}

var zeros [512]byte
