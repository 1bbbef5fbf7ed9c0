package tree

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math"
	"path"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// ReadArchive calls f for each file of a tar archive as people's tools make
// them: ustar, GNU and PAX, with sparse files, extended attributes as GNU tar,
// star and bsdtar store them, ACLs with numeric ids, times to the nanosecond;
// plain or packed with gzip, zstd or bzip2, told by content. Names may begin
// with "./"; a name that is absolute or has ".." in it, or comes twice, is an
// error. Directories that the archive does not have, or has later, come before
// what is in them, with mode 0755 and no time; one that comes later comes
// again, with what the archive says of it.
//
// Entry and body are f's until it returns.
func ReadArchive(r io.Reader, f func(e *Entry, body io.Reader) error) error {
	plain, done, err := unpacked(r)
	if err != nil {
		return fmt.Errorf("reading the archive: %w", err)
	}
	defer done()
	a := &archive{tr: tar.NewReader(plain), f: f, dirs: map[string]bool{".": true}, seed: maphash.MakeSeed(), others: map[uint64]struct{}{}}
	for err == nil {
		err = a.next()
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// packings are what an archive may begin with.
var packings = []struct {
	magic, name string
	open        func(r io.Reader) (io.Reader, func(), error)
}{
	{"\x1f\x8b", "gzip", func(r io.Reader) (io.Reader, func(), error) {
		z, err := gzip.NewReader(r)
		return z, func() {}, err
	}},
	{"\x28\xb5\x2f\xfd", "zstd", func(r io.Reader) (io.Reader, func(), error) {
		z, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	}},
	{"BZh", "bzip2", func(r io.Reader) (io.Reader, func(), error) { return bzip2.NewReader(r), func() {}, nil }},
	{"\xfd7zXZ\x00", "xz", nil},
	{"\x04\x22\x4d\x18", "lz4", nil},
	{"LZIP", "lzip", nil},
}

// unpacked undoes the packing of an archive.
func unpacked(r io.Reader) (io.Reader, func(), error) {
	in := bufio.NewReaderSize(r, 1<<20)
	head, err := in.Peek(512)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	for _, p := range packings {
		if !bytes.HasPrefix(head, []byte(p.magic)) {
			continue
		}
		if p.open == nil {
			return nil, nil, fmt.Errorf("it is packed with %s: want tar, plain or packed with gzip, zstd or bzip2\nhint: unpack it on the way: %s -dc FILE | … --from -", p.name, p.name)
		}
		return p.open(in)
	}
	if len(head) == 0 {
		return nil, nil, errors.New("it is empty: want a tar archive")
	}
	return in, func() {}, nil
}

type archive struct {
	tr   *tar.Reader
	f    func(e *Entry, body io.Reader) error
	dirs map[string]bool
	// others are hashes of the names of all other files: a million of them are
	// to be remembered.
	seed   maphash.Seed
	others map[uint64]struct{}
}

// next hands one entry on; io.EOF after the last.
func (a *archive) next() error {
	h, err := a.tr.Next()
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	if err != nil {
		return fmt.Errorf("reading the archive: %w", err)
	}
	if h.Typeflag == tar.TypeXGlobalHeader || h.Typeflag == 'V' { // comments of git archive; GNU volume labels
		return nil
	}
	e, err := archiveEntry(h)
	if err != nil {
		return fmt.Errorf("reading the archive: %q: %w", h.Name, err)
	}
	if err := a.know(e); err != nil {
		return fmt.Errorf("reading the archive: %q: %w", h.Name, err)
	}
	if e.IsRegular() {
		return a.f(e, a.tr)
	}
	return a.f(e, nil)
}

// know notes a name, and makes the directories it lies in.
func (a *archive) know(e *Entry) error {
	if dir := path.Dir(e.Path); !a.dirs[dir] {
		if err := a.makeDir(dir); err != nil {
			return err
		}
	}
	if e.Mode&unix.S_IFMT == unix.S_IFDIR {
		a.dirs[e.Path] = true
		if _, there := a.others[a.hash(e.Path)]; there {
			return errors.New("the archive has another file of that name")
		}
		return nil
	}
	_, there := a.others[a.hash(e.Path)]
	if there || a.dirs[e.Path] {
		return errors.New("the archive has that name twice")
	}
	a.others[a.hash(e.Path)] = struct{}{}
	return nil
}

func (a *archive) hash(name string) uint64 { return maphash.String(a.seed, name) }

func (a *archive) makeDir(name string) error {
	if _, there := a.others[a.hash(name)]; there {
		return fmt.Errorf("%q is no directory in the archive", name)
	}
	if parent := path.Dir(name); !a.dirs[parent] {
		if err := a.makeDir(parent); err != nil {
			return err
		}
	}
	a.dirs[name] = true
	return a.f(&Entry{Path: name, Mode: unix.S_IFDIR | 0o755}, nil)
}

// archiveEntry turns a header of any tar into an entry.
func archiveEntry(h *tar.Header) (*Entry, error) {
	switch h.Typeflag {
	case tar.TypeGNUSparse, tar.TypeCont:
		h.Typeflag = tar.TypeReg
	}
	for _, name := range []string{h.Name, h.Linkname} {
		if h.Typeflag == tar.TypeSymlink && name == h.Linkname {
			continue
		}
		if err := refuseUnsafe(name); err != nil {
			return nil, err
		}
	}
	for _, n := range []int64{int64(h.Uid), int64(h.Gid), h.Devmajor, h.Devminor} {
		if n < 0 || n > math.MaxUint32 {
			return nil, fmt.Errorf("owner or device number %d: want at most %d", n, uint32(math.MaxUint32))
		}
	}
	e, err := entryOf(h)
	if err != nil {
		return nil, err
	}
	e.AccessTime, e.ChangeTime = h.AccessTime, h.ChangeTime
	if h.Typeflag != tar.TypeReg {
		e.Size = 0
	}
	if h.Typeflag == tar.TypeSymlink && e.Symlink == "" {
		return nil, errors.New("a symbolic link without a target")
	}
	return e, moreXattrs(e, h.PAXRecords)
}

// refuseUnsafe refuses what tar would not extract as it stands.
func refuseUnsafe(name string) error {
	if strings.HasPrefix(name, "/") {
		return fmt.Errorf("the name %q is absolute\nhint: tar -C / -cf … . makes names that are not", name)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return fmt.Errorf("the name %q leads out of the tree", name)
		}
	}
	return nil
}
