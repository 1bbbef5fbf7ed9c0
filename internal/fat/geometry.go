package fat

import (
	"encoding/binary"
	"fmt"
	"math"
)

// geometry is where everything lies (MS "Boot Sector and BPB"). Sizes and
// places are int64 so that sums of hostile fields cannot overflow.
type geometry struct {
	typ         Type
	sector      int64 // bytes
	perCluster  int64 // sectors
	reserved    int64 // sectors before the first table
	fats        int64
	fatSectors  int64
	rootEntries int64 // of the fixed root of FAT12 and FAT16
	sectors     int64 // of the volume
	clusters    int64
	root        uint32 // first cluster of the root on FAT32
	activeFAT   int64
	hidden      uint32
	volumeID    uint32
	label       [11]byte
}

const noLabel = "NO NAME    "

func (g *geometry) clusterBytes() int64     { return g.perCluster * g.sector }
func (g *geometry) rootOffset() int64       { return (g.reserved + g.fats*g.fatSectors) * g.sector }
func (g *geometry) fatOffset(i int64) int64 { return (g.reserved + i*g.fatSectors) * g.sector }

func (g *geometry) rootSectors() int64 {
	return (g.rootEntries*entrySize + g.sector - 1) / g.sector
}

func (g *geometry) dataOffset() int64 { return g.rootOffset() + g.rootSectors()*g.sector }

// clusterOffset is the place of cluster c, which counts from 2.
func (g *geometry) clusterOffset(c uint32) int64 {
	return g.dataOffset() + (int64(c)-2)*g.clusterBytes()
}

// tableBytes is the length of a table for n clusters.
func (t Type) tableBytes(n int64) int64 { return ((n+2)*int64(t) + 7) / 8 }

// plan chooses the geometry for opts.
func plan(opts Options) (geometry, error) {
	g := geometry{typ: opts.Type, sector: int64(opts.SectorSize), fats: 2, hidden: opts.HiddenSectors, volumeID: opts.VolumeID}
	if g.sector == 0 {
		g.sector = 512
	}
	if g.sector != 512 && g.sector != 4096 {
		return g, fmt.Errorf("sector size %d (want 512 or 4096)", g.sector)
	}
	if opts.Size <= 0 || opts.Size%g.sector != 0 {
		return g, fmt.Errorf("size %d (want a positive multiple of the %d-byte sector)", opts.Size, g.sector)
	}
	if g.sectors = opts.Size / g.sector; g.sectors > math.MaxUint32 {
		return g, fmt.Errorf("size %d has %d sectors (FAT counts at most %d)", opts.Size, g.sectors, uint32(math.MaxUint32))
	}
	switch {
	case g.typ == Auto && opts.Size < 4<<20:
		g.typ = FAT12
	case g.typ == Auto && opts.Size < 512<<20:
		g.typ = FAT16
	case g.typ == Auto:
		g.typ = FAT32
	case g.typ != FAT12 && g.typ != FAT16 && g.typ != FAT32:
		return g, fmt.Errorf("type %d (want 12, 16 or 32, or 0 for automatic)", int(g.typ))
	}
	// MS "FAT Volume Initialization": 32 and no fixed root, or 1 and 512 entries.
	if g.reserved, g.rootEntries = 1, 512; g.typ == FAT32 {
		g.reserved, g.rootEntries, g.root = 32, 0, 2
	}
	return g, g.chooseCluster(opts.Size)
}

// chooseCluster starts at the size the tables of MS "FAT Volume Initialization"
// prefer and goes up or down until the cluster count means the type wanted.
func (g *geometry) chooseCluster(size int64) error {
	lo, hi := g.typ.limits()
	g.perCluster = max(preferredCluster(g.typ, size)/g.sector, 1)
	g.layTables()
	for g.clusters > hi && g.perCluster*2*g.sector <= 32<<10 {
		g.perCluster *= 2
		g.layTables()
	}
	for g.clusters < lo && g.perCluster > 1 {
		g.perCluster /= 2
		g.layTables()
	}
	if g.clusters < lo || g.clusters > hi {
		return fmt.Errorf("size %d gives %d clusters of %d bytes (%v wants %d to %d)", size, max(g.clusters, 0), g.clusterBytes(), g.typ, lo, hi)
	}
	return nil
}

