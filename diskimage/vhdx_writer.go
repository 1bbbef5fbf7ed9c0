package diskimage

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"unicode/utf16"
)

// VHDXSubformat is a kind of VHDX file.
type VHDXSubformat string

// The two kinds without a parent. A dynamic file has room for the blocks that
// hold data only, a fixed one for all of them.
const (
	VHDXDynamic VHDXSubformat = "dynamic"
	VHDXFixed   VHDXSubformat = "fixed"
)

const (
	vhdxLogAt      = 1 << 20
	vhdxMetadataAt = 2 << 20
	vhdxBATAt      = 3 << 20

	// vhdxManyBlocks is how many blocks a disk may have before the default
	// block size grows: their BAT takes 8 MiB.
	vhdxManyBlocks = 1 << 20

	// vhdxPhysical is the physical sector size written, that of Hyper-V's own
	// new disks: guests align to it.
	vhdxPhysical = 4096
)

// VHDXOptions are the options of NewVHDXWriter.
type VHDXOptions struct {
	// Subformat is VHDXDynamic when empty.
	Subformat VHDXSubformat
	// BlockSize is a power of two from 1 MiB to 256 MiB. 0 means 1 MiB, as
	// Microsoft advises for Linux guests, doubled for disks of more than
	// 1 TiB until there are no more than 2^20 blocks. Hyper-V's default is
	// 32 MiB, QEMU's 8 to 64 MiB by the disk's size: since a block is in the
	// file whole or not at all, theirs make larger files.
	BlockSize int
	// LogicalSectorSize is 512, which 0 means too, or 4096. The disk is
	// rounded up to it.
	LogicalSectorSize int
	// UUID identifies the disk (SCSI page 83), in the order of RFC 9562. When
	// zero it is derived from what the disk holds.
	UUID [16]byte
	// NoDigest leaves the SHA-256 out, which reads the file back once: for
	// the fixed kind that is as long as the disk, holes included.
	NoDigest bool
}

// VHDXWriter is a Sink that writes a VHDX file. Its layout is described in
// docs/design/vhdx.md. A disk has at least one sector and at most 64 TiB.
type VHDXWriter struct {
	t    Target
	opts VHDXOptions
	id   [16]byte
	g    vhdxGeometry

	bat    bufferedTarget
	listed int64 // blocks whose BAT entry is written
	last   int64 // place of the block listed last, when it has one
	next   int64 // end of what is taken of the file
}

// NewVHDXWriter returns a sink for a VHDX file. The options are checked when
// writing begins.
func NewVHDXWriter(t Target, o VHDXOptions) *VHDXWriter {
	if o.Subformat == "" {
		o.Subformat = VHDXDynamic
	}
	if o.LogicalSectorSize == 0 {
		o.LogicalSectorSize = 512
	}
	return &VHDXWriter{t: t, opts: o, id: o.UUID, bat: bufferedTarget{t: t}}
}

// wantsIdentity implements identityUser.
func (w *VHDXWriter) wantsIdentity() bool { return w.opts.UUID == [16]byte{} }

// takeIdentity implements identityUser.
func (w *VHDXWriter) takeIdentity(id [16]byte) { w.id = id }

// Begin implements Sink.
func (w *VHDXWriter) Begin(size int64) error {
	if err := w.setGeometry(size); err != nil {
		return err
	}
	w.next = w.dataAt()
	if err := w.t.Truncate(0); err != nil {
		return fmt.Errorf("emptying vhdx target: %w", err)
	}
	if w.opts.Subformat != VHDXFixed {
		return nil
	}
	for block := range w.g.blocks() {
		if err := w.list(block, w.allocate()); err != nil {
			return err
		}
	}
	return w.extend()
}

// setGeometry checks the options and the size of the disk.
func (w *VHDXWriter) setGeometry(size int64) error {
	o := w.opts
	if o.Subformat != VHDXDynamic && o.Subformat != VHDXFixed {
		return fmt.Errorf("vhdx subformat %q, want %q or %q", o.Subformat, VHDXDynamic, VHDXFixed)
	}
	if o.LogicalSectorSize != 512 && o.LogicalSectorSize != 4096 {
		return fmt.Errorf("vhdx logical sector size %d, want 512 or 4096", o.LogicalSectorSize)
	}
	if size < 1 || size > vhdxMaxSize {
		return fmt.Errorf("vhdx disk of %d bytes, want 1 byte to 64 TiB", size)
	}
	sector := int64(o.LogicalSectorSize)
	w.g = vhdxGeometry{size: ceilDiv(size, sector) * sector, blockSize: int64(o.BlockSize), sector: sector}
	if o.BlockSize == 0 {
		w.g.blockSize = vhdxMinBlock
		for w.g.blocks() > vhdxManyBlocks {
			w.g.blockSize *= 2
		}
	}
	if b := w.g.blockSize; b < vhdxMinBlock || b > vhdxMaxBlock || b&(b-1) != 0 {
		return fmt.Errorf("vhdx block size %d, want a power of two from 1 MiB to 256 MiB", b)
	}
	return nil
}

