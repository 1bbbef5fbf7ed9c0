package diskimage

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"time"
)

// VHDSubformat is the kind of a VHD image.
type VHDSubformat string

// The kinds a VHD can be written as.
const (
	VHDFixed   VHDSubformat = "fixed"   // the disk, then a footer; what Azure takes
	VHDDynamic VHDSubformat = "dynamic" // blocks that hold data, for Hyper-V
)

// vhdMiB is what Azure wants a fixed disk to be a multiple of.
const vhdMiB = 1 << 20

// DefaultVHDBlockSize is that of every program that makes dynamic VHDs.
const DefaultVHDBlockSize = 2 << 20

// VHDOptions are the options of NewVHDWriter.
type VHDOptions struct {
	// Subformat is VHDFixed when empty.
	Subformat VHDSubformat
	// UUID is the image's unique id as it stands in the footer; zero means
	// one derived from the disk's content.
	UUID [16]byte
	// Timestamp is the time of creation, from 2000 to 2136; zero means the
	// start of 2000, which is 0 in the file.
	Timestamp time.Time
	// BlockSize, for dynamic images, is 2 MiB or 512 KiB, the sizes Hyper-V
	// knows; 0 means DefaultVHDBlockSize.
	BlockSize int
	// NoDigest leaves the SHA-256 out. That of a fixed image is computed over
	// the whole disk, holes included; a dynamic one is read back once.
	NoDigest bool
}

// VHDWriter is a Sink that writes a VHD image. A fixed one is rounded up to a
// whole number of MiB, a dynamic one to a sector. The layout is described in
// docs/design/vhd.md.
type VHDWriter struct {
	t      Target
	opts   VHDOptions
	footer vhdFooter
	size   int64 // what Begin was told
	digest hash.Hash

	// Of a dynamic image.
	bat  []uint32
	next int64 // first byte of the file that is not taken
}

// NewVHDWriter returns a sink for a VHD file. The options are checked when
// writing begins. The target of a fixed image must be a file that Truncate can
// make sparse.
func NewVHDWriter(t Target, opts VHDOptions) *VHDWriter {
	if opts.Subformat == "" {
		opts.Subformat = VHDFixed
	}
	if opts.BlockSize == 0 {
		opts.BlockSize = DefaultVHDBlockSize
	}
	return &VHDWriter{t: t, opts: opts}
}

// Begin implements Sink.
func (w *VHDWriter) Begin(size int64) error {
	w.size = size
	stamp, err := vhdTimestamp(w.opts.Timestamp)
	if err != nil {
		return err
	}
	// Hyper-V's name: QEMU before 10.0 takes the disk's size from the geometry,
	// which can be smaller, for all but a few creators.
	w.footer = vhdFooter{
		timestamp: stamp, creator: [4]byte{'w', 'i', 'n', ' '}, creatorVersion: 10 << 16,
		creatorOS: [4]byte{'W', 'i', '2', 'k'}, uuid: w.opts.UUID,
	}
	if err := w.t.Truncate(0); err != nil {
		return fmt.Errorf("emptying vhd target: %w", err)
	}
	switch w.opts.Subformat {
	case VHDFixed:
		return w.beginFixed()
	case VHDDynamic:
		return w.beginDynamic()
	}
	return fmt.Errorf("vhd subformat %q, want %q or %q", w.opts.Subformat, VHDFixed, VHDDynamic)
}

func (w *VHDWriter) setSize(size int64) {
	w.footer.currentSize = uint64(size)
	w.footer.geometry = vhdGeometryOf(size / vhdSector)
}

// beginFixed gives the file its length. A disk of no bytes gets 1 MiB: the
// footer would be the file's head, where it means a dynamic image.
func (w *VHDWriter) beginFixed() error {
	w.footer.diskType, w.footer.dataOffset = vhdFixed, vhdNowhere
	size := max(1, ceilDiv(w.size, vhdMiB)) * vhdMiB
	w.setSize(size)
	if err := w.t.Truncate(size + vhdFooterSize); err != nil {
		return fmt.Errorf("sizing vhd target to %d bytes: %w", size+vhdFooterSize, err)
	}
	return nil
}

// Encode implements Sink. In a fixed image a block's place is known.
func (w *VHDWriter) Encode(b *Block) (Commit, error) {
	if w.opts.Subformat == VHDFixed {
		return nil, writeSparse(w.t, b, 0)
	}
	return func(context.Context) error { return w.commitBlock(b) }, nil
}

// wantsDigest implements digestUser.
func (w *VHDWriter) wantsDigest() bool { return w.opts.Subformat == VHDFixed && !w.opts.NoDigest }

// diskTarget implements diskHolder.
func (w *VHDWriter) diskTarget() io.ReaderAt {
	if w.opts.Subformat == VHDFixed {
		return w.t
	}
	return nil
}

// takeDigest implements digestUser.
func (w *VHDWriter) takeDigest(h hash.Hash) { w.digest = h }

// wantsIdentity implements identityUser.
func (w *VHDWriter) wantsIdentity() bool { return w.opts.UUID == [16]byte{} }

// takeIdentity implements identityUser.
func (w *VHDWriter) takeIdentity(id [16]byte) { w.footer.uuid = id }

