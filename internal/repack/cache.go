package repack

import (
	"container/list"
	"io"
	"sync"
)

const (
	page     = 64 << 10 // what most formats compress at once
	maxPages = 384      // 24 MiB
)

// cachedDisk keeps what was read of a disk last: in a compressed image the
// smallest read costs a whole cluster, and the inodes of a folder lie in one.
// Safe for concurrent use when r is.
type cachedDisk struct {
	r    io.ReaderAt
	size int64

	mu    sync.Mutex
	pages map[int64]*list.Element // of keptPage, by number
	order list.List               // the latest first
}

type keptPage struct {
	number int64
	data   []byte
}

func newCachedDisk(r io.ReaderAt, size int64) *cachedDisk {
	return &cachedDisk{r: r, size: size, pages: map[int64]*list.Element{}}
}

func (c *cachedDisk) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		at := off + int64(n)
		if at >= c.size {
			return n, io.EOF
		}
		if whole := (len(p) - n) / page * page; at%page == 0 && whole > 0 && at+int64(whole) <= c.size {
			got, err := c.r.ReadAt(p[n:n+whole], at) // nothing of it is read again soon
			if n += got; got < whole {
				return n, unexpected(err)
			}
			continue
		}
		b, err := c.page(at / page)
		if err != nil {
			return n, err
		}
		n += copy(p[n:], b[at%page:])
	}
	return n, nil
}

// page gives a page, from the cache or into it.
func (c *cachedDisk) page(number int64) ([]byte, error) {
	c.mu.Lock()
	if e := c.pages[number]; e != nil {
		c.order.MoveToFront(e)
		c.mu.Unlock()
		return e.Value.(keptPage).data, nil
	}
	c.mu.Unlock()
	b := make([]byte, min(page, c.size-number*page))
	if n, err := c.r.ReadAt(b, number*page); n < len(b) {
		return nil, unexpected(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pages[number] == nil {
		c.pages[number] = c.order.PushFront(keptPage{number, b})
	}
	for c.order.Len() > maxPages {
		old := c.order.Remove(c.order.Back()).(keptPage)
		delete(c.pages, old.number)
	}
	return b, nil
}
