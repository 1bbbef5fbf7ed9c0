package zpool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/kldload/kldload/diskimage"
	"github.com/kldload/kldload/internal/gpt"
	"github.com/kldload/kldload/zfs"
)

// Image is a pool in a file: by itself, or in a partition of a disk, of any
// format that package diskimage reads.
type Image struct {
	*zfs.Pool
	// Offset and Size are where in the disk the pool lies, in bytes.
	Offset, Size int64
	file         *diskimage.File
}

// DamagedError says that a file was read and holds no pool that can be opened.
type DamagedError struct{ Err error }

func (e *DamagedError) Error() string { return e.Err.Error() }
func (e *DamagedError) Unwrap() error { return e.Err }

// Open opens the pool in a file.
func Open(path string) (*Image, error) {
	f, err := diskimage.Open(path, diskimage.OpenOptions{})
	if err != nil {
		return nil, err
	}
	img := &Image{file: f}
	if err := img.find(f, f.Info().VirtualSize); err != nil {
		return nil, errors.Join(&DamagedError{fmt.Errorf("opening the pool in %q: %w", path, err)}, f.Close())
	}
	return img, nil
}

// Close closes the file.
func (i *Image) Close() error { return i.file.Close() }

// find takes the first partition that holds a pool, those of ZFS's type first;
// or the whole disk.
func (i *Image) find(r io.ReaderAt, size int64) error {
	table, err := gpt.Read(r, size)
	if err != nil { // no table: a pool has its first label there
		pool, err := zfs.Open(r, size)
		i.Pool, i.Size = pool, size
		return err
	}
	var errs []error
	for _, typed := range []bool{true, false} {
		for _, p := range table.Partitions {
			if (p.Type == gpt.TypeZFS) != typed {
				continue
			}
			pool, err := zfs.Open(io.NewSectionReader(r, p.Start, p.Size), p.Size)
			if err == nil {
				i.Pool, i.Offset, i.Size = pool, p.Start, p.Size
				return nil
			}
			if typed {
				errs = append(errs, fmt.Errorf("partition %d: %w", p.Number, err))
			}
		}
	}
	if len(errs) == 0 {
		return fmt.Errorf("none of the disk's %d partitions holds a pool", len(table.Partitions))
	}
	return errors.Join(errs...)
}

// Files are those of a dataset, or of a system with its datasets joined.
type Files interface {
	fs.ReadDirFS
	Lstat(name string) (fs.FileInfo, error)
	ReadLink(name string) (string, error)
	Resolve(name string) (string, error)
}

// Target splits IMAGE[:DATASET[@SNAPSHOT][/PATH]] or IMAGE:/PATH. where is "" when
// the image alone is named. Names of files may hold colons.
func Target(text string) (image, where string) {
	if _, err := os.Lstat(text); err == nil {
		return text, ""
	}
	for at := len(text); ; {
		if at = strings.LastIndexByte(text[:at], ':'); at <= 0 {
			image, where, _ = strings.Cut(text, ":")
			return image, where
		}
		if _, err := os.Lstat(text[:at]); err == nil {
			return text[:at], text[at+1:]
		}
	}
}

// Files gives the file system that where names, and the path in it: the
// longest dataset's name that it begins with, or with a leading slash the
// system that bootfs is the root of.
func (i *Image) Files(where string) (files Files, path string, err error) {
	if path, ok := strings.CutPrefix(where, "/"); ok {
		t, err := i.Tree("")
		return t, orDot(path), err
	}
	list, err := i.Datasets()
	if err != nil && len(list) == 0 {
		return nil, "", err
	}
	best := ""
	longer := func(name string) {
		if len(name) > len(best) && (where == name || strings.HasPrefix(where, name+"/")) {
			best = name
		}
	}
	for _, d := range list {
		longer(d.Name)
		for _, s := range d.Snapshots {
			longer(s.Name)
		}
	}
	if best == "" {
		return nil, "", fmt.Errorf("%q: the pool has no such dataset (the pool is %q)\nhint: kldload zfs ls IMAGE lists them", where, i.Name())
	}
	set, err := i.Dataset(best)
	if err != nil {
		return nil, "", err
	}
	return set, orDot(strings.TrimPrefix(strings.TrimPrefix(where, best), "/")), nil
}

func orDot(path string) string {
	if path = strings.TrimRight(path, "/"); path == "" {
		return "."
	}
	return path
}
