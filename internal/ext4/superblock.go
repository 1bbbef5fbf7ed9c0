package ext4

// Superblock fields and feature bits: "Super Block".
const (
	superOffset = 1024
	superSize   = 1024
	superMagic  = 0xEF53

	compatJournal  = 0x4
	compatExtAttr  = 0x8
	compatResize   = 0x10
	compatDirIndex = 0x20

	incompatFiletype   = 0x2
	incompatRecover    = 0x4
	incompatMetaBG     = 0x10
	incompatExtents    = 0x40
	incompat64bit      = 0x80
	incompatMMP        = 0x100
	incompatFlexBG     = 0x200
	incompatEAInode    = 0x400
	incompatCsumSeed   = 0x2000
	incompatLargeDir   = 0x4000
	incompatInlineData = 0x8000
	incompatEncrypt    = 0x10000
	incompatCasefold   = 0x20000

	roSparseSuper = 0x1
	roLargeFile   = 0x2
	roHugeFile    = 0x8
	roDirNlink    = 0x20
	roExtraIsize  = 0x40
	roBigalloc    = 0x200
	roMetaCsum    = 0x400

	flagSignedHash   = 1
	hashHalfMD4      = 1
	mountXattrACL    = 0x4 | 0x8
	checksumCRC32C   = 1
	errorsContinue   = 1
	stateClean       = 1
	jnlBackupInode   = 1
	defaultReserved  = 5
	writtenIncompat  = incompatFiletype | incompatExtents | incompat64bit | incompatFlexBG
	writtenROCompat  = roSparseSuper | roLargeFile | roHugeFile | roDirNlink | roExtraIsize | roMetaCsum
	writtenCompatAll = compatExtAttr | compatDirIndex
)

// superblock gives the 1024 bytes of the superblock, as the copy of a group.
func (w *Writer) superblock(group int) []byte {
	b := make([]byte, superSize)
	g := w.geo
	put32 := func(at int, v int64) { le.PutUint32(b[at:], uint32(v)) }
	put16 := func(at int, v int) { le.PutUint16(b[at:], uint16(v)) }
	put32(0x00, g.inodes())
	put32(0x04, g.blocks)
	put32(0x08, w.reservedForRoot())
	put32(0x0C, w.alloc.free)
	put32(0x10, g.inodes()-int64(w.nextIno-1))
	put32(0x18, 2) // 1024 << 2 = 4096
	put32(0x1C, 2)
	put32(0x20, blocksPerGroup)
	put32(0x24, blocksPerGroup)
	put32(0x28, int64(g.inodesPerGroup))
	put16(0x36, 0xFFFF) // never force a check
	put16(0x38, superMagic)
	put16(0x3A, stateClean)
	put16(0x3C, errorsContinue)
	put32(0x4C, 1) // dynamic revision
	put32(0x54, firstIno)
	put16(0x58, inodeSize)
	put16(0x5A, group)
	w.superFeatures(b)
	copy(b[0x68:], w.opts.UUID[:])
	copy(b[0x78:0x88], w.opts.Label)
	put16(0xCE, g.reservedDescs)
	copy(b[0xEC:], w.opts.HashSeed[:])
	b[0xFC] = hashHalfMD4
	put16(0xFE, descSize)
	put32(0x100, mountXattrACL)
	put16(0x15C, extraIsize)
	put16(0x15E, extraIsize)
	put32(0x160, flagSignedHash)
	b[0x174] = logFlex
	b[0x175] = checksumCRC32C
	le.PutUint64(b[0x178:], uint64(g.blocks-w.alloc.free)*(blockSize/1024))
	w.superTimes(b)
	w.superJournal(b)
	put32(0x3FC, int64(crc32c(^uint32(0), b[:0x3FC])))
	return b
}

func (w *Writer) superFeatures(b []byte) {
	compat := uint32(writtenCompatAll)
	if w.journal != nil {
		compat |= compatJournal
	}
	if w.geo.reservedDescs > 0 {
		compat |= compatResize
	}
	le.PutUint32(b[0x5C:], compat)
	le.PutUint32(b[0x60:], writtenIncompat)
	le.PutUint32(b[0x64:], writtenROCompat)
}

// superTimes sets the write, check and creation times with their high bytes.
func (w *Writer) superTimes(b []byte) {
	for _, at := range []struct{ lo, hi int }{{0x30, 0x274}, {0x40, 0x277}, {0x108, 0x276}} {
		le.PutUint32(b[at.lo:], uint32(w.opts.Epoch))
		b[at.hi] = byte(w.opts.Epoch >> 32)
	}
}

// superJournal names the journal, keeps a copy of its map, and counts the blocks
// that no file can have.
func (w *Writer) superJournal(b []byte) {
	overhead := w.geo.reservedBlocks()
	if w.journal != nil {
		overhead += w.journal.size / blockSize
		le.PutUint32(b[0xE0:], inoJournal)
		b[0xFD] = jnlBackupInode
		copy(b[0x10C:], w.journal.block[:])
		le.PutUint32(b[0x148:], uint32(w.journal.size>>32))
		le.PutUint32(b[0x14C:], uint32(w.journal.size))
	}
	le.PutUint32(b[0x248:], uint32(overhead))
}

func (w *Writer) reservedForRoot() int64 {
	percent := w.opts.ReservedPercent
	switch {
	case percent == 0:
		percent = defaultReserved
	case percent < 0:
		percent = 0
	}
	return w.geo.blocks * int64(percent) / 100
}
