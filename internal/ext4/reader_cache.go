package ext4

// Inodes are read in pieces of 64 KiB, of which the latest are kept: where a disk
// image is compressed, each read of 256 bytes would unpack as much.
const (
	pieceSize  = 64 << 10
	piecesKept = 64
)

// pieceCache keeps pieces of inode tables by their place, the oldest to go first.
type pieceCache struct {
	pieces map[int64][]byte
	order  []int64
}

// readTable is readAt for the inode tables.
func (f *FS) readTable(b []byte, off int64) error {
	start := off / pieceSize * pieceSize
	end := min(start+pieceSize, f.Size())
	if off < 0 || off > end-int64(len(b)) {
		return f.readAt(b, off)
	}
	f.mu.Lock()
	piece := f.inodePieces.pieces[start]
	f.mu.Unlock()
	if piece == nil {
		piece = make([]byte, end-start)
		if err := f.readAt(piece, start); err != nil {
			return f.readAt(b, off)
		}
		f.mu.Lock()
		f.inodePieces.put(start, piece)
		f.mu.Unlock()
	}
	copy(b, piece[off-start:])
	return nil
}

func (c *pieceCache) put(at int64, piece []byte) {
	if c.pieces == nil {
		c.pieces = map[int64][]byte{}
	}
	if c.pieces[at] != nil {
		return
	}
	if len(c.order) == piecesKept {
		delete(c.pieces, c.order[0])
		c.order = c.order[1:]
	}
	c.pieces[at] = piece
	c.order = append(c.order, at)
}
