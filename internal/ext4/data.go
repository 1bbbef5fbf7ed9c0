package ext4

import (
	"errors"
	"fmt"
	"io"
)

// readWindow is the least room asked for when a file is longer than that.
const readWindow = 1 << 20

// storeFile reads a body into the output buffer and keeps the blocks that are not
// all zeros.
func (w *Writer) storeFile(h *Header, in *inode, body io.Reader) error {
	if body == nil {
		if h.Size > 0 {
			return fmt.Errorf("no body for %d bytes", h.Size)
		}
		return w.setExtents(h.Path, w.nextIno, in, nil)
	}
	f := fileBody{w: w, path: h.Path, keepZeros: h.NoHoles, in: in}
	for left := h.Size; left > 0; {
		want := int((min(left, readWindow) + blockSize - 1) &^ (blockSize - 1))
		room, err := w.out.room(want)
		if err != nil {
			return err
		}
		n := int(min(left, int64(len(room)&^(blockSize-1))))
		if got, err := io.ReadFull(body, room[:n]); err != nil {
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				return fmt.Errorf("body ends after %d of %d bytes", h.Size-left+int64(got), h.Size)
			}
			return fmt.Errorf("reading the body at %d: %w", h.Size-left+int64(got), err)
		}
		whole := (n + blockSize - 1) &^ (blockSize - 1)
		clear(room[n:whole])
		if err := f.add(w.out.end, whole/blockSize); err != nil {
			var full *NoSpaceError
			if errors.As(err, &full) {
				full.Needed += ceilDiv(left-int64(n), blockSize)
			}
			return err
		}
		left -= int64(n)
	}
	if err := expectEOF(body); err != nil {
		return fmt.Errorf("reading the body past its %d bytes: %w", h.Size, err)
	}
	return w.setExtents(h.Path, w.nextIno, in, f.list)
}

func expectEOF(body io.Reader) error {
	var b [1]byte
	for range 100 { // as bufio.Reader does with readers that give nothing
		n, err := body.Read(b[:])
		if n > 0 {
			return errors.New("more data")
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// fileBody places the blocks of one file.
type fileBody struct {
	w         *Writer
	path      string
	keepZeros bool
	in        *inode
	next      int64 // logical block
	list      []extent
}

// add takes n blocks that lie at position at of the output buffer.
func (f *fileBody) add(at, n int) error {
	buf := f.w.out.buf
	zero := func(i int) bool { return !f.keepZeros && isZero(buf[at+i*blockSize:][:blockSize]) }
	for i := 0; i < n; {
		if zero(i) {
			i++
			continue
		}
		run := i + 1
		for run < n && !zero(run) {
			run++
		}
		if err := f.place(at+i*blockSize, int64(run-i), f.next+int64(i)); err != nil {
			return err
		}
		i = run + 1 // the block at run, if any, is zero
	}
	f.next += int64(n)
	return nil
}

func (f *fileBody) place(at int, n, logical int64) error {
	for n > 0 {
		disk, got := f.w.alloc.alloc(n)
		if got == 0 {
			return f.w.noBlocks(f.path, n)
		}
		if err := f.w.out.take(at, int(got)*blockSize, disk*blockSize); err != nil {
			return err
		}
		f.list = appendExtent(f.list, uint32(logical), disk, got)
		f.in.blocks += got
		at, n, logical = at+int(got)*blockSize, n-got, logical+got
	}
	return nil
}
