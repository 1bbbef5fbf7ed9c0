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
	// NoBacking opens an image without the file below it, to look at the image
	// itself: what it does not hold reads as zeros. Backing is then ignored.
	NoBacking bool
	// Check, when set, is called with each file before anything is read of it,
	// files below included; its error ends the opening. InUse is meant for it.
	Check func(f *os.File) error
	// RefuseRaw makes an image without a known magic an error.
	RefuseRaw bool
	// TempDir is where images that cannot be read at random are unpacked;
	// empty means os.TempDir().
	TempDir string
}

// Open opens the image at path.
func Open(path string, opts OpenOptions) (*File, error) {
	return openChain(path, opts, nil)
}

// openChain opens path as a further link below the files in above.
func openChain(path string, opts OpenOptions, above []os.FileInfo) (*File, error) {
	if st, err := os.Stat(path); err == nil { // opening a pipe may wait for ever
		if err := seekable(st); err != nil {
			return nil, fmt.Errorf("opening %q: %w", path, err)
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	img, err := openFile(f, opts, above)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening %q: %w", path, err), f.Close())
	}
	return img, nil
}

// seekable refuses what has no end or is not read at an offset.
func seekable(st os.FileInfo) error {
	switch st.Mode().Type() {
	case 0, os.ModeDevice:
		return nil
	case os.ModeDir:
		return errors.New("is a directory, want an image")
	case os.ModeNamedPipe:
		return errors.New("is a pipe, want a file or a block device")
	}
	return fmt.Errorf("is neither a file nor a block device (mode %v)", st.Mode())
}

// source is a file on its way to becoming an Image: what a format's opener
// gets. Offsets in it are those of raw.
type source struct {
	f    *os.File
	raw  *RawDisk
	size int64
	opts OpenOptions
	// chain are the files already open above and this one, for formats whose
	// images name further files.
	chain []os.FileInfo
	// close gathers what the image holds besides f.
	close []func() error
}

func openFile(f *os.File, opts OpenOptions, above []os.FileInfo) (*File, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := seekable(st); err != nil {
		return nil, err
	}
	if opts.Check != nil {
		if err := opts.Check(f); err != nil {
			return nil, err
		}
	}
	for _, up := range above {
		if os.SameFile(up, st) {
			return nil, corruptf("backing chain comes back to this file")
		}
	}
	if len(above) >= maxChain {
		return nil, corruptf("backing chain is longer than %d images", maxChain)
	}
	raw, err := OpenRaw(f)
	if err != nil {
		return nil, err
	}
	format := opts.Format
	if format == "" {
		if format, err = Detect(f, raw.Size()); err != nil {
			return nil, err
		}
		if format == Raw && opts.RefuseRaw {
			return nil, unsupportedf("no known magic in its first or last sector")
		}
	}
	s := &source{f: f, raw: raw, size: raw.Size(), opts: opts, chain: append(above, st), close: []func() error{f.Close}}
	img, err := s.open(format)
	if err != nil {
		return nil, errors.Join(err, closeAll(s.close[1:]))
	}
	return &File{Image: img, close: s.close, stat: st}, nil
}

// open is the one list of the formats that can be read.
func (s *source) open(format Format) (Image, error) {
	switch format {
	case Raw:
		return s.raw, nil
	case QCOW2:
		return s.openQCOW2()
	case VHD:
		return OpenVHD(s.raw, s.size)
	case GCP:
		return s.openGCP()
	case Gzip, XZ, Zstd:
		return nil, unsupportedf("file is packed with %s: unpack it first (%s -dk)", format, format)
	case VMDK:
		return s.openVMDK()
	case VHDX:
		return OpenVHDX(s.raw, s.size)
	case OVA:
		return OpenOVA(s.raw, s.size)
	}
	return nil, unsupportedf("format %q has no reader here", format)
}

// closeAll closes in the order given and reports every failure.
func closeAll(closers []func() error) error {
	var errs []error
	for _, c := range closers {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}

func (s *source) openQCOW2() (Image, error) {
	q := QCOW2ReadOptions{}
	if s.opts.NoBacking {
		q.OpenBacking = func(string, Format) (Disk, error) { return noDisk{}, nil }
	} else if s.opts.Backing {
		dir := filepath.Dir(s.f.Name())
		q.OpenBacking = func(name string, format Format) (Disk, error) {
			path, err := backingPath(dir, name)
			if err != nil {
				return nil, err
			}
			return openChain(path, OpenOptions{Format: format, Backing: true, TempDir: s.opts.TempDir, Check: s.opts.Check}, s.chain)
		}
	}
	d, err := OpenQCOW2(s.raw, s.size, q)
	if err != nil {
		return nil, err
	}
	s.close = append(s.close, d.Close)
	return d, nil
}

func (s *source) openGCP() (Image, error) {
	d, err := OpenGCP(s.raw, s.size, GCPReadOptions{TempDir: s.opts.TempDir})
	if err != nil {
		return nil, err
	}
	s.close = append(s.close, d.Close)
	return d, nil
}

// openVMDK opens a VMDK; its extents are files beside it, so nothing but plain
// names gets here.
func (s *source) openVMDK() (Image, error) {
	v := VMDKReadOptions{}
	if s.opts.Backing || s.opts.NoBacking { // extents are parts of the image
		dir := filepath.Dir(s.f.Name())
		v.OpenExtent = func(name string) (Disk, error) {
			return openChain(filepath.Join(dir, name), OpenOptions{Format: Raw, Check: s.opts.Check}, s.chain)
		}
	}
	d, err := OpenVMDK(s.raw, s.size, v)
	if err != nil {
		return nil, err
	}
	s.close = append(s.close, d.Close)
	return d, nil
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

// noDisk stands for a file below that is not opened.
type noDisk struct{}

func (noDisk) ReadAt([]byte, int64) (int, error)            { return 0, io.EOF }
func (noDisk) Size() int64                                  { return 0 }
func (noDisk) NextData(int64) (start, end int64, err error) { return 0, 0, nil }
