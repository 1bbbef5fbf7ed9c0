package zfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/kldload/kldload/zfs/internal/nvlist"
	"github.com/kldload/kldload/zfs/internal/ondisk"
)

const labels = 4

// labelCopy is one of the four copies of the pool's description on a vdev.
type labelCopy struct {
	index  int
	offset int64
	config nvlist.List
	packed []byte // config as stored
	err    error  // why config cannot be used
	ring   []byte // of uberblocks; nil when it is unreadable
}

// readLabels reads all labels of a device of size bytes.
func readLabels(r io.ReaderAt, size int64, lax bool) []*labelCopy {
	all := make([]*labelCopy, labels)
	for i := range all {
		l := &labelCopy{index: i, offset: ondisk.LabelOffset(i, size)}
		l.read(r, lax)
		all[i] = l
	}
	return all
}

func (l *labelCopy) read(r io.ReaderAt, lax bool) {
	b := make([]byte, ondisk.LabelSize)
	if n, err := r.ReadAt(b, l.offset); n < len(b) {
		l.err = fmt.Errorf("reading label %d at %d: %w", l.index, l.offset, err)
		return
	}
	l.ring = b[ondisk.LabelRingOffset:]
	l.packed = b[ondisk.LabelConfigOffset : ondisk.LabelConfigOffset+ondisk.LabelConfigSize]
	if !lax && !ondisk.CheckLabelPart(l.packed, l.offset+ondisk.LabelConfigOffset) {
		l.err = fmt.Errorf("label %d at %d: the checksum of its configuration is wrong", l.index, l.offset)
		return
	}
	config, err := nvlist.Decode(l.packed)
	if err != nil {
		l.err = fmt.Errorf("label %d at %d: %w", l.index, l.offset, err)
		return
	}
	l.config = config
}

// sameConfig tells whether two labels say the same; their sums differ.
func (l *labelCopy) sameConfig(other *labelCopy) bool {
	const sum = 40
	n := len(l.packed) - sum
	return bytes.Equal(l.packed[:n], other.packed[:n])
}

// ringSlot is a place of a ring.
type ringSlot struct {
	label  *labelCopy
	index  int
	offset int64
	uber   *ondisk.Uberblock // nil when there is none, or err
	err    error
}

// slots parses the ring of a label.
func (l *labelCopy) slots(ashift int, lax bool) []ringSlot {
	size := ondisk.UberblockSize(ashift)
	var all []ringSlot
	for at := 0; at+size <= len(l.ring); at += size {
		s := ringSlot{label: l, index: at / size, offset: l.offset + ondisk.LabelRingOffset + int64(at)}
		b := l.ring[at : at+size]
		s.uber, s.err = ondisk.ParseUberblock(b)
		if errors.Is(s.err, ondisk.ErrNoUberblock) {
			s.err = nil
		} else if s.err == nil && !lax && !ondisk.CheckLabelPart(b, s.offset) {
			s.uber, s.err = nil, errors.New("the checksum is wrong")
		}
		all = append(all, s)
	}
	return all
}

// newerThan orders uberblocks as an import does: by transaction group, then by
// time.
func newerThan(a, b *ondisk.Uberblock) bool {
	if a.Txg != b.Txg {
		return a.Txg > b.Txg
	}
	return a.Timestamp > b.Timestamp
}

// openVdev is the top-level vdev that holds the pool.
type openVdev struct {
	kind          string // disk, file or mirror
	guid          uint64
	ashift        int
	asize         uint64
	metaslabArray uint64
	metaslabShift int
	topZAP        uint64
	metaslabs     int
	guidSum       uint64 // of the vdev and its members
}

const (
	minAshift = 9
	maxAshift = 16
)

// parseVdev decodes a vdev_tree, and refuses those whose blocks are not whole on
// this device.
func parseVdev(t nvlist.List) (*openVdev, error) {
	v := &openVdev{}
	v.kind, _ = t.String("type")
	switch v.kind {
	case "disk", "file":
	case "mirror":
		members, _ := t.Lists("children")
		for _, m := range members {
			if k, _ := m.String("type"); k != "disk" && k != "file" {
				return nil, fmt.Errorf("mirror with a member of type %q: want disk or file", k)
			}
			guid, _ := m.Uint64("guid")
			v.guidSum += guid
		}
	case "":
		return nil, errors.New("the vdev has no type")
	default:
		return nil, fmt.Errorf("vdev of type %q: not supported (disk, file and mirror are)", v.kind)
	}
	number := func(name string) uint64 { n, _ := t.Uint64(name); return n }
	v.guid, v.asize, v.metaslabArray = number("guid"), number("asize"), number("metaslab_array")
	v.guidSum += v.guid
	v.topZAP = number("com.delphix:vdev_zap_top")
	ashift, shift := number("ashift"), number("metaslab_shift")
	switch {
	case ashift < minAshift || ashift > maxAshift:
		return nil, fmt.Errorf("vdev with ashift %d: want %d to %d", ashift, minAshift, maxAshift)
	case shift < ashift || shift > 50:
		return nil, fmt.Errorf("vdev with metaslabs of 2^%d bytes: want 2^%d to 2^50", shift, ashift)
	case v.asize == 0 || v.asize > 1<<60:
		return nil, fmt.Errorf("vdev of %d bytes", v.asize)
	}
	v.ashift, v.metaslabShift = int(ashift), int(shift)
	if n := v.asize >> shift; n > 1<<24 {
		return nil, fmt.Errorf("vdev with %d metaslabs: want at most %d", n, 1<<24)
	}
	v.metaslabs = int(v.asize >> shift)
	return v, nil
}
