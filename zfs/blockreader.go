package zfs

import "io"

// HoleReader is what a body may implement when it knows of holes. SkipHole
// passes over the hole that begins at the next byte and tells its length; 0
// when there is data.
type HoleReader interface {
	io.Reader
	SkipHole() (int64, error)
}

// blockReader reads a body block by block.
type blockReader struct {
	r    io.Reader
	hole HoleReader // nil when r knows of none
	zero int64      // bytes of a hole not handed out yet
}

func newBlockReader(r io.Reader) *blockReader {
	b := &blockReader{r: r}
	b.hole, _ = r.(HoleReader)
	return b
}

// look finds out about a hole at the next byte.
func (b *blockReader) look() (err error) {
	if b.hole != nil && b.zero == 0 {
		b.zero, err = b.hole.SkipHole()
	}
	return err
}

// holes tells how many whole blocks from here are a hole, and passes over
// them. left bytes of the body remain.
func (b *blockReader) holes(blockSize, left int64) (n int64, err error) {
	if err := b.look(); err != nil {
		return 0, err
	}
	if b.zero >= left {
		b.zero = 0
		return (left + blockSize - 1) / blockSize, nil
	}
	n = b.zero / blockSize
	b.zero -= n * blockSize
	return n, nil
}

// fill reads exactly p, or tells how much of it there was.
func (b *blockReader) fill(p []byte) (n int, err error) {
	if b.hole == nil {
		if b.r == nil {
			return 0, io.EOF
		}
		return io.ReadFull(b.r, p)
	}
	for n < len(p) {
		if err := b.look(); err != nil {
			return n, err
		}
		if b.zero > 0 {
			zeros := min(b.zero, int64(len(p)-n))
			clear(p[n : n+int(zeros)])
			n, b.zero = n+int(zeros), b.zero-zeros
			continue
		}
		got, err := b.r.Read(p[n:])
		if n += got; err != nil && n < len(p) {
			return n, err
		}
	}
	return n, nil
}
