package diskimage

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"testing"
)

// TestAloneAndTogether: an image has the same bytes alone as beside others,
// whichever of them holds the disk for those that compress.
func TestAloneAndTogether(t *testing.T) {
	r := rand.New(rand.NewPCG(31, 32))
	path := rawFile(t, 60<<20+99, put{5000, random(r, 3<<20, true)}, put{20 << 20, random(r, 2<<20, false)},
		put{60 << 20, random(r, 99, true)})
	all := map[string]func(Target) Sink{
		"raw":       func(t Target) Sink { return NewRawWriter(t, RawOptions{}) },
		"vhd":       func(t Target) Sink { return NewVHDWriter(t, VHDOptions{}) },
		"vhd-dyn":   func(t Target) Sink { return NewVHDWriter(t, VHDOptions{Subformat: VHDDynamic}) },
		"vhdx":      func(t Target) Sink { return NewVHDXWriter(t, VHDXOptions{}) },
		"qcow2":     func(t Target) Sink { return NewQCOW2Writer(t, QCOW2Options{}) },
		"qcow2-2M":  func(t Target) Sink { return NewQCOW2Writer(t, QCOW2Options{ClusterSize: 2 << 20}) },
		"qcow2-raw": func(t Target) Sink { return NewQCOW2Writer(t, QCOW2Options{Compression: CompressNone}) },
		"vmdk":      func(t Target) Sink { return NewVMDKWriter(t, VMDKOptions{}) },
		"ova":       func(t Target) Sink { return NewOVAWriter(t, OVAOptions{Name: "x"}) },
		"gcp":       func(t Target) Sink { return NewGCPWriter(t, GCPOptions{}) },
	}
	write := func(names ...string) map[string]string {
		src := &readOnce{Disk: open(t, path, OpenOptions{Format: Raw})}
		var sinks []Sink
		for _, n := range names {
			sinks = append(sinks, all[n](create(t, n)))
		}
		results, err := Write(context.Background(), src, WriteOptions{}, sinks...)
		if err != nil {
			t.Fatalf("%q: %v", names, err)
		}
		if n := src.bytes.Load(); n > 7<<20 {
			t.Errorf("%q: %d bytes of the source were read, which has fewer", names, n)
		}
		sums := map[string]string{}
		for i, n := range names {
			sums[n] = results[i].SHA256
		}
		return sums
	}
	want := map[string]string{}
	for n := range all {
		want[n] = write(n)[n]
	}
	for _, names := range [][]string{
		{"raw", "vhd", "vhd-dyn", "vhdx", "qcow2", "qcow2-2M", "qcow2-raw", "vmdk", "ova", "gcp"},
		{"gcp", "vhd", "qcow2"}, {"qcow2", "vhd-dyn", "vmdk"}, {"ova", "raw"}, {"raw", "qcow2-raw"},
	} {
		for n, sum := range write(names...) {
			if sum != want[n] {
				t.Errorf("%s beside %q: %s, alone %s", n, names, sum, want[n])
			}
		}
	}
}

// readOnce counts the bytes read of a disk.
type readOnce struct {
	Disk
	bytes atomic.Int64
}

func (d *readOnce) ReadAt(p []byte, off int64) (int, error) {
	d.bytes.Add(int64(len(p)))
	return d.Disk.ReadAt(p, off)
}
