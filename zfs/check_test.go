package zfs

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/kldload/kldload/zfs/internal/ondisk"
)

func check(t testing.TB, p *Pool) *CheckReport {
	t.Helper()
	r, err := p.Check(t.Context(), CheckOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestCheck(t *testing.T) {
	p := samplePool(t).open(t)
	var mu sync.Mutex
	var last, total int64
	r, err := p.Check(t.Context(), CheckOptions{Progress: func(d, n int64) {
		mu.Lock()
		defer mu.Unlock()
		last, total = max(last, d), n
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range r.Problems {
		t.Error(x)
	}
	if len(r.Unverified) != 0 || r.Labels != 4 || r.Datasets != 5 || r.Snapshots != 5 || r.Allocated == 0 || r.Allocated != r.Referenced || r.Copies <= r.Blocks {
		t.Errorf("%+v", r)
	}
	if last == 0 || total != r.Allocated {
		t.Errorf("progress ends at %d of %d", last, total)
	}
}

func TestCheckCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := samplePool(t).open(t).Check(ctx, CheckOptions{}); err == nil {
		t.Error("no error")
	}
}

// pointerOf finds the pointer to a block of an object.
func pointerOf(t testing.TB, p *Pool, dataset string, id, n uint64) *ondisk.BlockPtr {
	t.Helper()
	set := p.mos
	if dataset != mosName {
		f, err := p.Dataset(dataset)
		if err != nil {
			t.Fatal(err)
		}
		set = f.set
	}
	ob := set.dnodes()
	if id != 0 {
		var err error
		if ob, err = set.object(id); err != nil {
			t.Fatal(err)
		}
	}
	s, err := ob.find(n)
	if err != nil || s.hole {
		t.Fatalf("object %d block %d: %v", id, n, err)
	}
	return s.bp
}

func fileID(t testing.TB, p *Pool, dataset, name string) uint64 {
	t.Helper()
	f, err := p.Dataset(dataset)
	if err != nil {
		t.Fatal(err)
	}
	n, err := f.Node(name)
	if err != nil {
		t.Fatal(err)
	}
	return n.Ino
}

// A flipped byte of a file is a problem with its place, and an error when the
// file is read; the rest of the pool is as before.
func TestCheckDamagedData(t *testing.T) {
	m := samplePool(t)
	p := m.open(t)
	const set = "rpool/ROOT/default"
	id := fileID(t, p, set, "etc/noise")
	at := int64(pointerOf(t, p, set, id, 1).DVA(0).Offset) + ondisk.LabelStart
	m[at+77] ^= 4
	p = m.open(t)
	r := check(t, p)
	if len(r.Problems) != 1 {
		t.Fatalf("%d problems: want 1 of %v", len(r.Problems), r.Problems)
	}
	// It is found where it was born: in the snapshot.
	if x := r.Problems[0]; x.What != "bad block" || x.Dataset != set+"@golden" || x.Object != id || x.Level != 0 || x.Block != 1 || x.Offset != at {
		t.Errorf("%+v", x)
	}
	f, err := p.Dataset(set)
	if err != nil {
		t.Fatal(err)
	}
	o, err := f.Open("etc/noise")
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	if _, err := o.(*File).ReadAt(b, 0); err != nil {
		t.Error(err)
	}
	if _, err := o.(*File).ReadAt(b, 140000); err == nil || !strings.Contains(err.Error(), "block 1") || !strings.Contains(err.Error(), "fletcher4") {
		t.Errorf("reading the bad block gives %v", err)
	}
}

// Of metadata there are copies: reading goes on, the check says which is bad.
func TestCheckDamagedCopy(t *testing.T) {
	m := samplePool(t)
	p := m.open(t)
	bp := pointerOf(t, p, mosName, 1, 0)
	at := int64(bp.DVA(0).Offset) + ondisk.LabelStart
	clear(m[at : at+512])
	r := check(t, m.open(t))
	if len(r.Problems) != 1 || r.Problems[0].Offset != at || !strings.Contains(r.Problems[0].String(), "copy 1 of 3") {
		t.Errorf("%v", r.Problems)
	}
	for i := range 3 {
		at := int64(bp.DVA(i).Offset) + ondisk.LabelStart
		clear(m[at : at+512])
	}
	if _, err := Open(bytes.NewReader(m), int64(len(m))); err == nil || !strings.Contains(err.Error(), "copy 2") {
		t.Errorf("Open without a good copy gives %v", err)
	}
}

// Labels are read as long as one is good.
func TestCheckDamagedLabels(t *testing.T) {
	m := samplePool(t)
	for i := range 3 {
		at := ondisk.LabelOffset(i, int64(len(m)))
		clear(m[at : at+ondisk.LabelSize])
		r := check(t, m.open(t))
		if r.Labels != 3-i || len(r.Problems) != i+1 || r.Problems[i].What != "bad label" {
			t.Errorf("%d good labels: %v", r.Labels, r.Problems)
		}
	}
	clear(m[len(m)-ondisk.LabelSize:])
	if _, err := Open(bytes.NewReader(m), int64(len(m))); err == nil || !strings.Contains(err.Error(), "label 3") {
		t.Errorf("Open without labels gives %v", err)
	}
}

// A slot of the ring with a newer but wrong uberblock is passed over.
func TestCheckDamagedUberblock(t *testing.T) {
	m := samplePool(t)
	txg := m.open(t).Txg()
	slot := ondisk.LabelRingOffset
	for le64(m[slot:]) == 0 {
		slot += 4096
	}
	m[slot+16]++
	p := m.open(t)
	if p.Txg() != txg {
		t.Errorf("transaction group %d: want %d", p.Txg(), txg)
	}
	if r := check(t, p); len(r.Problems) != 1 || r.Problems[0].What != "bad uberblock" {
		t.Errorf("%v", r.Problems)
	}
}

// What is not the sums' to find shows in the comparison. Blocks are changed in
// memory, with checksums off.
func TestCheckContradictions(t *testing.T) {
	const set = "rpool/ROOT/default"
	tests := []struct {
		name, what string
		change     func(m image, p *Pool)
	}{
		{"space map", "leaked space", func(m image, p *Pool) {
			array, err := p.mos.object(p.vdev.metaslabArray)
			if err != nil {
				t.Fatal(err)
			}
			b, err := array.block(0)
			if err != nil {
				t.Fatal(err)
			}
			for i := range pointerOf(t, p, mosName, le64(b), 0).Copies() {
				m[pointerOf(t, p, mosName, le64(b), 0).DVA(i).Offset+ondisk.LabelStart+2]++
			}
		}},
		{"directory entry", "name of no file", func(m image, p *Pool) {
			bp := pointerOf(t, p, set, fileID(t, p, set, "dev"), 0)
			changeMicroZAP(t, m, bp, "null", func(v uint64) uint64 { return v + 100000 })
		}},
	}
	for _, c := range tests {
		o := sampleOptions()
		o.Datasets[0].Properties["compression"] = "off"
		m := writePool(t, o, sampleTree())
		c.change(m, m.open(t))
		p := m.openLax(t)
		found := false
		for _, x := range check(t, p).Problems {
			found = found || x.What == c.what
		}
		if !found {
			t.Errorf("%s: no problem %q in %v", c.name, c.what, check(t, p).Problems)
		}
	}
}

// openLax opens a pool without regard to checksums.
func (m image) openLax(t testing.TB) *Pool {
	t.Helper()
	p := lax(m)
	if err := p.open(); err != nil {
		t.Fatal(err)
	}
	return p
}

func lax(m image) *Pool {
	r := bytes.NewReader(m)
	return &Pool{r: r, size: int64(len(m)), dev: &device{r: r, lax: true}}
}

// changeMicroZAP changes the value of an entry in all copies of a block that is
// stored as it is.
func changeMicroZAP(t testing.TB, m image, bp *ondisk.BlockPtr, name string, change func(uint64) uint64) {
	t.Helper()
	if bp.Compression() != ondisk.CompressOff {
		t.Fatalf("the block is stored with %s", bp.Compression())
	}
	for i := range bp.Copies() {
		b := m[bp.DVA(i).Offset+ondisk.LabelStart:][:bp.LSize()]
		at := bytes.Index(b, append([]byte(name), 0))
		if at < 0 {
			t.Fatalf("no entry %q", name)
		}
		le.PutUint64(b[at-14:], change(le64(b[at-14:])))
	}
}
