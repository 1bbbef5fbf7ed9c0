package repack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/kldload/kldload/internal/tree"
	"github.com/kldload/kldload/internal/volume"
)

// A swap area's header takes its first page (union swap_header, linux/swap.h).
const (
	swapPage   = 4096
	swapInfo   = 1024 // version, last page, bad pages, UUID, label
	swapBad    = swapInfo + 8
	swapEnd    = swapInfo + 12 + 16 + 16
	swapMagic  = "SWAPSPACE2"
	swapMagics = swapPage - len(swapMagic)
	minSwap    = 10 * swapPage // mkswap(8)
)

// freshSwap gives the header of an area that nothing was swapped to, with the
// size, UUID and label of an old one; nil where the page is none.
func freshSwap(page []byte) ([]byte, error) {
	if string(page[swapMagics:swapPage]) != swapMagic {
		return nil, nil
	}
	le := binary.LittleEndian
	if v := le.Uint32(page[swapInfo:]); v != 1 {
		return nil, fmt.Errorf("swap area of version %d: want 1", v)
	}
	if n := le.Uint32(page[swapBad:]); n != 0 {
		return nil, fmt.Errorf("swap area with %d bad pages: want none\nhint: make it anew in the running machine: mkswap", n)
	}
	fresh := make([]byte, swapPage)
	copy(fresh[swapInfo:swapEnd], page[swapInfo:swapEnd])
	copy(fresh[swapMagics:], swapMagic)
	return fresh, nil
}

func (j *job) writeSwap(v *volume.Volume) error {
	page := make([]byte, swapPage)
	if _, err := v.Reader.ReadAt(page, 0); err != nil {
		return err
	}
	fresh, err := freshSwap(page)
	if err == nil && fresh == nil {
		err = errors.New("the swap area's header is gone")
	}
	if err != nil {
		return err
	}
	_, err = j.section(v).WriteAt(fresh, 0)
	return err
}

// freshSwapFile gives the content of a swap file without what was swapped out;
// nil where the file is none.
func freshSwapFile(e *tree.Entry, content sparse) (sparse, error) {
	if e.Size < minSwap || e.Mode&(unix.S_IRWXG|unix.S_IRWXO) != 0 {
		return nil, nil
	}
	page := make([]byte, swapPage)
	if _, err := content.ReadAt(page, 0); err != nil {
		return nil, err
	}
	fresh, err := freshSwap(page)
	if fresh == nil || err != nil {
		return nil, err
	}
	return header{fresh, e.Size}, nil
}

// header is a file of zeros but for its first bytes.
type header struct {
	first []byte
	size  int64
}

func (h header) ReadAt(p []byte, off int64) (int, error) {
	if off >= h.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), h.size-off))
	clear(p[:n])
	if off < int64(len(h.first)) {
		copy(p[:n], h.first[off:])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (h header) NextData(off int64) (start, end int64, err error) {
	if off < int64(len(h.first)) {
		return off, int64(len(h.first)), nil
	}
	return h.size, h.size, nil
}
