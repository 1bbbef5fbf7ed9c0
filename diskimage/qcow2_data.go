package diskimage

import (
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/kldload/kldload/internal/deflate"
)

// readRun fills the front of p, at most to the end of the disk, from the
// cluster at off and, when they are plain and lie together in the file, the
// clusters after it.
func (d *QCOW2Disk) readRun(p []byte, off int64) (int, error) {
	m, err := d.lookup(off)
	if err != nil {
		return 0, err
	}
	cs := d.h.clusterSize()
	in := off % cs
	n := min(int64(len(p)), cs-in)
	switch m.kind {
	case clusterPlain:
		for n < int64(len(p)) {
			next, err := d.lookup(off + n)
			if err != nil {
				return 0, err
			}
			if next.kind != clusterPlain || next.host != m.host+in+n {
				break
			}
			n = min(int64(len(p)), n+cs)
		}
		return int(n), d.readPlain(p[:n], off, m.host+in)
	case clusterCompressed:
		return int(n), d.readCompressed(p[:n], off, m)
	case clusterUnallocated:
		if d.backing != nil {
			return int(n), d.readBacking(p[:n], off)
		}
	}
	clear(p[:n])
	return int(n), nil
}

// readPlain reads p from host. QEMU may end a file in the middle of its last
// cluster, where the disk itself ends; anything else missing is an error.
func (d *QCOW2Disk) readPlain(p []byte, off, host int64) error {
	if err := readFull(d.r, p, host); err != nil {
		return fmt.Errorf("reading cluster %d at offset %#x: %w", off/d.h.clusterSize(), host, err)
	}
	return nil
}

func (d *QCOW2Disk) readBacking(p []byte, off int64) error {
	n := max(0, min(int64(len(p)), d.backing.Size()-off))
	clear(p[n:])
	if n == 0 {
		return nil
	}
	if err := readFull(d.backing, p[:n], off); err != nil {
		return fmt.Errorf("backing file %q: reading at offset %#x: %w", d.h.backingName, off, err)
	}
	return nil
}

// readCompressed reads p, which lies within the compressed cluster m.
func (d *QCOW2Disk) readCompressed(p []byte, off int64, m mapping) error {
	cs := d.h.clusterSize()
	var err error
	if in := off % cs; in == 0 && int64(len(p)) == cs {
		err = d.codec.decompress(d.r, p, m)
	} else {
		err = d.codec.readPart(d.r, p, in, m)
	}
	if err != nil {
		return fmt.Errorf("reading compressed cluster %d at offset %#x: %w", off/cs, m.host, err)
	}
	return nil
}

// decompressor inflates clusters and remembers the last one that was asked
// for in part, since the rest of it is likely to be asked for next.
type decompressor struct {
	clusterSize int64
	zstd        *zstd.Decoder // nil for deflate
	scratch     sync.Pool     // of *unpacking

	mu       sync.Mutex
	lastHost int64
	last     []byte
}

// unpacking is what one call of decompress works with.
type unpacking struct {
	in      []byte
	inflate deflate.Decoder
}

// unflate unpacks a raw deflate stream (RFC 1951) into all of p.
func (z *unpacking) unflate(p []byte) error {
	if n, err := z.inflate.Decode(p, z.in); err != nil {
		return corruptf("inflating: %v after %d of %d bytes", err, n, len(p))
	}
	return nil
}

func (c *decompressor) init(h *qcow2Header) {
	c.clusterSize = h.clusterSize()
	c.scratch.New = func() any { return new(unpacking) }
	if h.zstd {
		// These options are constants that zstd accepts.
		c.zstd, _ = zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.IgnoreChecksum(false),
			zstd.WithDecoderMaxMemory(maxClusterSize), zstd.WithDecoderMaxWindow(8<<20))
	}
}

// decompress reads the compressed cluster m into all of p.
func (c *decompressor) decompress(r io.ReaderAt, p []byte, m mapping) error {
	z := c.scratch.Get().(*unpacking)
	defer c.scratch.Put(z)
	z.in = slices.Grow(z.in[:0], int(m.size))[:m.size]
	if err := readFull(r, z.in, m.host); err != nil {
		return err
	}
	if c.zstd != nil {
		return c.unzstd(p, z.in)
	}
	return z.unflate(p)
}

func (c *decompressor) unzstd(p, in []byte) error {
	frame, err := zstdFrame(in)
	if err != nil {
		return err
	}
	out, err := c.zstd.DecodeAll(frame, p[:0:len(p)])
	if err != nil {
		return corruptf("unpacking zstd: %v", err)
	}
	if len(out) != len(p) {
		return corruptf("unpacking zstd: got %d bytes, want %d", len(out), len(p))
	}
	if len(p) > 0 && &out[0] != &p[0] {
		copy(p, out)
	}
	return nil
}

// zstdFrame cuts the first frame off in, which goes on to the end of its last
// sector (RFC 8878, sections 3.1.1 and 3.1.1.2).
func zstdFrame(in []byte) ([]byte, error) {
	var h zstd.Header
	if err := h.Decode(in); err != nil {
		return nil, corruptf("unpacking zstd: frame header: %v", err)
	}
	if h.Skippable {
		return nil, corruptf("unpacking zstd: skippable frame")
	}
	pos := h.HeaderSize
	for last := false; !last; {
		if pos+3 > len(in) {
			return nil, corruptf("unpacking zstd: block header at %d reaches past its %d bytes", pos, len(in))
		}
		b := uint32(in[pos]) | uint32(in[pos+1])<<8 | uint32(in[pos+2])<<16
		pos += 3
		last = b&1 != 0
		if b>>1&3 == 1 { // RLE: one byte, however long
			pos++
		} else {
			pos += int(b >> 3)
		}
	}
	if h.HasCheckSum {
		pos += 4
	}
	if pos > len(in) {
		return nil, corruptf("unpacking zstd: frame of %d bytes reaches past its %d bytes", pos, len(in))
	}
	return in[:pos], nil
}

// readPart reads p from byte in of the cluster m.
func (c *decompressor) readPart(r io.ReaderAt, p []byte, in int64, m mapping) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last == nil || c.lastHost != m.host {
		if c.last == nil {
			c.last = make([]byte, c.clusterSize)
		}
		c.lastHost = 0 // no cluster lies on the header
		if err := c.decompress(r, c.last, m); err != nil {
			return err
		}
		c.lastHost = m.host
	}
	copy(p, c.last[in:])
	return nil
}
