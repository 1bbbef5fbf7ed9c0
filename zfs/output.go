package zfs

import (
	"fmt"
	"io"
)

// output writes to the image in large pieces: a buffer for each copy of
// blocks, because each goes forward by itself.
type output struct {
	w       io.WriterAt
	buffers [maxCopies]outputBuffer
}

type outputBuffer struct {
	data []byte
	at   int64
}

const outputSize = 1 << 20

func newOutput(w io.WriterAt) *output { return &output{w: w} }

// write takes b, which belongs at byte at of the image, for one of the copies.
func (o *output) write(copy int, b []byte, at int64) error {
	buf := &o.buffers[copy]
	// What a block leaves of its last sector stays zero.
	gap := at - buf.at - int64(len(buf.data))
	if len(buf.data) > 0 && (gap < 0 || gap >= sector || len(buf.data)+int(gap)+len(b) > outputSize) {
		if err := o.flushOne(buf); err != nil {
			return err
		}
	}
	if len(b) >= outputSize {
		return o.writeAt(b, at)
	}
	if buf.data == nil {
		buf.data = make([]byte, 0, outputSize)
	}
	if len(buf.data) == 0 {
		buf.at, gap = at, 0
	}
	buf.data = append(buf.data, zeroBlock[:gap]...)
	buf.data = append(buf.data, b...)
	return nil
}

func (o *output) flushOne(buf *outputBuffer) error {
	err := o.writeAt(buf.data, buf.at)
	buf.data = buf.data[:0]
	return err
}

func (o *output) writeAt(b []byte, at int64) error {
	if len(b) == 0 {
		return nil
	}
	if _, err := o.w.WriteAt(b, at); err != nil {
		return fmt.Errorf("writing %d bytes at %d of the image: %w", len(b), at, err)
	}
	return nil
}

// flush writes what is still held.
func (o *output) flush() error {
	for i := range o.buffers {
		if err := o.flushOne(&o.buffers[i]); err != nil {
			return err
		}
	}
	return nil
}
