package zfs

import (
	"context"
	"fmt"
	"io/fs"
	"testing"
	"time"
)

// fuzzOptions make a small pool whose blocks are stored as they are, for a
// change in one to reach what parses it.
func fuzzOptions() Options {
	return Options{
		Size: MinSize, Pool: "fuzz", Seed: "fuzz", Epoch: epoch, Snapshot: "s", Properties: map[string]string{"bootfs": "fuzz"},
		Datasets: []Dataset{{Name: "fuzz", Properties: map[string]string{"mountpoint": "/", "compression": "off"}}, {Name: "fuzz/a"}},
	}
}

func fuzzTree() []treeFile {
	all := sampleTree()
	var list []treeFile
	for _, f := range all[:len(all)-2960] {
		if len(f.body) < 20000 {
			list = append(list, f)
		}
	}
	return list
}

// patched is an image with some bytes changed.
type patched struct {
	image
	at    int64
	bytes []byte
}

func (p *patched) ReadAt(b []byte, off int64) (int, error) {
	n := copy(b, p.image[off:])
	for i, c := range p.bytes {
		if at := p.at + int64(i) - off; at >= 0 && at < int64(n) {
			b[at] ^= c
		}
	}
	return n, nil
}

// useAll reads all there is; errors are fine.
func useAll(ctx context.Context, p *Pool) {
	list, _ := p.Datasets()
	for _, d := range list {
		if f, err := p.Dataset(d.Name); err == nil {
			readAll(ctx, f)
		}
	}
	if t, err := p.Tree(""); err == nil {
		readAll(ctx, t)
	}
	_, _ = p.Check(ctx, CheckOptions{})
	_ = p.Unused(func(kind string, off, size int64) error {
		if off < 0 || size <= 0 || off > p.size-size {
			panic(fmt.Sprintf("%s: %d bytes at %d of %d", kind, size, off, p.size))
		}
		return ctx.Err()
	})
	if f, err := p.Volume("fuzz/a"); err == nil {
		_, _, _ = f.NextData(0)
	}
}

func readAll(ctx context.Context, f nodeFS) {
	buf := make([]byte, 4096)
	_ = fs.WalkDir(f, ".", func(name string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return fs.SkipAll
		}
		if err != nil {
			return nil
		}
		_, _ = f.Node(name)
		_, _ = f.Resolve(name)
		if o, err := f.Open(name); err == nil {
			if file, ok := o.(*File); ok {
				_, _ = file.ReadAt(buf, 0)
				_, _, _ = file.NextData(0)
			}
		}
		return nil
	})
}

// FuzzOpen changes bytes anywhere in the space that a pool uses, or in its
// labels, and does not look at checksums.
func FuzzOpen(f *testing.F) {
	m := writePool(f, fuzzOptions(), fuzzTree())
	used := int64(0)
	for i, b := range m[:len(m)-1<<20] {
		if b != 0 {
			used = int64(i)
		}
	}
	f.Add(uint32(0), []byte{})
	f.Add(uint32(16<<10+100), []byte{1, 2, 3})
	for at := int64(4 << 20); at < used; at += used / 40 {
		f.Add(uint32(at+66), []byte{0x80, 1, 0xff, 0x40})
	}
	f.Fuzz(func(t *testing.T, at uint32, change []byte) {
		if len(change) > 4096 {
			return
		}
		r := &patched{m, int64(at) % used, change}
		p := &Pool{r: r, size: int64(len(m)), dev: &device{r: r, lax: true}}
		if p.open() != nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		useAll(ctx, p)
		if ctx.Err() != nil {
			t.Errorf("bytes at %d: not done after a minute", int64(at)%used)
		}
	})
}
