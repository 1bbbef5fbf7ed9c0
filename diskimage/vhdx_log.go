package diskimage

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
)

const (
	vhdxLogSector = 4 << 10 // 2.3, the unit of everything in the log

	// vhdxMaxLog bounds the log that is replayed, which is held in memory.
	// Hyper-V and QEMU write 1 MiB.
	vhdxMaxLog = 16 << 20
	// vhdxMaxPatches bounds what a log may change: one of only data sectors
	// in vhdxMaxLog has no more.
	vhdxMaxPatches = 4096

	vhdxReplayElsewhere = "attach it in Hyper-V once or run qemu-img check -r all on a copy"
)

// vhdxLog is the log of a file that was not closed, in memory.
type vhdxLog struct {
	b       []byte
	id      guid
	entries map[int64]*vhdxLogEntry // those that are sound, by place in the log
}

// vhdxLogEntry is a log entry whose checksum is right (2.3.1).
type vhdxLogEntry struct {
	at, length    int64 // in the log
	tail          int64
	sequence      uint64
	descriptors   int64
	flushed, last uint64 // file sizes
}

// replayVHDXLog returns the file as it is once the log has been replayed (2.3.3)
// and its size. The file itself is not changed.
func replayVHDXLog(r io.ReaderAt, size int64, h *vhdxHead) (*patchedFile, error) {
	where := fmt.Sprintf("replaying vhdx log at offset %#x", h.logOffset)
	if h.logVersion != 0 {
		return nil, unsupportedf("%s: version %d, want 0", where, h.logVersion)
	}
	if h.logLength > vhdxMaxLog {
		return nil, unsupportedf("%s: %d bytes, want at most %d; %s", where, h.logLength, vhdxMaxLog, vhdxReplayElsewhere)
	}
	l := &vhdxLog{b: make([]byte, h.logLength), id: h.log, entries: map[int64]*vhdxLogEntry{}}
	if err := readFull(r, l.b, int64(h.logOffset)); err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	for at := int64(0); at < h.logLength; at += vhdxLogSector {
		if e := l.parse(at); e != nil {
			l.entries[at] = e
		}
	}
	active := l.active()
	if active == nil {
		return nil, corruptf("%s: log GUID %s is set, but no sequence of sound entries has it", where, h.log)
	}
	f := &patchedFile{r: r, stored: size, size: size}
	for _, e := range active {
		if err := l.apply(f, e); err != nil {
			return nil, fmt.Errorf("%s: entry at offset %#x: %w", where, int64(h.logOffset)+e.at, err)
		}
	}
	return f, nil
}

// sector returns the i-th sector after the one at; the log is a ring.
func (l *vhdxLog) sector(at, i int64) []byte {
	at = (at + i*vhdxLogSector) % int64(len(l.b))
	return l.b[at : at+vhdxLogSector]
}

// descriptor returns the i-th descriptor of the entry at: they follow its
// header of 64 bytes and go on in the next sectors.
func (l *vhdxLog) descriptor(at, i int64) []byte {
	pos := 64 + i*32
	in := pos % vhdxLogSector
	return l.sector(at, pos/vhdxLogSector)[in : in+32]
}

// descriptorSectors is the number of sectors that n descriptors take with the
// header.
func descriptorSectors(n int64) int64 { return ceilDiv(64+32*n, vhdxLogSector) }

// parse returns the entry at, or nil when there is no sound one (2.3.1.1). Its
// sectors are looked at before the checksum is worked out: since no sector but
// the first may look like an entry's, no part of the log is summed twice.
func (l *vhdxLog) parse(at int64) *vhdxLogEntry {
	h := l.sector(at, 0)
	le := binary.LittleEndian
	e := &vhdxLogEntry{at: at, length: int64(le.Uint32(h[8:])), tail: int64(le.Uint32(h[12:])), sequence: le.Uint64(h[16:]),
		descriptors: int64(le.Uint32(h[24:])), flushed: le.Uint64(h[48:]), last: le.Uint64(h[56:])}
	switch {
	case string(h[:4]) != "loge", guid(h[32:48]) != l.id, e.sequence == 0:
		return nil
	case e.length%vhdxLogSector != 0, e.length > int64(len(l.b)), e.length < descriptorSectors(e.descriptors)*vhdxLogSector:
		return nil
	case e.tail%vhdxLogSector != 0, e.tail >= int64(len(l.b)):
		return nil
	}
	if !l.soundSectors(e) {
		return nil
	}
	sum := vhdxChecksum(h)
	for i := int64(1); i < e.length/vhdxLogSector; i++ {
		sum = crc32.Update(sum, castagnoli, l.sector(at, i))
	}
	if sum != le.Uint32(h[4:]) {
		return nil
	}
	return e
}

