package ext4

import (
	"fmt"
	"slices"
)

// Fixed by this writer; mke2fs picks the same for anything above 512 MiB.
const (
	blockSize      = 4096
	blocksPerGroup = 8 * blockSize // one bitmap block covers a group
	inodeSize      = 256
	inodesPerBlock = blockSize / inodeSize
	descSize       = 64 // group descriptor with the 64bit feature
	descsPerBlock  = blockSize / descSize
	addrsPerBlock  = blockSize / 4
	logFlex        = 4 // 16 groups keep their metadata together
	flexGroups     = 1 << logFlex

	// mke2fs gives up a last group that has not this many blocks left for data.
	minGroupData = 50
)

// span is a half-open range of blocks.
type span struct{ start, end int64 }

// geometry is where the metadata of a file system lies; it depends on the size
// and the inode ratio alone.
type geometry struct {
	blocks         int64
	groups         int
	inodesPerGroup int
	tableBlocks    int // inode table of one group
	descBlocks     int // group descriptors
	reservedDescs  int // blocks kept for descriptors of a grown file system

	blockBitmap []int64 // by group
	inodeBitmap []int64
	inodeTable  []int64
	reserved    []span // sorted, disjoint: all blocks of the above and the backups
}

func newGeometry(size, inodeRatio, inodes int64) (*geometry, error) {
	g := &geometry{blocks: size / blockSize}
	if g.blocks <= 0 {
		return nil, fmt.Errorf("ext4: size of %d bytes is too small for an ext4 file system", size)
	}
	if g.blocks > 1<<32-1 {
		// resize_inode holds 32-bit block numbers.
		return nil, fmt.Errorf("ext4: size %s is above the limit of 16 TiB", formatSize(size))
	}
	if inodeRatio < 1024 || inodeRatio > 1<<26 {
		return nil, fmt.Errorf("ext4: inode ratio %d is not within 1024 and %d bytes", inodeRatio, 1<<26)
	}
	if inodes < 0 || inodes > 1<<32-1 || inodes > size/1024 {
		return nil, fmt.Errorf("ext4: %d inodes: want at most 2^32-1, and one for each 1024 bytes", inodes)
	}
	if inodes == 0 {
		inodes = size / inodeRatio
	}
	for {
		g.count(inodes)
		rem := g.blocks % blocksPerGroup
		if rem == 0 || rem >= g.ownOverhead(g.groups-1)+minGroupData {
			break
		}
		if g.blocks -= rem; g.blocks == 0 {
			return nil, fmt.Errorf("ext4: size %s is too small for an ext4 file system", formatSize(size))
		}
	}
	if int64(g.groups)*int64(g.inodesPerGroup) > 1<<32-1 {
		return nil, fmt.Errorf("ext4: inode ratio %d gives more than 2^32 inodes", inodeRatio)
	}
	g.place()
	return g, nil
}

// count derives the numbers from g.blocks. The reserved descriptor blocks allow
// growing 1024 times, as calc_reserved_gdt_blocks of e2fsprogs does.
func (g *geometry) count(inodes int64) {
	g.groups = int(ceilDiv(g.blocks, blocksPerGroup))
	perGroup := min(ceilDiv(inodes, int64(g.groups)), 8*blockSize)
	g.tableBlocks = int(max(ceilDiv(perGroup, inodesPerBlock), 1))
	g.inodesPerGroup = g.tableBlocks * inodesPerBlock
	g.descBlocks = int(ceilDiv(int64(g.groups), descsPerBlock))
	grown := min(g.blocks*1024, 1<<32-1)
	descs := ceilDiv(ceilDiv(grown, blocksPerGroup), descsPerBlock)
	g.reservedDescs = int(min(descs-int64(g.descBlocks), addrsPerBlock))
}

// superOverhead counts the blocks at the start of a group that hold the
// superblock, the descriptors and their reserve; none in most groups
// (sparse_super).
func (g *geometry) superOverhead(group int) int64 {
	if !hasSuper(group) {
		return 0
	}
	return int64(1 + g.descBlocks + g.reservedDescs)
}

func (g *geometry) ownOverhead(group int) int64 {
	return g.superOverhead(group) + 2 + int64(g.tableBlocks)
}

func (g *geometry) groupStart(group int) int64 { return int64(group) * blocksPerGroup }

func (g *geometry) groupEnd(group int) int64 { return min(g.groupStart(group+1), g.blocks) }

// place lays out the bitmaps and tables of each flexible group behind the
// superblock of its first group.
func (g *geometry) place() {
	g.blockBitmap = make([]int64, g.groups)
	g.inodeBitmap = make([]int64, g.groups)
	g.inodeTable = make([]int64, g.groups)
	for i := range g.groups {
		if n := g.superOverhead(i); n > 0 {
			g.reserve(g.groupStart(i), n)
		}
	}
	for first := 0; first < g.groups; first += flexGroups {
		last := min(first+flexGroups, g.groups)
		cur := g.groupStart(first)
		put := func(where []int64, n int64) {
			for i := first; i < last; i++ {
				cur = g.skipSupers(cur, n)
				where[i] = cur
				g.reserve(cur, n)
				cur += n
			}
		}
		put(g.blockBitmap, 1)
		put(g.inodeBitmap, 1)
		put(g.inodeTable, int64(g.tableBlocks))
	}
	g.mergeReserved()
}

// skipSupers moves cur on until [cur, cur+n) meets no superblock copy.
func (g *geometry) skipSupers(cur, n int64) int64 {
	for group := int(cur / blocksPerGroup); group <= int((cur+n-1)/blocksPerGroup); group++ {
		end := g.groupStart(group) + g.superOverhead(group)
		if end > cur && end > g.groupStart(group) {
			cur = end
		}
	}
	return cur
}

func (g *geometry) reserve(start, n int64) {
	g.reserved = append(g.reserved, span{start, start + n})
}

func (g *geometry) mergeReserved() {
	slices.SortFunc(g.reserved, func(a, b span) int { return int(a.start - b.start) })
	merged := g.reserved[:1]
	for _, s := range g.reserved[1:] {
		if last := &merged[len(merged)-1]; last.end == s.start {
			last.end = s.end
		} else {
			merged = append(merged, s)
		}
	}
	g.reserved = slices.Clip(merged)
}

func (g *geometry) reservedBlocks() int64 {
	var n int64
	for _, s := range g.reserved {
		n += s.end - s.start
	}
	return n
}

func (g *geometry) inodes() int64 { return int64(g.groups) * int64(g.inodesPerGroup) }

// inodeOffset gives the byte position of an inode in the image.
func (g *geometry) inodeOffset(ino uint32) int64 {
	group := int(ino-1) / g.inodesPerGroup
	return g.inodeTable[group]*blockSize + int64(int(ino-1)%g.inodesPerGroup)*inodeSize
}

// hasSuper says which groups hold a copy of the superblock with sparse_super:
// 0, 1 and the powers of 3, 5 and 7.
func hasSuper(group int) bool {
	if group <= 1 {
		return true
	}
	for _, base := range []int{3, 5, 7} {
		p := base
		for p < group {
			p *= base
		}
		if p == group {
			return true
		}
	}
	return false
}

func ceilDiv(a, b int64) int64 { return (a + b - 1) / b }
