package zfs

import (
	"errors"
	"fmt"
	"testing"
)

// All sizes of dnodes, with attributes of files, of directories that were given
// them at once or later, and hard links to files with spill blocks.
func TestDnodeSizes(t *testing.T) {
	for _, size := range []string{"legacy", "auto", "1k", "2k", "4k", "8k", "16k"} {
		o := testOptions(128 << 20)
		o.Datasets[0].Properties["dnodesize"] = size
		img := make(image, o.Size)
		w, err := NewWriter(img, o)
		if err != nil {
			t.Fatal(err)
		}
		for n, bytes := range []int{0, 1, 88, 500, 1000, 3000, 15000, 40000} {
			x := map[string][]byte{"user.x": random(1, bytes)}
			name := fmt.Sprint("f", n)
			err = errors.Join(err, w.Create(Header{Path: name, Mode: modeRegular, Xattrs: x}, nil), w.Link("l"+name, name),
				w.Create(Header{Path: fmt.Sprint("d", n), Mode: modeDir, Xattrs: x}, nil),
				w.Create(Header{Path: fmt.Sprint("e", n), Mode: modeDir}, nil), w.Create(Header{Path: fmt.Sprint("e", n), Mode: modeDir, Xattrs: x}, nil))
		}
		if err := errors.Join(err, w.Close()); err != nil {
			t.Errorf("dnodesize=%s: %v", size, err)
			continue
		}
		p := img.open(t)
		for _, bad := range check(t, p).Problems {
			t.Errorf("dnodesize=%s: %v", size, bad)
		}
		f, err := p.Dataset("rpool/ROOT/default")
		if err != nil {
			t.Fatal(err)
		}
		for n, bytes := range []int{0, 1, 88, 500, 1000, 3000, 15000, 40000} {
			for _, kind := range []string{"f", "lf", "d", "e"} {
				x, err := f.Xattrs(fmt.Sprint(kind, n))
				if err != nil || string(x["user.x"]) != string(random(1, bytes)) || len(x) != 1 {
					t.Errorf("dnodesize=%s: %s%d: %d attributes, %v", size, kind, n, len(x), err)
				}
			}
		}
	}
}