// preferredCluster in bytes.
func preferredCluster(t Type, size int64) int64 {
	steps := [][2]int64{{16 << 20, 1 << 10}, {128 << 20, 2 << 10}, {256 << 20, 4 << 10}, {512 << 20, 8 << 10}, {1 << 30, 16 << 10}}
	switch t {
	case FAT12:
		return 512
	case FAT32:
		steps = [][2]int64{{260 << 20, 512}, {8 << 30, 4 << 10}, {16 << 30, 8 << 10}, {32 << 30, 16 << 10}}
	}
	for _, s := range steps {
		if size <= s[0] {
			return s[1]
		}
	}
	return 32 << 10
}

// layTables finds the shortest table that covers the clusters it leaves. On
// FAT32 it is rounded up so that clusters start on their own size, as mkfs.vfat
// does: flash media and 4 KiB disks write whole clusters then.
func (g *geometry) layTables() {
	g.fatSectors = 0
	for {
		g.clusters = (g.sectors - g.rootOffset()/g.sector - g.rootSectors()) / g.perCluster
		need := (g.typ.tableBytes(max(g.clusters, 0)) + g.sector - 1) / g.sector
		if g.typ == FAT32 && 32%g.perCluster == 0 {
			need = (need + g.perCluster - 1) / g.perCluster * g.perCluster
		}
		if need <= g.fatSectors {
			return
		}
		g.fatSectors = need
	}
}

// bootSector encodes sector 0 (MS "Boot Sector and BPB").
func (g *geometry) bootSector() []byte {
	le := binary.LittleEndian
	b := make([]byte, g.sector)
	copy(b[3:], "MSWIN4.1") // the name MS advises, as some drivers look at it
	le.PutUint16(b[11:], uint16(g.sector))
	b[13] = byte(g.perCluster)
	le.PutUint16(b[14:], uint16(g.reserved))
	b[16] = byte(g.fats)
	le.PutUint16(b[17:], uint16(g.rootEntries))
	if g.typ != FAT32 && g.sectors < 0x10000 {
		le.PutUint16(b[19:], uint16(g.sectors))
	} else {
		le.PutUint32(b[32:], uint32(g.sectors))
	}
	b[21] = media
	le.PutUint16(b[24:], 63)  // sectors per track and
	le.PutUint16(b[26:], 255) // heads, for BIOS calls alone
	le.PutUint32(b[28:], g.hidden)
	tail := 36
	if g.typ == FAT32 {
		le.PutUint32(b[36:], uint32(g.fatSectors))
		le.PutUint32(b[44:], g.root)
		le.PutUint16(b[48:], infoSector)
		le.PutUint16(b[50:], backupSector)
		tail = 64
	} else {
		le.PutUint16(b[22:], uint16(g.fatSectors))
	}
	b[tail] = 0x80 // drive number of a hard disk
	b[tail+2] = 0x29
	le.PutUint32(b[tail+3:], g.volumeID)
	copy(b[tail+7:], g.label[:])
	copy(b[tail+18:], (g.typ.String() + "   ")[:8])
	code := tail + 26
	copy(b, []byte{0xEB, byte(code - 2), 0x90})          // jump over the parameters
	copy(b[code:], []byte{0xCD, 0x18, 0xF4, 0xEB, 0xFD}) // INT 18h: next boot device; else halt
	b[510], b[511] = 0x55, 0xAA
	return b
}

// MS "FAT32 FSInfo Sector Structure" and BPB_BkBootSec: the places it advises.
const (
	infoSector   = 1
	backupSector = 6
)

// fsInfo encodes the FSInfo sector.
func (g *geometry) fsInfo(free, next uint32) []byte {
	le := binary.LittleEndian
	b := make([]byte, g.sector)
	le.PutUint32(b[0:], 0x41615252)
	le.PutUint32(b[484:], 0x61417272)
	le.PutUint32(b[488:], free)
	le.PutUint32(b[492:], next)
	le.PutUint32(b[508:], 0xAA550000)
	return b
}
