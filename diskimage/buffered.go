package diskimage

import "fmt"

// writeBuffer is how much is gathered before it is written.
const writeBuffer = 1 << 20

// bufferedTarget gathers small writes that follow one another. Bytes are in
// the target only after flush.
type bufferedTarget struct {
	t   Target
	buf []byte
	off int64 // of buf in the target
}

// write writes p at off.
func (b *bufferedTarget) write(p []byte, off int64) error {
	if off != b.off+int64(len(b.buf)) || len(b.buf)+len(p) > writeBuffer {
		if err := b.flush(); err != nil {
			return err
		}
		b.off = off
	}
	if len(p) >= writeBuffer/4 && len(b.buf) == 0 {
		b.off = off + int64(len(p))
		return b.put(p, off)
	}
	if b.buf == nil {
		b.buf = make([]byte, 0, writeBuffer)
	}
	b.buf = append(b.buf, p...)
	return nil
}

func (b *bufferedTarget) flush() error {
	p, off := b.buf, b.off
	b.buf, b.off = b.buf[:0], off+int64(len(p))
	if len(p) == 0 {
		return nil
	}
	return b.put(p, off)
}

func (b *bufferedTarget) put(p []byte, off int64) error {
	if _, err := b.t.WriteAt(p, off); err != nil {
		return fmt.Errorf("writing %d bytes at offset %#x: %w", len(p), off, err)
	}
	return nil
}
