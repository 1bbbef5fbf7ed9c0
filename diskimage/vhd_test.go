package diskimage

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func vhdVariants() map[string]VHDOptions {
	return map[string]VHDOptions{
		"fixed":        {},
		"dynamic":      {Subformat: VHDDynamic},
		"dynamic-512K": {Subformat: VHDDynamic, BlockSize: 512 << 10},
	}
}

// TestVHDJudgedByQEMU writes each disk in each kind, lets qemu-img compare it
// with the source, and reads it back ourselves.
func TestVHDJudgedByQEMU(t *testing.T) {
	for _, disk := range testDisks() {
		path := rawFile(t, disk.size, disk.puts...)
		for name, opts := range vhdVariants() {
			t.Run(disk.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				f := create(t, "out.vhd")
				opts.NoDigest = true
				_, err := Write(context.Background(), open(t, path, OpenOptions{Format: Raw}), WriteOptions{}, NewVHDWriter(f, opts))
				if opts.Subformat == VHDDynamic && disk.size > vhdMaxDynamic {
					if err == nil || !strings.Contains(err.Error(), "2040 GiB") {
						t.Errorf("got %v, want a refusal", err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				judgeVHD(t, path, disk.size, f.Name())
			})
		}
	}
}

// TestVHDLargest writes the largest disk there is for QEMU and Hyper-V.
func TestVHDLargest(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 3))
	path := rawFile(t, vhdMaxDynamic, put{1 << 40, random(r, 3<<20, true)}, put{vhdMaxDynamic - 512, random(r, 512, false)})
	for name, opts := range vhdVariants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := create(t, "out.vhd")
			opts.NoDigest = true
			if _, err := Write(context.Background(), open(t, path, OpenOptions{Format: Raw}), WriteOptions{}, NewVHDWriter(f, opts)); err != nil {
				t.Fatal(err)
			}
			judgeVHD(t, path, vhdMaxDynamic, f.Name())
		})
	}
}

// judgeVHD holds the VHD at path against the raw disk at want.
func judgeVHD(t *testing.T, want string, size int64, path string) {
	t.Helper()
	d := open(t, path, OpenOptions{RefuseRaw: true})
	unit := int64(vhdSector)
	if d.Info().Subformat == string(VHDFixed) {
		unit = vhdMiB
		if d.Info().FileSize != d.Size()+vhdFooterSize {
			t.Errorf("file of %d bytes for a disk of %d", d.Info().FileSize, d.Size())
		}
	}
	if rest := d.Size() - size; d.Size()%unit != 0 || rest < 0 || rest >= unit && size > 0 {
		t.Errorf("a disk of %d bytes became one of %d", size, d.Size())
	}
	if size <= vhdMaxDynamic { // QEMU takes no larger VHD
		qemu(t, "qemu-img", "compare", "-f", "raw", "-F", "vpc", want, path)
		if info := qemu(t, "qemu-img", "info", "-f", "vpc", path); !strings.Contains(info, "("+strconv.FormatInt(d.Size(), 10)+" bytes)") {
			t.Errorf("disk of %d bytes is for QEMU\n%s", d.Size(), info)
		}
	}
	clean(t, d)
	backToRaw(t, want, d)
}

// clean wants nothing to be wrong with d.
func clean(t *testing.T, d *File) {
	t.Helper()
	last := int64(-1)
	r, err := d.Check(context.Background(), func(done, total int64) {
		if done < last || done > total {
			t.Errorf("progress %d of %d after %d", done, total, last)
		}
		last = done
	})
	if err != nil || !r.OK() {
		t.Errorf("check: %v, %v", r.Problems, err)
	}
}

// TestReadQEMUsVHD reads what qemu-img writes, whose disk is the geometry's or
// the size it was told.
func TestReadQEMUsVHD(t *testing.T) {
	for _, disk := range testDisks() {
		if disk.size > vhdMaxDynamic {
			continue // too large for QEMU
		}
		path := rawFile(t, disk.size, disk.puts...)
		for _, kind := range []string{"dynamic", "fixed"} {
			for _, force := range []string{"on", "off"} {
				if disk.size == 0 && kind == "fixed" {
					continue // a footer alone, which QEMU cannot read either
				}
				t.Run(disk.name+"/"+kind+"/"+force, func(t *testing.T) {
					t.Parallel()
					out := filepath.Join(t.TempDir(), "theirs.vhd")
					qemu(t, "qemu-img", "convert", "-f", "raw", "-O", "vpc", "-o", "subformat="+kind+",force_size="+force, path, out)
					d := open(t, out, OpenOptions{RefuseRaw: true})
					if info := qemu(t, "qemu-img", "info", "-f", "vpc", out); !strings.Contains(info, "("+strconv.FormatInt(d.Size(), 10)+" bytes)") {
						t.Errorf("disk of %d bytes is for QEMU\n%s", d.Size(), info)
					}
					clean(t, d)
					backToRaw(t, path, d)
				})
			}
		}
	}
}

