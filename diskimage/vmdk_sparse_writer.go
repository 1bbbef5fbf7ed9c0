package diskimage

import "fmt"

// beginSparse writes what is known before the data: header, descriptor and both
// grain directories. The grain tables have their places in front of the data
// and are holes until they have an entry.
//
//	header | descriptor | directory | tables | directory | tables | grains
func (w *VMDKWriter) beginSparse() error {
	directory := ceilDiv(int64(len(w.gd))*4, vmdkSector)
	tables := int64(len(w.gd)) * vmdkTableBytes / vmdkSector
	redundant := int64(1 + vmdkDescriptorSectors)
	primary := redundant + directory + tables
	w.end = ceilDiv((primary+directory+tables)*vmdkSector, vmdkGrainSize) * vmdkGrainSize
	w.h.flags |= vmdkFlagRedundant
	w.h.rgdOffset, w.h.gdOffset, w.h.overhead = uint64(redundant), uint64(primary), uint64(w.end/vmdkSector)
	for _, at := range [2]int64{redundant, primary} {
		for i := range w.gd {
			w.gd[i] = uint32(at + directory + int64(i)*vmdkTableBytes/vmdkSector)
		}
		if err := w.out.write(littleEndian32(w.gd), at*vmdkSector); err != nil {
			return err
		}
	}
	return w.out.write(vmdkDescriptor(&w.opts, w.size/vmdkSector), vmdkSector)
}

// commitSparse gives each run of grains that are not zero a place and writes it
// in one go. The last grain is filled up with zeros.
func (w *VMDKWriter) commitSparse(b *Block) error {
	// A block is at most 2 MiB and aligned to its size, so one table maps it.
	if err := w.selectTable(b.Offset); err != nil {
		return err
	}
	for at := 0; at < len(b.Data); {
		from := at
		for at < len(b.Data) && !isZero(b.buf[at:at+vmdkGrainSize]) {
			if err := w.setGrain(b.Offset+int64(at), w.end+int64(at-from)); err != nil {
				return err
			}
			at += vmdkGrainSize
		}
		if at == from {
			at += vmdkGrainSize
			continue
		}
		if err := w.out.write(b.buf[from:at], w.end); err != nil {
			return err
		}
		w.end += int64(at - from)
	}
	return nil
}

// writeTable writes both copies of a grain table.
func (w *VMDKWriter) writeTable(table []byte) error {
	at := int64(w.gd[w.cur])
	copyAt := at - int64(w.h.gdOffset) + int64(w.h.rgdOffset)
	for _, sector := range [2]int64{copyAt, at} {
		if err := w.out.write(table, sector*vmdkSector); err != nil {
			return err
		}
	}
	return nil
}

// finishSparse writes the header last of all, so that a file cut short has
// none, and gives the file its length, for a disk without data has only tables.
func (w *VMDKWriter) finishSparse() error {
	if err := w.out.flush(); err != nil {
		return err
	}
	if err := w.out.t.Truncate(w.end); err != nil {
		return fmt.Errorf("sizing vmdk target to %d bytes: %w", w.end, err)
	}
	if err := w.out.write(w.h.encode(), 0); err != nil {
		return err
	}
	return w.out.flush()
}
