package repack

import (
	"bytes"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"testing"
)

// counting counts the reads of a disk.
type counting struct {
	*bytes.Reader
	reads atomic.Int64
}

func (c *counting) ReadAt(p []byte, off int64) (int, error) {
	c.reads.Add(1)
	return c.Reader.ReadAt(p, off)
}

func TestCachedDisk(t *testing.T) {
	content := make([]byte, 40*mib+12345)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range content {
		content[i] = byte(r.Uint32())
	}
	under := &counting{Reader: bytes.NewReader(content)}
	c := newCachedDisk(under, int64(len(content)))
	for range 3000 {
		off := r.Int64N(int64(len(content)))
		b := make([]byte, r.IntN(3*page))
		n, err := c.ReadAt(b, off)
		want := content[off:min(off+int64(len(b)), int64(len(content)))]
		if !bytes.Equal(b[:n], want) || (n < len(b)) != (err == io.EOF) {
			t.Fatalf("%d bytes at %d: %d, %v: want %d", len(b), off, n, err, len(want))
		}
	}
	if len(c.pages) > maxPages || c.order.Len() != len(c.pages) {
		t.Errorf("%d pages in a list of %d: want at most %d", len(c.pages), c.order.Len(), maxPages)
	}
	before := under.reads.Load()
	for i := range int64(256) { // inodes of a table
		if _, err := c.ReadAt(make([]byte, 256), 5*page+256*i); err != nil {
			t.Fatal(err)
		}
	}
	if n := under.reads.Load() - before; n > 1 {
		t.Errorf("the inodes of one page cost %d reads of the disk: want one", n)
	}
}
