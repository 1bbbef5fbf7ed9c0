package zfs

import (
	"container/list"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/kldload/kldload/zfs/internal/block"
	"github.com/kldload/kldload/zfs/internal/ondisk"
)

const (
	gangHeaderSize = 512 // SPA_GANGBLOCKSIZE
	gangChildren   = 3   // SPA_GBH_NBLKPTRS
	gangDepth      = 12  // a tree of halves of the largest block, down to a sector
	cacheBytes     = 32 << 20
)

// errHoleRead says that a hole was taken for a stored block.
var errHoleRead = errors.New("there is a hole where a block was wanted")

// device reads the blocks of the vdev that holds everything.
type device struct {
	r     io.ReaderAt
	asize uint64 // bytes that can be allocated, from LabelStart on
	// lax takes blocks with wrong checksums, so that fuzzing gets behind them.
	lax   bool
	cache blockCache
}

// readStored reads copy i of a block as stored and verifies it.
func (d *device) readStored(bp *ondisk.BlockPtr, i, depth int) ([]byte, error) {
	b, err := d.fetch(bp, i, depth)
	if err != nil {
		return nil, err
	}
	return b, d.verify(bp, b)
}

// fetch reads copy i of a block as stored.
func (d *device) fetch(bp *ondisk.BlockPtr, i, depth int) ([]byte, error) {
	dva, size := bp.DVA(i), bp.PSize()
	if size > ondisk.MaxBlockSize {
		return nil, fmt.Errorf("block of %d bytes: want at most %d", size, ondisk.MaxBlockSize)
	}
	if dva.Gang {
		return d.readGang(bp, i, depth)
	}
	return d.readAt(dva, size)
}

// readAt reads size bytes where a DVA says.
func (d *device) readAt(dva ondisk.DVA, size int) ([]byte, error) {
	if err := d.checkDVA(dva, uint64(size)); err != nil {
		return nil, err
	}
	b := make([]byte, size)
	if n, err := d.r.ReadAt(b, int64(dva.Offset)+ondisk.LabelStart); n < size {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("reading %d bytes at %d of the device: %w", size, dva.Offset+ondisk.LabelStart, err)
	}
	return b, nil
}

// checkDVA says why no block of size bytes can lie there.
func (d *device) checkDVA(dva ondisk.DVA, size uint64) error {
	switch {
	case dva.VDev != 0:
		return fmt.Errorf("DVA %s is on vdev %d: only vdev 0 is here", dva, dva.VDev)
	case dva.Offset >= d.asize || size > d.asize-dva.Offset || dva.ASize > d.asize-dva.Offset:
		return fmt.Errorf("DVA %s with %d bytes: the vdev has %d", dva, size, d.asize)
	}
	return nil
}

// verify holds a stored block against its pointer. Of an encrypted block the
// second half of the sum is a MAC, and the first is folded where the checksum
// is a weak one (zio_checksum_error_impl of zio_checksum.c).
func (d *device) verify(bp *ondisk.BlockPtr, b []byte) error {
	want, c := bp.Sum(), bp.Checksum()
	if d.lax {
		return nil
	}
	if !bp.IsEncrypted() || bp.Type() == ondisk.TypeObjset || c == ondisk.ChecksumOff {
		return block.Verify(b, c, want)
	}
	got, err := block.Sum(b, c)
	if err != nil {
		return err
	}
	if c == ondisk.ChecksumFletcher2 || c == ondisk.ChecksumFletcher4 {
		got[0], got[1] = got[0]^got[2], got[1]^got[3]
	}
	if got[0] != want[0] || got[1] != want[1] {
		return &block.SumError{Checksum: c, Got: got, Want: want}
	}
	return nil
}

// readGang puts a block together that lies in parts: a header of three
// pointers, which may be gangs themselves (zio_gbh_phys_t, sys/zio.h).
func (d *device) readGang(bp *ondisk.BlockPtr, i, depth int) ([]byte, error) {
	if depth == 0 {
		return nil, fmt.Errorf("gang blocks are nested deeper than %d", gangDepth)
	}
	parts, err := d.gangHeader(bp, i)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, bp.PSize())
	for n := range parts {
		part := &parts[n]
		if part.IsHole() {
			continue
		}
		if part.IsEmbedded() || part.PSize() > bp.PSize()-len(out) {
			return nil, fmt.Errorf("gang header at DVA %s: part %d does not fit the block of %d bytes", bp.DVA(i), n, bp.PSize())
		}
		b, err := d.readAny(part, depth-1)
		if err != nil {
			return nil, fmt.Errorf("gang header at DVA %s: part %d: %w", bp.DVA(i), n, err)
		}
		out = append(out, b...)
	}
	if len(out) != bp.PSize() {
		return nil, fmt.Errorf("gang header at DVA %s: parts of %d bytes, want %d", bp.DVA(i), len(out), bp.PSize())
	}
	return out, nil
}