// dataAt is where the first block lies.
func (w *VHDXWriter) dataAt() int64 { return vhdxBATAt + w.batLength() }

func (w *VHDXWriter) batLength() int64 { return ceilDiv(w.g.batEntries()*8, vhdxUnit) * vhdxUnit }

// Encode implements Sink. Where the blocks of a fixed file lie is known, so
// they are written here, out of order.
func (w *VHDXWriter) Encode(b *Block) (Commit, error) {
	if w.opts.Subformat == VHDXFixed {
		return nil, writeSparse(w.t, b, w.dataAt())
	}
	return func(context.Context) error { return w.commit(b) }, nil
}

// commit writes the pieces of b that are not zero. A piece lies in one block
// of the file, which gets its place with the first of them.
func (w *VHDXWriter) commit(b *Block) error {
	step := min(int64(len(b.buf)), w.g.blockSize)
	for at := int64(0); at < int64(len(b.Data)); at += step {
		piece := Block{Offset: b.Offset + at, Data: b.Data[at:min(at+step, int64(len(b.Data)))]}
		if isZero(piece.Data) {
			continue
		}
		block := piece.Offset / w.g.blockSize
		if block >= w.listed {
			if err := w.listZeros(block); err != nil {
				return err
			}
			if err := w.list(block, w.allocate()); err != nil {
				return err
			}
		}
		if err := writeSparse(w.t, &piece, w.last-block*w.g.blockSize); err != nil {
			return err
		}
	}
	return nil
}

// allocate takes the next place for a block.
func (w *VHDXWriter) allocate() int64 {
	at := w.next
	w.next += w.g.blockSize
	return at
}

// list writes the BAT entry of the next block, which lies at the given place.
func (w *VHDXWriter) list(block, at int64) error {
	w.last = at
	return w.entry(block, uint64(at)|vhdxPresent) // at is whole MiB
}

// listZeros writes the BAT entries of the blocks before the given one that
// hold nothing. Of the states for them only this one promises zeros: by the
// specification NOT_PRESENT may read as anything.
func (w *VHDXWriter) listZeros(before int64) error {
	for w.listed < before {
		if err := w.entry(w.listed, vhdxZero); err != nil {
			return err
		}
	}
	return nil
}

// entry writes the BAT entry of the next block. Those of sector bitmaps stay
// zero: they are for differencing disks.
func (w *VHDXWriter) entry(block int64, e uint64) error {
	w.listed = block + 1
	var b [16]byte
	binary.LittleEndian.PutUint64(b[8:], e)
	if block > 0 && block%w.g.chunkRatio() == 0 {
		return w.bat.write(b[:], vhdxBATAt+(w.g.batIndex(block)-1)*8)
	}
	return w.bat.write(b[8:], vhdxBATAt+w.g.batIndex(block)*8)
}

// extend makes the file as long as what is taken: the last block is there
// whole, whatever is written of it.
func (w *VHDXWriter) extend() error {
	if err := w.t.Truncate(w.next); err != nil {
		return fmt.Errorf("extending vhdx target to %d bytes: %w", w.next, err)
	}
	return nil
}

// Finish implements Sink.
func (w *VHDXWriter) Finish(ctx context.Context) (Result, error) {
	if err := w.listZeros(w.g.blocks()); err != nil {
		return Result{}, err
	}
	if err := w.bat.flush(); err != nil {
		return Result{}, err
	}
	if err := w.extend(); err != nil {
		return Result{}, err
	}
	if err := w.writeHeaders(); err != nil {
		return Result{}, err
	}
	r := Result{Format: VHDX, Size: w.next}
	if w.opts.NoDigest {
		return r, nil
	}
	var err error
	if r.SHA256, err = hashTarget(ctx, w.t, w.next); err != nil {
		return Result{}, fmt.Errorf("hashing vhdx file: %w", err)
	}
	return r, nil
}

