package ext4

import (
	"bytes"
	"fmt"
	"io"
)

// pending gathers writes to adjoining places into large ones. The bytes that
// wait are buf[start:end]; they belong at offset off of the image. The room
// behind them may be filled in place and then taken over with take.
type pending struct {
	w          io.WriterAt
	buf        []byte
	start, end int
	off        int64
}

func (p *pending) flush() error {
	if p.start < p.end {
		if _, err := p.w.WriteAt(p.buf[p.start:p.end], p.off); err != nil {
			return fmt.Errorf("writing %d bytes at offset %d of the image: %w", p.end-p.start, p.off, err)
		}
	}
	p.start, p.end = 0, 0
	return nil
}

// room returns at least n writable bytes behind the waiting ones.
func (p *pending) room(n int) ([]byte, error) {
	if len(p.buf)-p.end < n {
		if err := p.flush(); err != nil {
			return nil, err
		}
	}
	return p.buf[p.end:], nil
}

// take queues n bytes that lie at position at of the buffer (not below p.end)
// for offset off of the image.
func (p *pending) take(at, n int, off int64) error {
	if p.start == p.end || p.off+int64(p.end-p.start) != off {
		if p.start < p.end {
			if _, err := p.w.WriteAt(p.buf[p.start:p.end], p.off); err != nil {
				return fmt.Errorf("writing %d bytes at offset %d of the image: %w", p.end-p.start, p.off, err)
			}
		}
		p.start, p.end, p.off = at, at+n, off
		return nil
	}
	if at != p.end {
		copy(p.buf[p.end:], p.buf[at:at+n])
	}
	p.end += n
	return nil
}

// write queues a copy of b, which is smaller than the buffer.
func (p *pending) write(b []byte, off int64) error {
	room, err := p.room(len(b))
	if err != nil {
		return err
	}
	copy(room, b)
	return p.take(p.end, len(b), off)
}

var zeroBlock [blockSize]byte

func isZero(b []byte) bool { return bytes.Equal(b, zeroBlock[:len(b)]) }

// allocator hands out the free blocks in order and leaves no gap, so the blocks
// in use are the reserved ones and those below next.
type allocator struct {
	next     int64
	end      int64
	reserved []span // those not yet passed
	free     int64
}

// alloc returns a run of 1 to want blocks, or n = 0 when none is left.
func (a *allocator) alloc(want int64) (start, n int64) {
	for len(a.reserved) > 0 && a.reserved[0].start <= a.next {
		a.next = max(a.next, a.reserved[0].end)
		a.reserved = a.reserved[1:]
	}
	limit := a.end
	if len(a.reserved) > 0 {
		limit = a.reserved[0].start
	}
	start, n = a.next, max(min(want, limit-a.next), 0)
	a.next += n
	a.free -= n
	return start, n
}
