package ext4

// Group descriptor flags: "Block Group Descriptors".
const (
	groupInodeUninit = 0x1 // inode bitmap and table hold nothing
	groupBlockUninit = 0x2 // block bitmap follows from the layout
	groupTableZeroed = 0x4 // no lazy initialisation wanted
)

// writeGroups writes the bitmaps, and the descriptors with the superblock to
// group 0 and to each backup group.
func (w *Writer) writeGroups() error {
	g := w.geo
	descs := make([]byte, g.descBlocks*blockSize)
	next := 0 // first of g.reserved that may meet the group
	for group := range g.groups {
		for g.reserved[next].end <= g.groupStart(group) && next < len(g.reserved)-1 {
			next++
		}
		d := descs[group*descSize:][:descSize]
		if err := w.writeBitmaps(group, g.reserved[next:], d); err != nil {
			return err
		}
		sum := crc32c(crc32c32(w.seed, uint32(group)), d)
		le.PutUint16(d[0x1E:], uint16(sum))
	}
	for group := range g.groups {
		if !hasSuper(group) {
			continue
		}
		at := g.groupStart(group) * blockSize
		super := at
		if group == 0 {
			super = superOffset
		}
		if err := w.out.write(w.superblock(group), super); err != nil {
			return err
		}
		for off := 0; off < len(descs); off += blockSize {
			if err := w.out.write(descs[off:off+blockSize], at+int64(blockSize+off)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *Writer) writeBitmaps(group int, reserved []span, d []byte) error {
	g := w.geo
	flags := uint16(groupTableZeroed)
	blocks := make([]byte, blockSize)
	used := w.fillBlockBitmap(group, reserved, blocks)
	var blockSum, inodeSum uint32
	if group > 0 && group < g.groups-1 && used == g.superOverhead(group) {
		flags |= groupBlockUninit
	} else {
		blockSum = crc32c(w.seed, blocks)
		if err := w.out.write(blocks, g.blockBitmap[group]*blockSize); err != nil {
			return err
		}
	}
	usedInodes := min(max(int(w.nextIno)-1-group*g.inodesPerGroup, 0), g.inodesPerGroup)
	if usedInodes == 0 {
		flags |= groupInodeUninit
	} else {
		inodes := make([]byte, blockSize)
		setBits(inodes, 0, usedInodes)
		setBits(inodes, g.inodesPerGroup, 8*blockSize)
		inodeSum = crc32c(w.seed, inodes[:g.inodesPerGroup/8])
		if err := w.out.write(inodes, g.inodeBitmap[group]*blockSize); err != nil {
			return err
		}
	}
	freeInodes := uint32(g.inodesPerGroup - usedInodes)
	putSplit32(d, 0x00, 0x20, uint64(g.blockBitmap[group]))
	putSplit32(d, 0x04, 0x24, uint64(g.inodeBitmap[group]))
	putSplit32(d, 0x08, 0x28, uint64(g.inodeTable[group]))
	putSplit16(d, 0x0C, 0x2C, uint32(g.groupEnd(group)-g.groupStart(group)-used))
	putSplit16(d, 0x0E, 0x2E, freeInodes)
	putSplit16(d, 0x10, 0x30, w.usedDirs[group])
	le.PutUint16(d[0x12:], flags)
	putSplit16(d, 0x18, 0x38, blockSum)
	putSplit16(d, 0x1A, 0x3A, inodeSum)
	putSplit16(d, 0x1C, 0x32, freeInodes)
	return nil
}

// fillBlockBitmap marks the blocks of a group in use and those past the end of
// the image; it counts the former.
func (w *Writer) fillBlockBitmap(group int, reserved []span, bitmap []byte) (used int64) {
	start, end := w.geo.groupStart(group), w.geo.groupEnd(group)
	mark := func(from, to int64) {
		from, to = max(from, start), min(to, end)
		if from < to {
			setBits(bitmap, int(from-start), int(to-start))
			used += to - from
		}
	}
	mark(start, w.alloc.next) // the allocator leaves no gap
	for _, s := range reserved {
		if s.start >= end {
			break
		}
		mark(max(s.start, w.alloc.next), s.end)
	}
	setBits(bitmap, int(end-start), blocksPerGroup)
	return used
}

func setBits(b []byte, from, to int) {
	for from < to && from%8 != 0 {
		b[from/8] |= 1 << (from % 8)
		from++
	}
	for ; from+8 <= to; from += 8 {
		b[from/8] = 0xFF
	}
	for ; from < to; from++ {
		b[from/8] |= 1 << (from % 8)
	}
}

func putSplit32(b []byte, lo, hi int, v uint64) {
	le.PutUint32(b[lo:], uint32(v))
	le.PutUint32(b[hi:], uint32(v>>32))
}

func putSplit16(b []byte, lo, hi int, v uint32) {
	le.PutUint16(b[lo:], uint16(v))
	le.PutUint16(b[hi:], uint16(v>>16))
}