// gangHeader reads the header in copy i. It is summed with the first copy's
// place and the birth in place of the sum.
func (d *device) gangHeader(bp *ondisk.BlockPtr, i int) (parts [gangChildren]ondisk.BlockPtr, err error) {
	dva := bp.DVA(i)
	dva.ASize = 0 // that of the whole tree
	b, err := d.readAt(dva, gangHeaderSize)
	if err != nil {
		return parts, fmt.Errorf("gang header: %w", err)
	}
	birth := bp.PhysBirth()
	if birth == 0 {
		birth = bp.Birth()
	}
	first := bp.DVA(0)
	if err := checkGangSum(b, [4]uint64{uint64(first.VDev), first.Offset, birth, 0}); err != nil && !d.lax {
		return parts, fmt.Errorf("gang header at DVA %s: %w", bp.DVA(i), err)
	}
	for n := range parts {
		copy(parts[n][:], b[n*ondisk.BlockPtrSize:])
	}
	return parts, nil
}

// checkGangSum verifies the sum at the end of a gang header, made with verifier
// in its place (zio_eck_t: a magic number and the sum).
func checkGangSum(b []byte, verifier [4]uint64) error {
	sum := b[len(b)-32:]
	var want [4]uint64
	for i, v := range verifier {
		want[i] = binary.LittleEndian.Uint64(sum[8*i:])
		binary.LittleEndian.PutUint64(sum[8*i:], v)
	}
	return block.Verify(b, ondisk.ChecksumGangHeader, want)
}

// copiesOf is how many DVAs of a pointer are copies: the third of an encrypted
// block holds salt and IV.
func copiesOf(bp *ondisk.BlockPtr) int {
	n := bp.Copies()
	if bp.IsEncrypted() && bp.Level() == 0 && n > 0 && !bp.DVA(2).IsZero() {
		n--
	}
	return n
}

// readAny reads the first good copy of a block as stored.
func (d *device) readAny(bp *ondisk.BlockPtr, depth int) ([]byte, error) {
	var errs []error
	for i := range copiesOf(bp) {
		b, err := d.readStored(bp, i, depth)
		if err == nil {
			return b, nil
		}
		if i > 0 {
			err = fmt.Errorf("copy %d at DVA %s: %w", i, bp.DVA(i), err)
		}
		errs = append(errs, err)
	}
	if errs == nil {
		return nil, errHoleRead
	}
	return nil, errors.Join(errs...)
}

// read gives the content of a block, LSize bytes; holes are zeros. The bytes
// are the caller's.
func (d *device) read(bp *ondisk.BlockPtr) ([]byte, error) {
	if bp.LSize() > ondisk.MaxBlockSize {
		return nil, fmt.Errorf("block of %d bytes: want at most %d", bp.LSize(), ondisk.MaxBlockSize)
	}
	if bp.IsHole() {
		return make([]byte, bp.LSize()), nil
	}
	if bp.IsEmbedded() {
		return unpackEmbedded(bp)
	}
	if !bp.LittleEndian() {
		return nil, errors.New("the block is big-endian: want a little-endian one")
	}
	stored, err := d.readAny(bp, gangDepth)
	if err != nil {
		return nil, err
	}
	return unpack(bp, stored)
}

// unpack decompresses a stored block.
func unpack(bp *ondisk.BlockPtr, stored []byte) ([]byte, error) {
	if bp.Compression() == ondisk.CompressOff && len(stored) == bp.LSize() {
		return stored, nil
	}
	if bp.LSize() > ondisk.MaxBlockSize {
		return nil, fmt.Errorf("block of %d bytes: want at most %d", bp.LSize(), ondisk.MaxBlockSize)
	}
	out := make([]byte, bp.LSize())
	return out, block.Decode(out, stored, bp.Compression())
}

func unpackEmbedded(bp *ondisk.BlockPtr) ([]byte, error) {
	if bp.EmbeddedType() != 0 {
		return nil, fmt.Errorf("embedded pointer of type %d (redacted data): not supported", bp.EmbeddedType())
	}
	payload, err := bp.Payload()
	if err != nil {
		return nil, err
	}
	return unpack(bp, payload)
}

// readCached is read for metadata; the bytes are shared and must not change.
func (d *device) readCached(bp *ondisk.BlockPtr) ([]byte, error) {
	if b := d.cache.get(bp); b != nil {
		return b, nil
	}
	b, err := d.read(bp)
	if err == nil {
		d.cache.put(bp, b)
	}
	return b, err
}

// blockCache keeps what was read last, cacheBytes of it.
type blockCache struct {
	mu     sync.Mutex
	blocks map[ondisk.BlockPtr]*list.Element
	recent list.List // of *cached, the latest first
	bytes  int
}

type cached struct {
	bp ondisk.BlockPtr
	b  []byte
}

func (c *blockCache) get(bp *ondisk.BlockPtr) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.blocks[*bp]
	if e == nil {
		return nil
	}
	c.recent.MoveToFront(e)
	return e.Value.(*cached).b
}

func (c *blockCache) put(bp *ondisk.BlockPtr, b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.blocks == nil {
		c.blocks = map[ondisk.BlockPtr]*list.Element{}
	}
	if len(b) > cacheBytes/4 || c.blocks[*bp] != nil {
		return
	}
	c.blocks[*bp] = c.recent.PushFront(&cached{*bp, b})
	for c.bytes += len(b); c.bytes > cacheBytes; {
		e := c.recent.Back()
		old := c.recent.Remove(e).(*cached)
		delete(c.blocks, old.bp)
		c.bytes -= len(old.b)
	}
}
