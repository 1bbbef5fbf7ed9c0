package zfs_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kldload/kldload/zfs"
)

// A pool of two datasets with one file, read back.
func Example() {
	dir, err := os.MkdirTemp("", "zfs")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	img, err := os.Create(filepath.Join(dir, "tank.img"))
	if err != nil {
		panic(err)
	}
	const size = 64 << 20
	if err := img.Truncate(size); err != nil {
		panic(err)
	}
	w, err := zfs.NewWriter(img, zfs.Options{
		Size: size, Pool: "tank", Seed: "example", Epoch: time.Unix(1700000000, 0), Snapshot: "golden",
		Datasets: []zfs.Dataset{
			{Name: "tank", Properties: map[string]string{"mountpoint": "/", "compression": "zstd-3"}},
			{Name: "tank/home", Properties: map[string]string{"quota": "10M"}},
		},
	})
	if err != nil {
		panic(err)
	}
	hello := "hello\n"
	w.Create(zfs.Header{Path: "home", Mode: 0o40755}, nil)
	w.Create(zfs.Header{Path: "home/hello", Mode: 0o100644, Size: int64(len(hello))}, strings.NewReader(hello))
	if err := w.Close(); err != nil { // the first error of all calls
		panic(err)
	}

	pool, err := zfs.Open(img, size)
	if err != nil {
		panic(err)
	}
	fsys, err := pool.Dataset("tank/home@golden")
	if err != nil {
		panic(err)
	}
	f, err := fsys.Open("hello")
	if err != nil {
		panic(err)
	}
	content, err := io.ReadAll(f)
	fmt.Printf("%s: %q %v\n", pool.Name(), content, err)
	// Output: tank: "hello\n" <nil>
}

// What is left of a file that was written over or deleted is in free space.
func ExamplePool_Remnants() {
	img, err := os.Open("pool.img")
	if err != nil {
		return
	}
	defer img.Close()
	st, err := img.Stat()
	if err != nil {
		return
	}
	pool, err := zfs.Open(img, st.Size())
	if err != nil {
		return
	}
	err = pool.Unused(func(kind string, off, size int64) error {
		if kind != zfs.FreeSpace {
			return nil
		}
		return pool.Remnants(context.Background(), off, size, func(r zfs.Remnant) error {
			if bytes.Contains(r.Data, []byte("PRIVATE KEY")) {
				fmt.Printf("a deleted key at %d of the device (%s)\n", r.Offset, r.Form)
			}
			return nil
		})
	})
	if err != nil {
		fmt.Println(err)
	}
}
