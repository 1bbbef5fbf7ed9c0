package ext4

// Extent tree constants: "Extent Tree" in the kernel's ext4 documentation.
const (
	extentMagic     = 0xF30A
	extentEntrySize = 12
	maxExtentBlocks = 32768 // longer means unwritten
	rootExtents     = 4     // in the 60 bytes of i_block
	blockExtents    = (blockSize - extentEntrySize - 4) / extentEntrySize
)

// extent maps n blocks of a file from logical block file to block disk.
type extent struct {
	file uint32
	n    uint32
	disk int64
}

// appendExtent adds a run of any length; file positions ascend.
func appendExtent(list []extent, file uint32, disk, n int64) []extent {
	for n > 0 {
		if k := len(list) - 1; k >= 0 {
			last := &list[k]
			if last.file+last.n == file && last.disk+int64(last.n) == disk && last.n < maxExtentBlocks {
				add := min(n, int64(maxExtentBlocks-last.n))
				last.n += uint32(add)
				file, disk, n = file+uint32(add), disk+add, n-add
				continue
			}
		}
		add := min(n, maxExtentBlocks)
		list = append(list, extent{file, uint32(add), disk})
		file, disk, n = file+uint32(add), disk+add, n-add
	}
	return list
}

func putExtentHeader(b []byte, entries, limit, depth int) {
	le.PutUint16(b[0:], extentMagic)
	le.PutUint16(b[2:], uint16(entries))
	le.PutUint16(b[4:], uint16(limit))
	le.PutUint16(b[6:], uint16(depth))
}

func putExtent(b []byte, e extent, depth int) {
	le.PutUint32(b[0:], e.file)
	if depth > 0 { // index entry: disk is the block of the node below
		le.PutUint32(b[4:], uint32(e.disk))
		le.PutUint16(b[8:], uint16(e.disk>>32))
		return
	}
	le.PutUint16(b[4:], uint16(e.n))
	le.PutUint16(b[6:], uint16(e.disk>>32))
	le.PutUint32(b[8:], uint32(e.disk))
}

// setExtents stores the map of a file in its inode, with tree blocks when four
// entries are not enough, and counts those blocks as the file's.
func (w *Writer) setExtents(path string, ino uint32, in *inode, list []extent) error {
	depth := 0
	for ; len(list) > rootExtents; depth++ {
		var above []extent
		for len(list) > 0 {
			n := min(len(list), blockExtents)
			disk, err := w.writeExtentBlock(path, ino, list[:n], depth)
			if err != nil {
				return err
			}
			in.blocks++
			above = append(above, extent{file: list[0].file, disk: disk})
			list = list[n:]
		}
		list = above
	}
	in.flags |= flagExtents
	putExtentHeader(in.block[:], len(list), rootExtents, depth)
	for i, e := range list {
		putExtent(in.block[extentEntrySize*(i+1):], e, depth)
	}
	return nil
}

func (w *Writer) writeExtentBlock(path string, ino uint32, list []extent, depth int) (int64, error) {
	b := make([]byte, blockSize)
	putExtentHeader(b, len(list), blockExtents, depth)
	for i, e := range list {
		putExtent(b[extentEntrySize*(i+1):], e, depth)
	}
	const tail = extentEntrySize * (blockExtents + 1)
	le.PutUint32(b[tail:], crc32c(inodeSeed(w.seed, ino, 0), b[:tail]))
	return w.writeBlock(path, b)
}
