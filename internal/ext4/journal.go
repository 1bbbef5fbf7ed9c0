package ext4

import (
	"encoding/binary"
	"fmt"
)

// Journal superblock: "Journal (jbd2)", all big-endian.
const (
	journalMagic   = 0xC03B3998
	journalSuperV2 = 4
	minJournal     = 1024 // blocks; JBD2_MIN_JOURNAL_BLOCKS
	maxJournal     = 1 << 18 * 10
)

// defaultJournal is ext2fs_default_journal_size of e2fsprogs 1.47, in blocks.
func defaultJournal(blocks int64) int64 {
	steps := []struct{ below, journal int64 }{
		{2048, 0}, {32768, 1024}, {256 << 10, 4096}, {512 << 10, 8192}, {4096 << 10, 16384},
		{8192 << 10, 32768}, {16384 << 10, 65536}, {32768 << 10, 131072},
	}
	for _, s := range steps {
		if blocks < s.below {
			return s.journal
		}
	}
	return 262144
}

func (o *Options) journalBlocks(blocks int64) (int64, error) {
	switch n := o.JournalBlocks; {
	case n == 0:
		return defaultJournal(blocks), nil
	case n < 0:
		return 0, nil
	case n < minJournal || n > maxJournal || n > blocks/2:
		return 0, fmt.Errorf("ext4: journal of %d blocks: want %d to %d, and at most half of the image",
			n, minJournal, min(maxJournal, blocks/2))
	default:
		return n, nil
	}
}

// writeJournal makes an empty journal: a superblock and blocks never written.
func (w *Writer) writeJournal(n int64) error {
	in := w.systemInode(modeRegular | 0o600)
	in.size = n * blockSize
	var list []extent
	for done := int64(0); done < n; {
		start, got := w.alloc.alloc(n - done)
		if got == 0 {
			return w.noBlocks("journal", n-done)
		}
		list = appendExtent(list, uint32(done), start, got)
		done += got
	}
	in.blocks = n
	be := binary.BigEndian
	b := make([]byte, blockSize)
	be.PutUint32(b[0x00:], journalMagic)
	be.PutUint32(b[0x04:], journalSuperV2)
	be.PutUint32(b[0x0C:], blockSize)
	be.PutUint32(b[0x10:], uint32(n))
	be.PutUint32(b[0x14:], 1) // first block of log
	be.PutUint32(b[0x18:], 1) // first sequence
	be.PutUint32(b[0x40:], 1) // users
	copy(b[0x30:], w.opts.UUID[:])
	if err := w.out.write(b, list[0].disk*blockSize); err != nil {
		return err
	}
	if err := w.setExtents("journal", inoJournal, in, list); err != nil {
		return err
	}
	w.journal = in
	return w.patchInode(inoJournal, in)
}
