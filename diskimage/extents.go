package diskimage

import "fmt"

type extent struct{ start, end int64 }

// appendExtent adds an extent behind the others, joining it to the last one.
func appendExtent(all []extent, x extent) []extent {
	if n := len(all); n > 0 && all[n-1].end == x.start {
		all[n-1].end = x.end
		return all
	}
	return append(all, x)
}

// extentSource is something that has extents, in order: a disk its data, for
// example.
type extentSource struct {
	what string // in messages
	// next is for the extents what Disk.NextData is for data.
	next func(off int64) (start, end int64, err error)

	run  extent // the first that ends after where the walk is
	done bool
}

// extentWalk goes over the pieces of [0, size) that extents of any of several
// sources touch, in order and each once. A piece is aligned to its size.
type extentWalk struct {
	size, piece int64
	sources     []extentSource
}

// add adds a source; its index is the number of those before it.
func (w *extentWalk) add(what string, next func(off int64) (start, end int64, err error)) {
	w.sources = append(w.sources, extentSource{what: what, next: next})
}

// nextPiece returns where the first piece begins that each has not been called
// for, ok false when there is none.
func (w *extentWalk) nextPiece() (base int64, ok bool, err error) {
	base = w.size
	for i := range w.sources {
		s := &w.sources[i]
		if !s.done && s.run.end == 0 {
			if err := w.advance(s); err != nil {
				return 0, false, err
			}
		}
		if !s.done {
			base = min(base, s.run.start)
		}
	}
	return base - base%w.piece, base < w.size, nil
}

// each calls found for the parts of source i's extents that lie in the piece at
// base, which nextPiece returned.
func (w *extentWalk) each(i int, base int64, found func(extent)) error {
	s := &w.sources[i]
	stop := min(base+w.piece, w.size)
	for !s.done && s.run.start < stop {
		found(extent{s.run.start, min(s.run.end, stop)})
		if s.run.end > stop {
			s.run.start = stop
			return nil
		}
		if err := w.advance(s); err != nil {
			return err
		}
	}
	return nil
}

// advance finds the source's next extent.
func (w *extentWalk) advance(s *extentSource) error {
	off := s.run.end
	if off >= w.size {
		s.done = true
		return nil
	}
	start, end, err := s.next(off)
	if err != nil {
		return fmt.Errorf("finding %s at offset %#x: %w", s.what, off, err)
	}
	if start >= end || start >= w.size {
		s.done = true
		return nil
	}
	if start < off {
		return fmt.Errorf("finding %s at offset %#x: got %#x, which is before it", s.what, off, start)
	}
	s.run = extent{start, min(end, w.size)}
	return nil
}

// readExtents fills buf, whose first byte is at base, with what d holds in
// extents and zeros elsewhere.
func readExtents(d Disk, buf []byte, base int64, extents []extent) error {
	pos := int64(0)
	for _, x := range extents {
		from, to := x.start-base, x.end-base
		clear(buf[pos:from])
		if err := readFull(d, buf[from:to], x.start); err != nil {
			return fmt.Errorf("reading at offset %#x: %w", x.start, err)
		}
		pos = to
	}
	clear(buf[pos:])
	return nil
}
