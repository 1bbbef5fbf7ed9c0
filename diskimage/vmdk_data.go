package diskimage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/kldload/kldload/internal/deflate"
)

// grainRun is how much of the file is read at once for grains that follow one
// another.
const grainRun = 1 << 20

// readRun fills the front of p, at most to the end of the disk, from the grain
// at off and, when they lie in order in the file, those after it.
func (d *vmdkSparse) readRun(p []byte, off int64) (int, error) {
	at, err := d.lookup(off)
	if err != nil {
		return 0, err
	}
	in := off % d.grain
	n := min(int64(len(p)), d.grain-in)
	switch {
	case at == 0:
		clear(p[:n])
		return int(n), nil
	case !d.h.compressed():
		return d.readPlain(p, off, at+in)
	case n == d.grain:
		return d.readGrains(p[:int64(len(p))/d.grain*d.grain], off, at)
	}
	if err := d.readPart(p[:n], off, at); err != nil {
		return 0, d.grainError(off, at, err)
	}
	return int(n), nil
}

// readPlain reads from host on, as far as the grains lie together.
func (d *vmdkSparse) readPlain(p []byte, off, host int64) (int, error) {
	n := min(int64(len(p)), d.grain-off%d.grain)
	for n < int64(len(p)) {
		next, err := d.lookup(off + n)
		if err != nil {
			return 0, err
		}
		if next != host+n {
			break
		}
		n = min(int64(len(p)), n+d.grain)
	}
	if err := readFull(d.r, p[:n], host); err != nil {
		return 0, d.grainError(off, host, err)
	}
	return int(n), nil
}

func (d *vmdkSparse) grainError(off, at int64, err error) error {
	return fmt.Errorf("reading grain %d at offset %#x: %w", off/d.grain, at, err)
}

// grainReading is what one reading of compressed grains works with.
type grainReading struct {
	unpacking
	places []int64 // of the grains in the file
	window []byte  // the file from places[0] on
	more   []byte
}

func newGrainReading() any { return new(grainReading) }

// readGrains reads whole grains straight into p, until one is not in order in
// the file; the first is at first.
func (d *vmdkSparse) readGrains(p []byte, off, first int64) (int, error) {
	g := d.scratch.Get().(*grainReading)
	defer d.scratch.Put(g)
	end := d.plan(g, off, first, int64(len(p)))
	g.window = slices.Grow(g.window[:0], int(end-first))[:end-first]
	if err := readFull(d.r, g.window, first); err != nil {
		return 0, d.grainError(off, first, err)
	}
	for i, at := range g.places {
		pos := off + int64(i)*d.grain
		if err := d.unpack(g, p[:d.grain], pos, at); err != nil {
			return i * int(d.grain), d.grainError(pos, at, err)
		}
		p = p[d.grain:]
	}
	return len(g.places) * int(d.grain), nil
}

// plan sets g.places to those of the grains from off on that are to be read at
// once, the first of which is at first, and returns where in the file they are
// thought to end.
func (d *vmdkSparse) plan(g *grainReading, off, first, n int64) int64 {
	g.places = append(g.places[:0], first)
	last := first
	for pos := off + d.grain; pos < d.size; pos += d.grain {
		// What is wrong with a later grain is found when it is its turn.
		at, err := d.lookup(pos)
		if err != nil || at <= last || at-first > grainRun {
			break
		}
		if pos >= off+n {
			// The grain after the last one tells where that one ends.
			return min(at, last+d.packedLimit())
		}
		g.places = append(g.places, at)
		last = at
	}
	return min(last+vmdkMarkerBytes+d.grain, d.fileSize)
}

// packedLimit is the most a compressed grain may take, as for QEMU.
func (d *vmdkSparse) packedLimit() int64 { return vmdkMarkerBytes + 2*d.grain }

// unpack unpacks the grain at pos of the disk, whose marker is at at, into all
// of p.
func (d *vmdkSparse) unpack(g *grainReading, p []byte, pos, at int64) error {
	n, err := d.unpackSome(g, p, pos, at)
	if err == nil && n < len(p) {
		return corruptf("inflating: stream ends after %d of %d bytes", n, len(p))
	}
	return err
}

