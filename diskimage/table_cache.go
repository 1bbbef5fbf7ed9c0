package diskimage

import "sync"

// tableCache holds the tables (L2, grain, refcounts, BAT) used last, some 4 MiB
// of them.
type tableCache struct {
	mu    sync.Mutex
	size  int64
	limit int
	byOff map[int64][]byte
	order []int64 // oldest first
}

// init makes it one of several caches of tables of the given size in bytes, that
// hold 4 MiB together.
func (c *tableCache) init(size int64, caches int) {
	c.size = size
	c.limit = int(max(2, 4<<20/size/int64(caches)))
	c.byOff = map[int64][]byte{}
}

// get returns the table at off, which it fills with read at need. The result
// is shared and not to be changed.
func (c *tableCache) get(off int64, read func([]byte) error) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b, ok := c.byOff[off]; ok {
		return b, nil
	}
	b := make([]byte, c.size)
	if err := read(b); err != nil {
		return nil, err
	}
	if len(c.order) == c.limit {
		delete(c.byOff, c.order[0])
		c.order = append(c.order[:0], c.order[1:]...)
	}
	c.byOff[off] = b
	c.order = append(c.order, off)
	return b, nil
}
