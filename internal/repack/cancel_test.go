package repack

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/kldload/kldload/diskimage"
	"github.com/kldload/kldload/internal/ui"
)

// stopping is a target that ends the context after some writes.
type stopping struct {
	*os.File
	left int
	stop func()
}

func (s *stopping) WriteAt(p []byte, off int64) (int, error) {
	if s.left--; s.left == 0 {
		s.stop()
	}
	return s.File.WriteAt(p, off)
}

// An interrupt ends a re-pack wherever it is, and its goroutines.
func TestInterrupted(t *testing.T) {
	src, err := os.Open(zfsDisk(t, sets...))
	if err != nil {
		t.Fatal(err)
	}
	disk, err := diskimage.OpenRaw(src)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	for _, writes := range []int{1, 5, 9, 30} {
		out, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		started := time.Now()
		_, err = Disk(ctx, disk, &stopping{out, writes, cancel}, Options{UI: ui.New(io.Discard, ui.Plain)})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("interrupted at write %d: %v", writes, err)
		}
		if took := time.Since(started); took > 20*time.Second {
			t.Errorf("it took %v to end", took)
		}
		out.Close()
	}
}

// broken is content that ends with an error.
type broken struct{ size int64 }

func (b broken) ReadAt(p []byte, off int64) (int, error) {
	if off > b.size/2 {
		return 0, errors.New("a bad block")
	}
	return len(p), nil
}

func (b broken) NextData(off int64) (start, end int64, err error) {
	if off < 4096 {
		return 4096, b.size, nil
	}
	return off, b.size, nil
}

func TestReadAhead(t *testing.T) {
	b, err := readAhead(context.Background(), broken{4 * mib}, 4*mib)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := b.(*body).SkipHole(); n != 4096 || err != nil {
		t.Errorf("the hole at the start: %d, %v; want 4096", n, err)
	}
	n, err := io.Copy(io.Discard, b)
	if err == nil || !strings.Contains(err.Error(), "a bad block") || n < 2*mib-4096 {
		t.Errorf("%d bytes, then %v: want half of the file, then the error", n, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if b, err = readAhead(ctx, broken{mib}, mib); err == nil {
		_, err = io.Copy(io.Discard, b)
	}
	if err == nil {
		t.Error("a body that was given up ends like a whole one")
	}
}

func FuzzFreshSwap(f *testing.F) {
	page := make([]byte, swapPage)
	copy(page[swapMagics:], swapMagic)
	page[swapInfo] = 1
	f.Add(page)
	f.Fuzz(func(t *testing.T, b []byte) {
		page := make([]byte, swapPage)
		copy(page, b)
		fresh, err := freshSwap(page)
		if fresh == nil || err != nil {
			return
		}
		if bytes.ContainsFunc(fresh[swapEnd:swapMagics], func(r rune) bool { return r != 0 }) {
			t.Error("the fresh header has more than what tells the area")
		}
	})
}
