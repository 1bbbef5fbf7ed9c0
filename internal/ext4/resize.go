package ext4

// writeResizeInode makes inode 7, which owns the reserved descriptor blocks so
// that the file system can grow: the kernel and resize2fs take them from there.
// Its only pointer is a double-indirect block; each entry of that names a reserved
// block of group 0, which lists its copies in the backup groups. Same as
// ext2fs_create_resize_inode.
func (w *Writer) writeResizeInode() error {
	g := w.geo
	in := w.systemInode(modeRegular | 0o600)
	in.size = (addrsPerBlock*addrsPerBlock + addrsPerBlock + 12) * blockSize
	double := make([]byte, blockSize)
	var backups []int64
	for group := 1; group < g.groups; group++ {
		if hasSuper(group) {
			backups = append(backups, g.groupStart(group))
		}
	}
	for i := range g.reservedDescs {
		slot := (g.descBlocks + i) % addrsPerBlock
		block := int64(1 + g.descBlocks + i)
		le.PutUint32(double[4*slot:], uint32(block))
		list := make([]byte, blockSize)
		for k, start := range backups {
			le.PutUint32(list[4*k:], uint32(start+block))
		}
		if len(backups) > 0 {
			if err := w.out.write(list, block*blockSize); err != nil {
				return err
			}
		}
	}
	at, err := w.writeBlock("resize inode", double)
	if err != nil {
		return err
	}
	in.blocks = 1 + int64(g.reservedDescs)*int64(1+len(backups))
	le.PutUint32(in.block[4*13:], uint32(at))
	return w.patchInode(inoResize, in)
}
