package ext4

import "fmt"

// What the bytes are that [FS.Unused] and [FS.Slack] go over.
const (
	FreeSpace    = "free space"         // blocks of no file
	FreeInodes   = "unused inodes"      // with what is left of links and attributes
	Journal      = "journal"            // copies of blocks as they once were
	BootBlock    = "boot block"         // in front of the superblock
	FileTail     = "slack"              // of a file's last block
	Preallocated = "preallocated space" // blocks of a file that were never written, or lie behind its end
	DirSlack     = "directory slack"    // names that were removed
)

// spans joins half-open ranges: one grows as long as what comes
// next touches it.
type spans struct {
	from, to int64
	yield    func(from, to int64) error
}

func (s *spans) add(from, to int64) error {
	if from == s.to && s.to > s.from {
		s.to = to
		return nil
	}
	err := s.flush()
	s.from, s.to = from, to
	return err
}

func (s *spans) flush() error {
	if s.from >= s.to {
		return nil
	}
	from, to := s.from, s.to
	s.from, s.to = 0, 0
	return s.yield(from, to)
}

// Unused goes over the bytes of the volume that are neither content of a file
// nor description of one, in order of their place for each kind: free blocks,
// inodes not in use, the journal, and the boot block. off and size are bytes;
// what lies there may never have been written. An error of yield ends it and is
// returned. Memory does not grow with the volume.
func (f *FS) Unused(yield func(kind string, off, size int64) error) error {
	if err := yield(BootBlock, 0, superOffset); err != nil {
		return err
	}
	bytes := func(kind string, unit int64) *spans {
		return &spans{yield: func(from, to int64) error { return yield(kind, from*unit, (to-from)*unit) }}
	}
	blocks, inodes := bytes(FreeSpace, f.blockSize), bytes(FreeInodes, 1)
	for group := range f.groups {
		d, err := f.readDesc(group)
		if err == nil {
			err = f.unusedOf(group, d, blocks, inodes)
		}
		if err != nil {
			return fmt.Errorf("ext4: free space of group %d: %w", group, err)
		}
	}
	for _, s := range []*spans{blocks, inodes} {
		if err := s.flush(); err != nil {
			return err
		}
	}
	return f.journalSpace(yield)
}

func (f *FS) unusedOf(group int64, d *groupDesc, blocks, inodes *spans) error {
	first := f.firstBlock + group*f.blocksPerGroup
	count := min(f.blocksPerGroup, f.blocks-first)
	if d.flags&groupBlockUninit != 0 {
		if err := f.freeOfUninit(group, d, first, count, blocks); err != nil {
			return err
		}
	} else if err := f.clearBits(d.blockBitmap, f.blocksPerGroup, d.blockSum, count, func(from, to int64) error {
		return blocks.add(first+from, first+to)
	}); err != nil {
		return fmt.Errorf("block bitmap at block %d: %w", d.blockBitmap, err)
	}
	table, size := d.inodeTable*f.blockSize, int64(f.inodeSize)
	if d.flags&groupInodeUninit != 0 {
		return inodes.add(table, table+int64(f.inodesPerGroup)*size)
	}
	if err := f.clearBits(d.inodeBitmap, int64(f.inodesPerGroup), d.inodeSum, int64(f.inodesPerGroup), func(from, to int64) error {
		return inodes.add(table+from*size, table+to*size)
	}); err != nil {
		return fmt.Errorf("inode bitmap at block %d: %w", d.inodeBitmap, err)
	}
	return nil
}

// freeOfUninit goes over a group without a bitmap: all is free but what describes
// the file system (ext4_init_block_bitmap of balloc.c).
func (f *FS) freeOfUninit(group int64, d *groupDesc, first, count int64, blocks *spans) error {
	taken := []span{{d.blockBitmap, d.blockBitmap + 1}, {d.inodeBitmap, d.inodeBitmap + 1},
		{d.inodeTable, d.inodeTable + f.tableBlocks()}}
	for at, end := first+min(count, f.superBlocks(group)), first+count; at < end; {
		next := end
		for _, t := range taken {
			if t.start <= at && at < t.end {
				at, next = t.end, 0
				break
			}
			if t.start > at {
				next = min(next, t.start)
			}
		}
		if next == 0 {
			continue
		}
		if err := blocks.add(at, next); err != nil {
			return err
		}
		at = next
	}
	return nil
}

// clearBits goes over the runs of zeros among the first count bits of a bitmap.
func (f *FS) clearBits(block, bits int64, sum uint32, count int64, yield func(from, to int64) error) error {
	b, err := f.readBitmap(block, bits, sum)
	if err != nil {
		return err
	}
	s := spans{yield: yield}
	for i := int64(0); i < count; i++ {
		switch c := b[i/8]; {
		case c == 0xFF:
			i |= 7
		case c>>(i%8)&1 == 0:
			if err := s.add(i, i+1); err != nil {
				return err
			}
		}
	}
	return s.flush()
}

func (f *FS) journalSpace(yield func(kind string, off, size int64) error) error {
	if f.journal == 0 {
		return nil
	}
	in, err := f.readInode(f.journal)
	if err == nil {
		err = in.readable()
	}
	if err != nil {
		return fmt.Errorf("ext4: journal: %w", err)
	}
	m := &extentMap{fs: f, in: in}
	err = m.each(func(e mapped) error { return yield(Journal, e.disk*f.blockSize, int64(e.n)*f.blockSize) })
	if err != nil {
		return fmt.Errorf("ext4: journal: %w", err)
	}
	return nil
}
