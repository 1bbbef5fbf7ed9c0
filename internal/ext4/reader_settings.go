package ext4

import "fmt"

// Settings are what a file system was made with, in the words of Options.
type Settings struct {
	HashSeed [16]byte
	Epoch    int64 // of its creation, in seconds
	Inodes   int64
	// JournalBlocks of 4096 bytes; negative without a journal of its own.
	JournalBlocks   int64
	ReservedPercent int // negative for none
}

// Settings of the file system, for a new one like it.
func (f *FS) Settings() (Settings, error) {
	b := make([]byte, superSize)
	if err := f.readAt(b, superOffset); err != nil {
		return Settings{}, fmt.Errorf("ext4: reading the superblock: %w", err)
	}
	s := Settings{Inodes: int64(f.inodes), JournalBlocks: -1, ReservedPercent: -1}
	copy(s.HashSeed[:], b[0xEC:])
	s.Epoch = int64(le.Uint32(b[0x108:])) | int64(b[0x276])<<32
	reserved := uint64(le.Uint32(b[0x08:]))
	if f.incompat&incompat64bit != 0 {
		reserved |= uint64(le.Uint32(b[0x154:])) << 32
	}
	if percent := (min(reserved, uint64(f.blocks))*100 + uint64(f.blocks)/2) / uint64(f.blocks); percent > 0 {
		s.ReservedPercent = int(min(percent, 50))
	}
	ino := le.Uint32(b[0xE0:])
	if le.Uint32(b[0x5C:])&compatJournal == 0 || ino == 0 {
		return s, nil
	}
	journal, err := f.readInode(ino)
	if err != nil {
		return s, fmt.Errorf("ext4: the journal: %w", err)
	}
	s.JournalBlocks = min(max(journal.Size/blockSize, minJournal), maxJournal)
	return s, nil
}

// NextData finds the data at off or behind: it goes from start to end. What is
// stored nowhere is a hole, and reads as zeros. Without data behind off both
// are the file's size.
func (f *File) NextData(off int64) (start, end int64, err error) {
	m := f.body.m
	size, bs := m.in.Size, m.fs.blockSize
	for off < size {
		disk, n, err := m.find(off / bs)
		if err != nil {
			return 0, 0, fmt.Errorf("%q: inode %d: %w", f.body.name, m.in.Ino, err)
		}
		next := min((off/bs+n)*bs, size)
		if disk != 0 {
			return off, next, nil
		}
		off = next
	}
	return size, size, nil
}
