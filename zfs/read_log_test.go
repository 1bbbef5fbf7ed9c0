package zfs

import (
	"testing"

	"github.com/kldload/kldload/zfs/internal/block"
	"github.com/kldload/kldload/zfs/internal/ondisk"
)

// The kernel's log of kpool/zstd has a first block and no record. A record is
// put there as the kernel would, of the group that is read or the one behind.
func TestLogRecords(t *testing.T) {
	img := kernelPool(t)
	count := func(name string) int {
		t.Helper()
		n, err := img.open(t).LogRecords(name)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, name := range []string{"kpool", "kpool/gzip", "kpool/zstd"} {
		if n := count(name); n != 0 {
			t.Errorf("%s: %d records in its log: want none", name, n)
		}
	}
	p := img.open(t)
	for ahead, want := range []int{0, 1} {
		addRecord(t, img, p, "kpool/zstd", p.Txg()+uint64(ahead))
		if n := count("kpool/zstd"); n != want {
			t.Errorf("a record of the group %d behind the last: %d are open, want %d", ahead, n, want)
		}
	}
	if _, err := p.LogRecords("kpool/none"); err == nil {
		t.Error("the log of a dataset that is not there can be read")
	}
}

// addRecord makes a record the only one of a dataset's log.
func addRecord(t *testing.T, img image, p *Pool, dataset string, txg uint64) {
	t.Helper()
	s := p.findSet(dataset)
	set, err := p.dev.openObjset(s.name, &s.bp)
	if err != nil {
		t.Fatal(err)
	}
	bp := ptrTable(set.phys.ZIL[zilLog : zilLog+ondisk.BlockPtrSize]).at(0)
	const labels = 4 << 20 // before offset 0 of a vdev (VDEV_LABEL_START_SIZE)
	b := img[labels+bp.DVA(0).Offset:][:bp.LSize()]
	record := b[chainSize:]
	le.PutUint64(b[chainUsed:], chainSize+64)
	for i, v := range []uint64{writeType, 64, txg, 1} {
		le.PutUint64(record[8*i:], v)
	}
	for i, v := range bp.Sum() {
		le.PutUint64(b[chainSum+8+8*i:], v)
	}
	for i, v := range block.Fletcher4(b) {
		le.PutUint64(b[chainSum+8+8*i:], v)
	}
}