// unpackSome is unpack for a grain that may be shorter.
func (d *vmdkSparse) unpackSome(g *grainReading, p []byte, pos, at int64) (int, error) {
	marker, err := d.bytes(g, at, vmdkMarkerBytes)
	if err != nil {
		return 0, err
	}
	lba, size := binary.LittleEndian.Uint64(marker), int64(binary.LittleEndian.Uint32(marker[8:]))
	if lba != uint64(pos/vmdkSector) {
		return 0, corruptf("marker has LBA %#x, want %#x", lba, pos/vmdkSector)
	}
	if size > d.packedLimit()-vmdkMarkerBytes || size > d.fileSize-at-vmdkMarkerBytes {
		return 0, corruptf("marker has a size of %d bytes, want at most %d and the end of the file at %#x", size, 2*d.grain, d.fileSize)
	}
	if g.in, err = d.bytes(g, at+vmdkMarkerBytes, size); err != nil {
		return 0, err
	}
	return g.unzlib(p)
}

// bytes returns n bytes of the file, from the window when they are in it.
func (d *vmdkSparse) bytes(g *grainReading, at, n int64) ([]byte, error) {
	if in := at - g.places[0]; in+n <= int64(len(g.window)) {
		return g.window[in:][:n], nil
	}
	g.more = slices.Grow(g.more[:0], int(n))[:n]
	return g.more, readFull(d.r, g.more, at)
}

// unzlib unpacks the zlib stream in z.in (RFC 1950) into p, which it may not
// fill, and checks its Adler-32.
func (z *unpacking) unzlib(p []byte) (int, error) {
	in := z.in
	// Method 8 with a window of up to 32 KiB, no preset dictionary.
	if len(in) < 6 || in[0]&0x8f != 8 || in[1]&0x20 != 0 || (uint(in[0])<<8|uint(in[1]))%31 != 0 {
		return 0, corruptf("inflating: no zlib header (%d bytes, %x)", len(in), in[:min(2, len(in))])
	}
	n, err := z.inflate.Decode(p, in[2:])
	if err != nil && !errors.Is(err, deflate.ErrShort) {
		return 0, corruptf("inflating: %v after %d of %d bytes", err, n, len(p))
	}
	end, err := z.inflate.Rest()
	if err != nil {
		return 0, corruptf("inflating: %v (%d bytes)", err, len(p))
	}
	tail := in[2+end:]
	if len(tail) < adlerSize {
		return 0, corruptf("inflating: Adler-32 is cut, %d bytes are there", len(tail))
	}
	if got, want := adler(p[:n]), binary.BigEndian.Uint32(tail); got != want {
		return 0, corruptf("inflating: Adler-32 is %#08x, stream says %#08x", got, want)
	}
	return n, nil
}

// partGrain is the grain that was last asked for in part, since the rest of it
// is likely to be asked for next.
type partGrain struct {
	mu   sync.Mutex
	of   *vmdkSparse // nil for none
	at   int64
	data []byte
}

// readPart reads p, a part of the grain at at. The last grain of a disk may
// hold no more than the disk does.
func (d *vmdkSparse) readPart(p []byte, off, at int64) error {
	in := off % d.grain
	c := &d.shared.part
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of != d || c.at != at {
		g := d.scratch.Get().(*grainReading)
		defer d.scratch.Put(g)
		g.places, g.window = append(g.places[:0], at), g.window[:0]
		c.of = nil
		c.data = slices.Grow(c.data[:0], int(d.grain))[:d.grain]
		n, err := d.unpackSome(g, c.data, off-in, at)
		if err != nil {
			return err
		}
		c.data, c.of, c.at = c.data[:n], d, at
	}
	if in+int64(len(p)) > int64(len(c.data)) {
		return corruptf("inflating: grain has %d bytes, want at least %d", len(c.data), in+int64(len(p)))
	}
	copy(p, c.data[in:])
	return nil
}
