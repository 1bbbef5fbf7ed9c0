package zfs

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/kldload/kldload/zfs/internal/ondisk"
)

var le = binary.LittleEndian

// ashift is the sector size of the pools written here, as a power of two.
const ashift = 12

const sector = 1 << ashift

// space hands out the pool's space. Each metaslab is filled from its start, so
// that what is allocated in it is one run; the copies of a block begin a third
// of the pool apart, as far as there is room.
type space struct {
	asize   uint64 // bytes
	shift   uint   // of a metaslab
	used    []uint64
	cursors [3]int
	limit   uint64 // bytes that may be allocated: the rest is ZFS's slop
	total   uint64
}

// NoSpaceError says that an image is too small for what was put into it.
type NoSpaceError struct {
	Path   string // what was being written, "" for the pool's own metadata
	Size   int64  // of the image, in bytes
	Usable int64  // bytes that may be allocated in it
}

func (e *NoSpaceError) Error() string {
	what := "the pool's metadata"
	if e.Path != "" {
		what = fmt.Sprintf("%q", e.Path)
	}
	return fmt.Sprintf("writing %s: the pool is full: %d of the image's %d bytes can be used (ZFS keeps the rest)\nhint: a larger size", what, e.Usable, e.Size)
}

// Limits of metaslabs (vdev_metaslab_set_size, vdev.c).
const (
	metaslabShift    = 29
	metaslabMinShift = 24
	metaslabMaxShift = 34
	metaslabMin      = 16
	metaslabMax      = 200
)

func newSpace(size int64) *space {
	asize := uint64(size-ondisk.LabelStart-ondisk.LabelEnd) &^ (sector - 1)
	shift := uint(metaslabShift)
	switch count := asize >> metaslabShift; {
	case count < metaslabMin:
		shift = uint(bits.Len64(asize/metaslabMin)) - 1
	case count > metaslabMax:
		shift = uint(bits.Len64(asize/metaslabMax)) - 1
	}
	shift = min(max(shift, metaslabMinShift), metaslabMaxShift)
	s := &space{asize: asize, shift: shift, used: make([]uint64, asize>>shift)}
	for i := range s.cursors {
		s.cursors[i] = i * len(s.used) / len(s.cursors)
	}
	capacity := uint64(len(s.used)) << shift
	s.limit = capacity - slop(capacity)
	return s
}

// slop is what ZFS keeps for itself: a 32nd, at least 128 MiB or half
// (spa_get_slop_space, spa_misc.c).
func slop(capacity uint64) uint64 {
	return min(max(min(capacity/32, 128<<30), min(capacity/2, 128<<20)), capacity)
}

// alloc takes n bytes, whole sectors, for copy 0, 1 or 2.
func (s *space) alloc(copy int, n uint64) (offset uint64, ok bool) {
	if s.total+n > s.limit {
		return 0, false
	}
	for tries := 0; tries < len(s.used); tries++ {
		m := s.cursors[copy]
		if s.used[m]+n <= 1<<s.shift {
			offset = uint64(m)<<s.shift + s.used[m]
			s.used[m] += n
			s.total += n
			return offset, true
		}
		s.cursors[copy] = (m + 1) % len(s.used)
	}
	return 0, false
}

// clone is for trying out allocations.
func (s *space) clone() *space {
	c := *s
	c.used = append([]uint64(nil), s.used...)
	return &c
}

// Bytes of a space map's dnode bonus (space_map_phys_t, sys/space_map.h).
const (
	spaceMapBonus     = 320
	spaceMapHistogram = 64 // where the histogram of 32 buckets begins
	spaceMapBuckets   = 32
	spaceMapBlock     = 4096
	maxRun            = 1 << 15 // sectors in a one-word entry
)

// spaceMap gives the block and the bonus of metaslab m's map: the run of
// one-word entries that allocate [0, used), and the histogram of free
// segments, by which kernels choose a metaslab they have not loaded.
func (s *space) spaceMap(m int, object uint64) (content, bonus []byte) {
	content = make([]byte, spaceMapBlock)
	words := 0
	for at := uint64(0); at < s.used[m]>>ashift; {
		run := min(s.used[m]>>ashift-at, maxRun)
		le.PutUint64(content[8*words:], at<<16|(run-1)) // SM_ALLOC is bit 15 clear
		at += run
		words++
	}
	bonus = make([]byte, spaceMapBonus)
	le.PutUint64(bonus, object)
	le.PutUint64(bonus[8:], uint64(words)*8)
	le.PutUint64(bonus[16:], s.used[m])
	if free := uint64(1)<<s.shift - s.used[m]; free > 0 {
		bucket := min(bits.Len64(free)-1-ashift, spaceMapBuckets-1)
		le.PutUint64(bonus[spaceMapHistogram+8*bucket:], 1)
	}
	return content, bonus
}
