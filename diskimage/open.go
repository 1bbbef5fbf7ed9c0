package diskimage

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// maxChain bounds a backing chain, the top image included.
const maxChain = 32

// OpenOptions says what Open may do. The zero value recognises the format and
// refuses images with a backing file.
type OpenOptions struct {
	// Format, when set, is taken as the format without looking.
	Format Format
	// Backing lets an image name further files to open, relative to its own
	// folder. Only for images you trust: the name can be any path.
	Backing bool
	// RefuseRaw makes an image without a known magic an error.
	RefuseRaw bool
}

// DiskCloser is an open image: a Disk and the files it holds.
type DiskCloser interface {
	Disk
	io.Closer
}

// Open opens the image at path and tells its format.
func Open(path string, opts OpenOptions) (DiskCloser, Format, error) {
	return openChain(path, opts, nil)
}

// openChain opens path as a further link below the files in above.
func openChain(path string, opts OpenOptions, above []os.FileInfo) (DiskCloser, Format, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, "", err
	}
	d, format, err := openFile(f, opts, above)
	if err != nil {
		return nil, "", errors.Join(fmt.Errorf("opening %q: %w", path, err), f.Close())
	}
	return d, format, nil
}

func openFile(f *os.File, opts OpenOptions, above []os.FileInfo) (DiskCloser, Format, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, "", err
	}
	if st.IsDir() {
		return nil, "", errors.New("is a directory, want an image")
	}
	for _, up := range above {
		if os.SameFile(up, st) {
			return nil, "", corruptf("backing chain comes back to this file")
		}
	}
	if len(above) >= maxChain {
		return nil, "", corruptf("backing chain is longer than %d images", maxChain)
	}
	raw, err := OpenRaw(f)
	if err != nil {
		return nil, "", err
	}
	format := opts.Format
	if format == "" {
		if format, err = Detect(f, raw.Size()); err != nil {
			return nil, "", err
		}
		if format == Raw && opts.RefuseRaw {
			return nil, "", unsupportedf("no known magic in its first or last sector")
		}
	}
	switch format {
	case Raw:
		return raw, Raw, nil
	case QCOW2:
		d, err := openQCOW2File(raw, opts, append(above, st))
		return d, QCOW2, err
	}
	return nil, "", unsupportedf("format %q has no reader here (have %s, %s)", format, Raw, QCOW2)
}

// fileQCOW2 is a qcow2 disk together with the file it is read from.
type fileQCOW2 struct {
	*QCOW2Disk
	file io.Closer
}

func (d fileQCOW2) Close() error { return errors.Join(d.QCOW2Disk.Close(), d.file.Close()) }

func openQCOW2File(raw *RawDisk, opts OpenOptions, chain []os.FileInfo) (DiskCloser, error) {
	q := QCOW2ReadOptions{}
	if opts.Backing {
		dir := filepath.Dir(raw.f.Name())
		q.OpenBacking = func(name string, format Format) (Disk, error) {
			path, err := backingPath(dir, name)
			if err != nil {
				return nil, err
			}
			d, _, err := openChain(path, OpenOptions{Format: format, Backing: true}, chain)
			return d, err
		}
	}
	d, err := OpenQCOW2(raw, raw.Size(), q)
	if err != nil {
		return nil, err
	}
	return fileQCOW2{d, raw}, nil
}

// backingPath turns the name in a header into a path. QEMU also takes URLs and
// json: descriptions there (qemu(1), "block device"); only files are followed.
func backingPath(dir, name string) (string, error) {
	name = strings.TrimPrefix(name, "file:")
	if strings.HasPrefix(name, "json:") || strings.Contains(name, "://") {
		return "", unsupportedf("backing file %q is not a plain path", name)
	}
	if strings.ContainsRune(name, 0) {
		return "", corruptf("backing file name %q holds a zero byte", name)
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(dir, name)
	}
	return name, nil
}