// Finish implements Sink.
func (w *VHDWriter) Finish(ctx context.Context) (Result, error) {
	if w.opts.Subformat == VHDDynamic {
		return w.finishDynamic(ctx)
	}
	size := int64(w.footer.currentSize)
	footer := w.footer.encode()
	if _, err := w.t.WriteAt(footer, size); err != nil {
		return Result{}, fmt.Errorf("writing vhd footer at offset %#x: %w", size, err)
	}
	r := Result{Format: VHD, Size: size + vhdFooterSize}
	if w.digest == nil {
		return r, nil
	}
	if err := hashZeros(ctx, w.digest, size-w.size); err != nil {
		return Result{}, err
	}
	w.digest.Write(footer)
	r.SHA256 = hex.EncodeToString(w.digest.Sum(nil))
	return r, nil
}

// The structures at the head of a dynamic image follow one another.
const (
	vhdHeaderAt = vhdFooterSize
	vhdTableAt  = vhdHeaderAt + vhdHeaderSize
)

// beginDynamic lays the head out: its size depends on the disk's alone.
func (w *VHDWriter) beginDynamic() error {
	block := int64(w.opts.BlockSize)
	if block != DefaultVHDBlockSize && block != 512<<10 {
		return fmt.Errorf("vhd block size %d, want %d or %d", block, DefaultVHDBlockSize, 512<<10)
	}
	if w.size > vhdMaxDynamic {
		return fmt.Errorf("dynamic vhd of %d bytes: readers take at most %d (2040 GiB), use vhdx", w.size, int64(vhdMaxDynamic))
	}
	w.footer.diskType, w.footer.dataOffset = vhdDynamic, vhdHeaderAt
	w.setSize(ceilDiv(w.size, vhdSector) * vhdSector)
	w.bat = make([]uint32, ceilDiv(w.size, block))
	for i := range w.bat {
		w.bat[i] = vhdNoBlock
	}
	w.next = vhdTableAt + w.tableSize()
	return nil
}

// tableSize is the length of the BAT in the file, filled up to a sector.
func (w *VHDWriter) tableSize() int64 { return ceilDiv(int64(len(w.bat))*4, vhdSector) * vhdSector }

// table returns the BAT as it is in the file.
func (w *VHDWriter) table() []byte {
	b := bytes.Repeat([]byte{0xff}, int(w.tableSize()))
	for i, e := range w.bat {
		binary.BigEndian.PutUint32(b[i*4:], e)
	}
	return b
}

// commitBlock writes what b has for each block of the image.
func (w *VHDWriter) commitBlock(b *Block) error {
	size := int64(w.opts.BlockSize)
	for at := int64(0); at < int64(len(b.Data)); {
		off := b.Offset + at
		end := min(int64(len(b.Data)), at+size-off%size)
		if piece := b.Data[at:end]; !isZero(piece) {
			i := off / size
			if err := w.takeBlock(i); err != nil {
				return err
			}
			base := int64(w.bat[i])*vhdSector + vhdBitmapSize(size) - i*size
			if err := writeSparse(w.t, &Block{Offset: off, Data: piece}, base); err != nil {
				return err
			}
		}
		at = end
	}
	return nil
}

// takeBlock gives block i a place, unless it has one, and writes its bitmap
// with all bits set: QEMU and Hyper-V do so, and read the sectors of a block
// whatever its bitmap says. The data begins on a page, so that pages of the
// disk that are zero can be holes of the file.
func (w *VHDWriter) takeBlock(i int64) error {
	if w.bat[i] != vhdNoBlock {
		return nil
	}
	bitmap := vhdBitmapSize(int64(w.opts.BlockSize))
	at := ceilDiv(w.next+bitmap, holeUnit)*holeUnit - bitmap
	if at/vhdSector >= vhdNoBlock {
		return fmt.Errorf("dynamic vhd: block %d would be at offset %#x, past what the BAT can point at: use larger blocks", i, at)
	}
	w.bat[i] = uint32(at / vhdSector)
	w.next = at + bitmap + int64(w.opts.BlockSize)
	if _, err := w.t.WriteAt(bytes.Repeat([]byte{0xff}, int(bitmap)), at); err != nil {
		return fmt.Errorf("writing sector bitmap at offset %#x: %w", at, err)
	}
	return nil
}

// finishDynamic writes the footer and then the head, so that a file cut short
// has none.
func (w *VHDWriter) finishDynamic(ctx context.Context) (Result, error) {
	footer := w.footer.encode()
	header := vhdHeader{vhdTableAt, uint32(len(w.bat)), uint32(w.opts.BlockSize)}
	head := append(append(footer[:vhdFooterSize:vhdFooterSize], header.encode()...), w.table()...)
	if _, err := w.t.WriteAt(footer, w.next); err != nil {
		return Result{}, fmt.Errorf("writing vhd footer at offset %#x: %w", w.next, err)
	}
	if _, err := w.t.WriteAt(head, 0); err != nil {
		return Result{}, fmt.Errorf("writing head of dynamic vhd: %w", err)
	}
	r := Result{Format: VHD, Size: w.next + vhdFooterSize}
	if w.opts.NoDigest {
		return r, nil
	}
	var err error
	if r.SHA256, err = hashTarget(ctx, w.t, r.Size); err != nil {
		return Result{}, fmt.Errorf("hashing vhd file: %w", err)
	}
	return r, nil
}
