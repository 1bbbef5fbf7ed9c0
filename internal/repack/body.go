package repack

import (
	"bytes"
	"context"
	"io"
	"sync"
	"time"
)

const (
	smallFile = 128 << 10 // is read at once
	piece     = 256 << 10 // of larger ones
	pieces    = 2         // of a file that wait to be written
)

// zeroTime stands for the epoch of the new file system.
var zeroTime time.Time

// chunk is a part of a file: data, a hole, or an error.
type chunk struct {
	data []byte
	hole int64
	err  error
}

// body is a file's content that a goroutine reads ahead. It is a HoleReader of
// package zfs.
type body struct {
	ctx    context.Context
	chunks <-chan chunk
	now    chunk
	buf    []byte // backs now.data
}

var buffers = sync.Pool{New: func() any { return new([piece]byte) }}

// readAhead begins to read a file. The goroutine ends with ctx or the file.
func readAhead(ctx context.Context, content sparse, size int64) (io.Reader, error) {
	if size <= smallFile {
		b := make([]byte, size)
		if n, err := content.ReadAt(b, 0); n < len(b) {
			return nil, unexpected(err)
		}
		return bytes.NewReader(b), nil
	}
	chunks := make(chan chunk, pieces)
	go func() {
		defer close(chunks)
		send := func(c chunk) bool {
			select {
			case chunks <- c:
				return c.err == nil
			case <-ctx.Done():
				return false
			}
		}
		readPieces(content, size, send)
	}()
	return &body{ctx: ctx, chunks: chunks}, nil
}

// readPieces sends a file's data and holes in order.
func readPieces(content sparse, size int64, send func(chunk) bool) {
	for off := int64(0); off < size; {
		start, end, err := content.NextData(off)
		if err != nil {
			send(chunk{err: err})
			return
		}
		start, end = min(max(start, off), size), min(end, size)
		if start > off && !send(chunk{hole: start - off}) {
			return
		}
		for off = start; off < end; {
			b := buffers.Get().(*[piece]byte)[:min(piece, end-off)]
			if n, err := content.ReadAt(b, off); n < len(b) {
				send(chunk{err: unexpected(err)})
				return
			}
			if !send(chunk{data: b}) {
				return
			}
			off += int64(len(b))
		}
	}
}

// unexpected is the error of a read that gave too little.
func unexpected(err error) error {
	if err == nil || err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// next waits for a chunk when nothing is left of the last.
func (b *body) next() error {
	for len(b.now.data) == 0 && b.now.hole == 0 && b.now.err == nil {
		if b.buf != nil {
			buffers.Put((*[piece]byte)(b.buf[:piece]))
			b.buf = nil
		}
		c, ok := <-b.chunks
		switch {
		case ok:
		case b.ctx.Err() != nil: // the end may not be the file's
			c.err = context.Cause(b.ctx)
		default:
			c.err = io.EOF
		}
		b.now = c
		b.buf = c.data
	}
	return b.now.err
}

func (b *body) Read(p []byte) (n int, err error) {
	if err := b.next(); err != nil {
		return 0, err
	}
	if b.now.hole > 0 {
		n = int(min(b.now.hole, int64(len(p))))
		clear(p[:n])
		b.now.hole -= int64(n)
		return n, nil
	}
	n = copy(p, b.now.data)
	b.now.data = b.now.data[n:]
	return n, nil
}

// SkipHole passes over a hole.
func (b *body) SkipHole() (int64, error) {
	if err := b.next(); err != nil && err != io.EOF {
		return 0, err
	}
	n := b.now.hole
	b.now.hole = 0
	return n, nil
}
