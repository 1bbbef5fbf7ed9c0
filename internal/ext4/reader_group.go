package ext4

import "fmt"

// groupDesc is a group descriptor as read ("Block Group Descriptors").
type groupDesc struct {
	blockBitmap, inodeBitmap, inodeTable int64
	blockSum, inodeSum                   uint32 // of the bitmaps; 16 bits in short descriptors
	flags                                uint16
}

// inodeTable gives the first block of a group's inode table.
func (f *FS) inodeTable(group int64) (int64, error) {
	f.mu.Lock()
	table, ok := f.tables[group]
	f.mu.Unlock()
	if ok {
		return table, nil
	}
	d, err := f.readDesc(group)
	if err != nil {
		return 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tables[group] = d.inodeTable
	return d.inodeTable, nil
}

// readDesc reads the descriptor of a group. That its inode table lies inside is
// verified, of the bitmaps readBitmap does.
func (f *FS) readDesc(group int64) (*groupDesc, error) {
	b := make([]byte, f.descSize)
	at := f.descOffset(group)
	if err := f.readAt(b, at); err != nil {
		return nil, fmt.Errorf("descriptor of group %d: %w", group, err)
	}
	d := &groupDesc{
		blockBitmap: int64(le.Uint32(b)), inodeBitmap: int64(le.Uint32(b[0x04:])), inodeTable: int64(le.Uint32(b[0x08:])),
		flags: le.Uint16(b[0x12:]), blockSum: uint32(le.Uint16(b[0x18:])), inodeSum: uint32(le.Uint16(b[0x1A:])),
	}
	if f.descSize >= 64 {
		d.blockBitmap |= int64(le.Uint32(b[0x20:])) << 32
		d.inodeBitmap |= int64(le.Uint32(b[0x24:])) << 32
		d.inodeTable |= int64(le.Uint32(b[0x28:])) << 32
		d.blockSum |= uint32(le.Uint16(b[0x38:])) << 16
		d.inodeSum |= uint32(le.Uint16(b[0x3A:])) << 16
	}
	if f.checksums {
		want := le.Uint16(b[0x1E:])
		b[0x1E], b[0x1F] = 0, 0
		if got := uint16(crc32c(crc32c32(f.seed, uint32(group)), b)); got != want {
			return nil, fmt.Errorf("descriptor of group %d at %d: checksum is %#x, computed %#x", group, at, want, got)
		}
	}
	if d.inodeTable <= f.firstBlock || d.inodeTable > f.blocks-f.tableBlocks() {
		return nil, fmt.Errorf("descriptor of group %d at %d: inode table at block %d of %d", group, at, d.inodeTable, f.blocks)
	}
	return d, nil
}

// tableBlocks is the blocks of the inode table of a group.
func (f *FS) tableBlocks() int64 {
	return ceilDiv(int64(f.inodesPerGroup)*int64(f.inodeSize), f.blockSize)
}

// readBitmap reads a bitmap of so many bits, and holds it against its sum.
func (f *FS) readBitmap(block, bits int64, want uint32) ([]byte, error) {
	b, err := f.readBlock(block)
	if err != nil {
		return nil, err
	}
	b = b[:ceilDiv(bits, 8)]
	if !f.checksums {
		return b, nil
	}
	got := crc32c(f.seed, b[:bits/8])
	if f.descSize < 64 {
		got &= 0xFFFF
	}
	return b, sameChecksum(want, got)
}

// superBlocks counts the blocks at the start of a group that hold a copy of the
// superblock and what belongs to it.
func (f *FS) superBlocks(group int64) int64 {
	if f.sparseSuper && !hasSuper(int(group)) {
		return 0
	}
	perBlock := f.blockSize / f.descSize
	descs := ceilDiv(f.groups, perBlock)
	if f.incompat&incompatMetaBG != 0 {
		descs = min(descs, f.firstMetaBG)
	}
	return 1 + descs + f.reservedGDT
}