// writeHeaders writes the metadata and last of all what makes the file a VHDX,
// so that one that was cut short is none.
func (w *VHDXWriter) writeHeaders() error {
	out := bufferedTarget{t: w.t}
	if err := out.write(w.metadata(), vhdxMetadataAt); err != nil {
		return err
	}
	table := w.regionTable()
	for i, at := range vhdxTablesAt {
		if err := out.write(table, at); err != nil {
			return err
		}
		// The second one has the higher sequence number and is current.
		if err := out.write(w.header(uint64(i+1)), vhdxHeadersAt[i]); err != nil {
			return err
		}
	}
	id := []byte(vhdxSignature)
	for _, c := range utf16.Encode([]rune("kldload")) { // Creator
		id = binary.LittleEndian.AppendUint16(id, c)
	}
	if err := out.write(id, 0); err != nil {
		return err
	}
	return out.flush()
}

// header returns a header (2.2.2) with an empty log.
func (w *VHDXWriter) header(sequence uint64) []byte {
	b := make([]byte, vhdxHeaderSize)
	le := binary.LittleEndian
	copy(b, vhdxHeader)
	le.PutUint64(b[8:], sequence)
	file, data := w.derived("file write"), w.derived("data write")
	copy(b[16:], file[:])
	copy(b[32:], data[:])
	// LogGuid at 48 and LogVersion at 64 are zero.
	le.PutUint16(b[66:], 1) // Version
	le.PutUint32(b[68:], vhdxUnit)
	le.PutUint64(b[72:], vhdxLogAt)
	le.PutUint32(b[4:], vhdxChecksum(b))
	return b
}

// derived makes a further GUID (RFC 9562, version 8) from the disk's.
func (w *VHDXWriter) derived(purpose string) guid {
	sum := sha256.Sum256(append([]byte("kldload vhdx "+purpose+"\x00"), w.id[:]...))
	id := [16]byte(sum[:])
	id[6] = id[6]&0x0f | 0x80 // version 8
	id[8] = id[8]&0x3f | 0x80 // variant
	return newGUID(id)
}

// regionTable returns a region table (2.2.3).
func (w *VHDXWriter) regionTable() []byte {
	b := make([]byte, vhdxTableSize)
	le := binary.LittleEndian
	copy(b, vhdxRegions)
	le.PutUint32(b[8:], 2)
	for i, r := range []struct {
		id         guid
		at, length int64
	}{{vhdxBATRegion, vhdxBATAt, w.batLength()}, {vhdxMetadataRegion, vhdxMetadataAt, vhdxUnit}} {
		e := b[16+i*vhdxEntrySize:]
		copy(e, r.id[:])
		le.PutUint64(e[16:], uint64(r.at))
		le.PutUint32(e[24:], uint32(r.length))
		le.PutUint32(e[28:], 1) // Required
	}
	le.PutUint32(b[4:], vhdxChecksum(b))
	return b
}

// metadata returns the used part of the metadata region (2.6).
func (w *VHDXWriter) metadata() []byte {
	le := binary.LittleEndian
	kind := uint32(0)
	if w.opts.Subformat == VHDXFixed {
		kind = vhdxLeaveAllocated
	}
	id := newGUID(w.id)
	items := []struct {
		id    guid
		flags uint32
		value []byte
	}{
		{vhdxFileParameters, vhdxItemRequired, le.AppendUint32(le.AppendUint32(nil, uint32(w.g.blockSize)), kind)},
		{vhdxDiskSize, vhdxItemRequired | vhdxItemVirtualDisk, le.AppendUint64(nil, uint64(w.g.size))},
		{vhdxDiskID, vhdxItemRequired | vhdxItemVirtualDisk, id[:]},
		{vhdxLogicalSector, vhdxItemRequired | vhdxItemVirtualDisk, le.AppendUint32(nil, uint32(w.g.sector))},
		{vhdxPhysicalSector, vhdxItemRequired | vhdxItemVirtualDisk, le.AppendUint32(nil, vhdxPhysical)},
	}
	b := make([]byte, vhdxTableSize)
	copy(b, vhdxMetadata)
	le.PutUint16(b[10:], uint16(len(items)))
	for i, item := range items {
		e := b[(i+1)*vhdxEntrySize:]
		copy(e, item.id[:])
		le.PutUint32(e[16:], uint32(len(b)))
		le.PutUint32(e[20:], uint32(len(item.value)))
		le.PutUint32(e[24:], item.flags)
		b = append(b, item.value...)
	}
	return b
}
