package zfs

import (
	"errors"
	"math/bits"
	"testing"

	"github.com/kldload/kldload/zfs/internal/block"
	"github.com/kldload/kldload/zfs/internal/ondisk"
)

// The kernel panics when it adds a metaslab to an array whose block has a size
// that is no power of two.
func TestMetaslabArrayCanGrow(t *testing.T) {
	for _, size := range []int64{MinSize, 8 << 30, 80 << 30, 1 << 40, 5 << 40, MaxSize} {
		s := newSpace(size)
		n := (&mos{z: &Writer{space: s}}).arraySize()
		if bits.OnesCount(uint(n)) != 1 || n < 8*len(s.used) || n > ondisk.OldMaxBlock || s.shift > 34 {
			t.Errorf("%d bytes: %d metaslabs of 2^%d bytes, and an array of %d bytes", size, len(s.used), s.shift, n)
		}
	}
}

// What the plan of the pool's last blocks says is where they come to lie.
func TestPlannedSizesOfDnodes(t *testing.T) {
	for _, blocks := range []int{1, 3, 4, fanout - 1, fanout, fanout + 1, 2*fanout + 7, 3 * fanout, 3*fanout + 1, fanout * fanout, 3*fanout*fanout + fanout} {
		z := newSpace(64 << 30)
		p := &pipe{space: z, out: newOutput(discard{})}
		s := &objset{pipe: p, metaMethod: block.Method{Compression: ondisk.CompressOff}}
		var got []uint64
		levels := treeLevels(int64(blocks), metaPointers)
		tree := newBlockTree(p, s, ondisk.TypeDnode, 1, levels)
		ptr := ondisk.NewBlockPtr(ondisk.Block{DVAs: [3]ondisk.DVA{{ASize: 512, Offset: 512}}, LSize: 512, PSize: 512, Birth: birthTxg, Fill: 1})
		add := func(f func() error) {
			before := z.total
			if err := f(); err != nil {
				t.Fatal(err)
			}
			for ; before < z.total; before += 1 << ondisk.IndirectShift {
				got = append(got, 1<<ondisk.IndirectShift)
			}
		}
		for range blocks {
			got = append(got, ondisk.DnodeBlockSize)
			add(func() error { return tree.add(0, &ptr) })
		}
		add(func() error { _, err := tree.finish(); return err })
		want := dnodeSizes(blocks)
		if len(got) != len(want) {
			t.Fatalf("%d blocks: %d are planned, %d are written", blocks, len(want), len(got))
		}
		for i := range want {
			if got[i] != want[i] {
				t.Fatalf("%d blocks: block %d has %d bytes, planned are %d", blocks, i, got[i], want[i])
			}
		}
	}
}

// A space map whose one entry is the first sector is all zeros, and no hole.
func TestMapOfOneSectorIsStored(t *testing.T) {
	content, _ := (&space{used: []uint64{sector}, shift: 24}).spaceMap(0, 1)
	if !allZero(content) {
		t.Fatal("the test tests nothing")
	}
	s := newMOS(&Writer{pipe: &pipe{space: newSpace(MinSize), out: newOutput(discard{})}}).set
	d, err := s.storeObject(ondisk.TypeSpaceMap, [][]byte{content})
	if err != nil {
		t.Fatal(err)
	}
	if d.Pointers[0].IsHole() || s.used != maxCopies*sector {
		t.Errorf("it takes %d bytes", s.used)
	}
}

// The copies of a dataset's blocks, as dmu_write_policy has them.
func TestCopiesOfBlocks(t *testing.T) {
	for _, c := range []struct {
		properties              map[string]string
		content, pointers, meta int
	}{
		{map[string]string{}, 1, 2, 2},
		{map[string]string{"copies": "2"}, 2, 3, 3},
		{map[string]string{"copies": "3"}, 3, 3, 3},
		{map[string]string{"redundant_metadata": "most"}, 1, 1, 2},
		{map[string]string{"copies": "2", "redundant_metadata": "most"}, 2, 2, 3},
	} {
		o := testOptions(128 << 20)
		c.properties["mountpoint"], c.properties["recordsize"], c.properties["compression"] = "/home", "4K", "off"
		o.Datasets[3].Properties = c.properties
		img := make(image, o.Size)
		w, err := NewWriter(img, o)
		if err != nil {
			t.Fatal(err)
		}
		e := file("home/file", random(1, 2<<20))
		if err := errors.Join(w.Create(e.Header, e.body), w.Close()); err != nil {
			t.Fatal(err)
		}
		p := img.open(t)
		set, err := p.dev.openObjset("rpool/home", &p.findSet("rpool/home").bp)
		if err != nil {
			t.Fatal(err)
		}
		ob, err := set.object(slotsPerBlock) // the first that is no directory
		if err != nil {
			t.Fatal(err)
		}
		table, err := p.dev.readCached(&ob.dn.Pointers[0])
		if err != nil {
			t.Fatal(err)
		}
		ptr := ptrTable(table).at(0)
		if ptr.Copies() != c.content || ob.dn.Pointers[0].Copies() != c.pointers || set.phys.Meta.Pointers[0].Copies() != c.meta {
			t.Errorf("%v: content has %d copies, pointers to it %d, dnodes %d; want %d, %d, %d", c.properties,
				ptr.Copies(), ob.dn.Pointers[0].Copies(), set.phys.Meta.Pointers[0].Copies(), c.content, c.pointers, c.meta)
		}
		report, err := p.Check(t.Context(), CheckOptions{})
		if err != nil || len(report.Problems) > 0 {
			t.Errorf("%v: %v %v", c.properties, err, report)
		}
	}
}

// A hole of a file of 4 EiB is passed over at once.
func TestHolesOfAnyLength(t *testing.T) {
	w, err := NewWriter(discard{}, testOptions(MinSize))
	if err != nil {
		t.Fatal(err)
	}
	h := Header{Path: "f", Mode: modeRegular, Size: 1<<62 + 5}
	if err := errors.Join(w.Create(h, &sparse{hole: 1 << 62, data: []byte("12345")}), w.Close()); err != nil {
		t.Error(err)
	}
}