// soundSectors checks the sequence numbers of descriptors and data sectors.
func (l *vhdxLog) soundSectors(e *vhdxLogEntry) bool {
	le := binary.LittleEndian
	for i := int64(1); i < e.length/vhdxLogSector; i++ {
		if string(l.sector(e.at, i)[:4]) == "loge" {
			return false
		}
	}
	data := descriptorSectors(e.descriptors)
	for i := range e.descriptors {
		d := l.descriptor(e.at, i)
		if le.Uint64(d[24:]) != e.sequence || le.Uint64(d[16:])%vhdxLogSector != 0 {
			return false
		}
		switch string(d[:4]) {
		case "zero":
			if le.Uint64(d[8:])%vhdxLogSector != 0 {
				return false
			}
		case "desc":
			if data*vhdxLogSector >= e.length {
				return false
			}
			s := l.sector(e.at, data)
			if string(s[:4]) != "data" || uint64(le.Uint32(s[4:]))<<32|uint64(le.Uint32(s[4092:])) != e.sequence {
				return false
			}
			data++
		default:
			return false
		}
	}
	return true
}

// active returns the sequence to replay (2.3.3): of all runs of entries that
// follow one another and hold the entry their last one calls the tail, the one
// with the highest sequence number, from that tail on.
func (l *vhdxLog) active() []*vhdxLogEntry {
	var active []*vhdxLogEntry
	size := int64(len(l.b))
	for at := int64(0); at < size; {
		run := l.run(at)
		next := at + vhdxLogSector
		if len(run) > 0 {
			head := run[len(run)-1]
			tail := slices.IndexFunc(run, func(e *vhdxLogEntry) bool { return e.at == head.tail })
			if tail >= 0 {
				if active == nil || head.sequence > active[len(active)-1].sequence {
					active = run[tail:]
				}
				if next = (head.at + head.length) % size; next <= at {
					break // once round
				}
			}
		}
		at = next
	}
	return active
}

// run returns the entries that follow one another from at on.
func (l *vhdxLog) run(at int64) []*vhdxLogEntry {
	var run []*vhdxLogEntry
	size := int64(len(l.b))
	for e := l.entries[at]; e != nil; e = l.entries[(e.at+e.length)%size] {
		if len(run) > 0 && e.sequence != run[len(run)-1].sequence+1 {
			break
		}
		run = append(run, e)
	}
	return run
}

// apply lays the changes of an entry over the file.
func (l *vhdxLog) apply(f *patchedFile, e *vhdxLogEntry) error {
	if e.flushed > uint64(f.stored) {
		return corruptf("the file had %d bytes when it was written, now %d", e.flushed, f.stored)
	}
	data := descriptorSectors(e.descriptors)
	for i := range e.descriptors {
		d := l.descriptor(e.at, i)
		p, err := vhdxPatch(d)
		if err != nil {
			return fmt.Errorf("descriptor %d: %w", i, err)
		}
		if string(d[:4]) == "desc" {
			// What the signature and the sequence number have taken the
			// place of is in the descriptor (2.3.1.4).
			p.data = slices.Clone(l.sector(e.at, data))
			copy(p.data[:8], d[8:16])
			copy(p.data[4092:], d[4:8])
			data++
		}
		if f.paint(p); len(f.patches) > vhdxMaxPatches {
			return unsupportedf("more than %d changes; %s", vhdxMaxPatches, vhdxReplayElsewhere)
		}
	}
	if e.last > maxPatchedSize {
		return corruptf("the file should have %d bytes, want no more than %d", e.last, int64(maxPatchedSize))
	}
	f.size = max(f.size, int64(e.last))
	return nil
}

// vhdxPatch returns the part of the file a descriptor changes, as zeros.
func vhdxPatch(descriptor []byte) (filePatch, error) {
	le := binary.LittleEndian
	start, length := le.Uint64(descriptor[16:]), uint64(vhdxLogSector)
	if string(descriptor[:4]) == "zero" {
		length = le.Uint64(descriptor[8:])
	}
	switch {
	case start > maxPatchedSize, length > maxPatchedSize-start:
		return filePatch{}, corruptf("changes %d bytes at offset %#x, want none past %#x", length, start, int64(maxPatchedSize))
	case start < uint64(vhdxTablesAt[0]):
		return filePatch{}, corruptf("changes offset %#x, before the region tables", start)
	}
	return filePatch{start: int64(start), end: int64(start + length)}, nil
}