// TestVHDSameBytes writes with different numbers of workers beside a sink with
// large blocks, from a file with holes and one without.
func TestVHDSameBytes(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	text := random(r, 5<<20, true)
	sparse := rawFile(t, 20<<20+99, put{3 << 20, text}, put{20 << 20, text[:99]})
	whole := make([]byte, 20<<20+99)
	copy(whole[3<<20:], text)
	copy(whole[20<<20:], text[:99])
	var want []Result
	for i, path := range []string{sparse, sparse, rawFile(t, int64(len(whole)), put{0, whole})} {
		files := []*os.File{create(t, "a"), create(t, "b"), create(t, "c"), create(t, "d")}
		got, err := Write(context.Background(), open(t, path, OpenOptions{Format: Raw}), WriteOptions{Jobs: 1 + 3*i},
			NewVHDWriter(files[0], VHDOptions{}),
			NewVHDWriter(files[1], VHDOptions{Subformat: VHDDynamic}),
			NewVHDWriter(files[2], VHDOptions{Subformat: VHDDynamic, BlockSize: 512 << 10, Timestamp: time.Unix(1e9, 0)}),
			NewQCOW2Writer(files[3], QCOW2Options{Compression: CompressNone, ClusterSize: maxClusterSize >> (i % 2)}))
		if err != nil {
			t.Fatal(err)
		}
		for j, f := range files[:3] {
			b, err := os.ReadFile(f.Name())
			if err != nil {
				t.Fatal(err)
			}
			if got[j].SHA256 != hexSum(b) || got[j].Size != int64(len(b)) {
				t.Errorf("run %d, output %d: result %+v is not what the file holds", i, j, got[j])
			}
			if want != nil && got[j] != want[j] {
				t.Errorf("run %d, output %d: %+v, first %+v", i, j, got[j], want[j])
			}
		}
		if want == nil {
			want = got
		}
	}
}

// TestVHDFooter looks at the fields a platform reads.
func TestVHDFooter(t *testing.T) {
	id := [16]byte{1, 2, 3, 15: 9}
	b := smallVHD(t, VHDOptions{UUID: id, Timestamp: vhdEpoch.Add(5 * time.Second)})
	f := b[len(b)-vhdFooterSize:]
	be := binary.BigEndian
	if len(b)%vhdMiB != vhdFooterSize || be.Uint64(f[48:])%vhdMiB != 0 || be.Uint64(f[48:]) != uint64(len(b)-vhdFooterSize) {
		t.Errorf("current size %d in a file of %d bytes", be.Uint64(f[48:]), len(b))
	}
	if be.Uint64(f[16:]) != 1<<64-1 || be.Uint32(f[60:]) != 2 || be.Uint32(f[24:]) != 5 || !bytes.Equal(f[68:84], id[:]) {
		t.Errorf("footer %x", f[:85])
	}
	derived := smallVHD(t, VHDOptions{Subformat: VHDDynamic})
	if u := derived[68:84]; u[6]>>4 != 8 || u[8]>>6 != 2 {
		t.Errorf("derived UUID %x is not of version 8", u)
	}
	for _, o := range []VHDOptions{{Subformat: "thin"}, {Subformat: VHDDynamic, BlockSize: 1 << 20}, {Timestamp: time.Unix(0, 0)}} {
		src := open(t, rawFile(t, 512), OpenOptions{Format: Raw})
		if _, err := Write(context.Background(), src, WriteOptions{}, NewVHDWriter(create(t, "o"), o)); err == nil {
			t.Errorf("options %+v are accepted", o)
		}
	}
}

// TestVHDGeometry has a value from each branch of the specification's algorithm.
func TestVHDGeometry(t *testing.T) {
	for _, c := range []struct {
		size int64
		want vhdGeometry
	}{
		{0, vhdGeometry{0, 4, 17}}, {5 << 20, vhdGeometry{150, 4, 17}}, {127 << 30, vhdGeometry{65278, 16, 255}},
		{1 << 30, vhdGeometry{2080, 16, 63}}, {500 << 20, vhdGeometry{1015, 16, 63}}, {8 << 30, vhdGeometry{16644, 16, 63}},
		{3 << 40, vhdGeometry{65535, 16, 255}},
	} {
		if got := vhdGeometryOf(c.size / vhdSector); got != c.want {
			t.Errorf("%d bytes: %v, want %v", c.size, got, c.want)
		}
	}
}
