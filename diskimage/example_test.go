package diskimage_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/kldload/kldload/diskimage"
)

// sourceDisk makes a raw disk of 1 GiB with a few bytes in it.
func sourceDisk(dir string) string {
	path := filepath.Join(dir, "disk.raw")
	f, err := os.Create(path)
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(1 << 30); err != nil {
		log.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("hello, disk"), 512<<20); err != nil {
		log.Fatal(err)
	}
	return path
}

// Two formats from one read. A program that wants a file to appear whole or
// not at all writes to a temporary name and renames it at the end.
func ExampleWrite() {
	dir, err := os.MkdirTemp("", "diskimage")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	disk, err := diskimage.Open(sourceDisk(dir), diskimage.OpenOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer disk.Close()
	fmt.Println(disk.Info().Format, disk.Size())

	small, err := os.Create(filepath.Join(dir, "small.qcow2"))
	if err != nil {
		log.Fatal(err)
	}
	defer small.Close()
	fast, err := os.Create(filepath.Join(dir, "fast.qcow2"))
	if err != nil {
		log.Fatal(err)
	}
	defer fast.Close()

	results, err := diskimage.Write(context.Background(), disk, diskimage.WriteOptions{},
		diskimage.NewQCOW2Writer(small, diskimage.QCOW2Options{}),
		diskimage.NewQCOW2Writer(fast, diskimage.QCOW2Options{Compression: diskimage.CompressNone}))
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range results {
		fmt.Println(r.Format, r.Size, len(r.SHA256))
	}
	// Output:
	// raw 1073741824
	// qcow2 393216 64
	// qcow2 393216 64
}

// Walking the data of a disk without reading its holes.
func ExampleDisk() {
	dir, err := os.MkdirTemp("", "diskimage")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	disk, err := diskimage.Open(sourceDisk(dir), diskimage.OpenOptions{Format: diskimage.Raw})
	if err != nil {
		log.Fatal(err)
	}
	defer disk.Close()
	for off := int64(0); ; {
		start, end, err := disk.NextData(off)
		if err != nil {
			log.Fatal(err)
		}
		if start >= end {
			break
		}
		text := make([]byte, 11)
		if _, err := disk.ReadAt(text, start); err != nil {
			log.Fatal(err)
		}
		fmt.Printf("data at %d MiB: %s\n", start>>20, text)
		off = end
	}
	// Output:
	// data at 512 MiB: hello, disk
}

// A qcow2 image in any io.ReaderAt; the backing file is opened by the caller.
func ExampleOpenQCOW2() {
	dir, err := os.MkdirTemp("", "diskimage")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	raw, err := diskimage.Open(sourceDisk(dir), diskimage.OpenOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer raw.Close()
	f, err := os.Create(filepath.Join(dir, "disk.qcow2"))
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	results, err := diskimage.Write(context.Background(), raw, diskimage.WriteOptions{},
		diskimage.NewQCOW2Writer(f, diskimage.QCOW2Options{}))
	if err != nil {
		log.Fatal(err)
	}

	disk, err := diskimage.OpenQCOW2(f, results[0].Size, diskimage.QCOW2ReadOptions{
		OpenBacking: func(name string, format diskimage.Format) (diskimage.Disk, error) {
			return nil, fmt.Errorf("backing file %q is not wanted here", name)
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(disk.Size(), disk.Info().BlockSize)
	// Output:
	// 1073741824 65536
}
