package zfs

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"runtime"
	"strings"

	"github.com/kldload/kldload/zfs/internal/ondisk"
	"github.com/kldload/kldload/zfs/internal/sa"
)

// Limits of a pool.
const (
	MinSize       = 64 << 20              // bytes (SPA_MINDEVSIZE)
	MaxSize       = 1 << 47               // bytes: the array of as many metaslabs fits into a block
	maxFile       = 1<<63 - maxRecordSize // bytes: its end, in whole blocks, is an int64
	maxRecordSize = 1 << 20               // zfs_max_recordsize of OpenZFS 2.1
	maxName       = 255                   // bytes of a file's name (MAXNAMELEN without its NUL)
	maxLink       = 4095                  // of a symbolic link's target (PATH_MAX)
	maxXattr      = 64 << 10              // of an extended attribute's value (XATTR_SIZE_MAX)
)

// Writer puts files into a new pool. It is not safe for concurrent use. After
// an error it stays broken: each later call gives that error. Close must be
// called in any case; it ends the workers.
type Writer struct {
	opts     Options
	pool     poolOptions
	pipe     *pipe
	space    *space
	features *featureSet
	out      io.WriterAt

	systems []*filesystem
	mounts  map[string]*filesystem // by mountpoint
	above   map[string]*filesystem // one that is mounted below, by path
	dirs    map[string]*directory  // by path
	covered map[string]*directory  // those that a dataset is mounted over
	seeds   uint64
	err     error
	closed  bool
	stats   Stats
}

// Stats are what a finished pool holds, in bytes but for the counts.
type Stats struct {
	Files, Directories int64
	Logical            int64 // content of files, without holes
	Allocated          int64 // space in use, all copies
}

// NewWriter starts a pool in w, whose first opts.Size bytes must read as zeros:
// what is not in use is never written, so a sparse file stays sparse.
func NewWriter(w io.WriterAt, opts Options) (*Writer, error) {
	if err := opts.check(); err != nil {
		return nil, fmt.Errorf("making pool %q: %w", opts.Pool, err)
	}
	pool, err := opts.poolOptions()
	if err != nil {
		return nil, fmt.Errorf("making pool %q: %w", opts.Pool, err)
	}
	z := &Writer{opts: opts, pool: pool, out: w, mounts: map[string]*filesystem{}, above: map[string]*filesystem{}, dirs: map[string]*directory{}, covered: map[string]*directory{}}
	z.features = newFeatureSet(compatibilities[pool.compatibility])
	z.space = newSpace(opts.Size)
	if opts.Workers <= 0 {
		z.opts.Workers = runtime.GOMAXPROCS(0)
	}
	z.pipe = newPipe(w, z.space, opts.Size, z.opts.Workers)
	if err := z.addDatasets(); err != nil {
		z.pipe.close()
		return nil, fmt.Errorf("making pool %q: %w", opts.Pool, err)
	}
	return z, nil
}

// addDatasets makes the file systems, each with what it inherits.
func (z *Writer) addDatasets() error {
	inherited := map[string]settings{}
	for _, d := range z.opts.Datasets {
		own, err := parseProperties(d)
		if err != nil {
			return err
		}
		s := defaults(z.opts.Pool)
		if parent, base := path.Split(d.Name); parent != "" {
			s = inherited[strings.TrimSuffix(parent, "/")].child(base)
		}
		s = s.with(own)
		inherited[d.Name] = s
		if err := z.checkFeatures(d.Name, s); err != nil {
			return err
		}
		o := sa.EncodeOptions{MaxSlots: s.dnodeSlots, ProjID: z.features.has(featProjectQuota)}
		set := newFileSet(z.pipe, s.metaCopies(), newAccounting(z.features, z.salt()))
		fs := newFilesystem(d.Name, s, own, z.pipe, set, o, z.opts.Epoch, z.salt)
		z.systems = append(z.systems, fs)
		if z.opts.Apart {
			continue
		}
		if err := z.mount(fs); err != nil {
			return err
		}
	}
	return nil
}

// checkFeatures refuses what the pool's features do not have.
func (z *Writer) checkFeatures(name string, s settings) error {
	var missing string
	switch {
	case s.method.Compression == ondisk.CompressZSTD && !z.features.has(featZSTD):
		missing = "compression=zstd"
	case s.recordSize > ondisk.OldMaxBlock && !z.features.has(featLargeBlocks):
		missing = "recordsize above 128K"
	case s.dnodeSlots > 1 && !z.features.has(featLargeDnode):
		missing = "dnodesize other than legacy"
	default:
		return nil
	}
	return fmt.Errorf("dataset %q: %s needs a feature that compatibility=%s leaves out", name, missing, z.pool.compatibility)
}

// mount notes where a dataset's files come from.
func (z *Writer) mount(fs *filesystem) error {
	s := fs.settings
	if !s.canMount || s.mountpoint == "" {
		return nil
	}
	if other := z.mounts[s.mountpoint]; other != nil {
		return fmt.Errorf("dataset %q: mountpoint %q is that of %q, too", fs.name, s.mountpoint, other.name)
	}
	z.mounts[s.mountpoint] = fs
	for at := path.Dir(s.mountpoint); at != "/"; at = path.Dir(at) {
		z.above[at] = fs
	}
	fs.root.path = s.mountpoint
	z.dirs[s.mountpoint] = fs.root
	return nil
}

// derive gives 64 bits that follow from the seed.
func (z *Writer) derive(what string) uint64 {
	sum := sha256.Sum256([]byte("kldload zfs\x00" + what + "\x00" + z.opts.Seed))
	return binary.LittleEndian.Uint64(sum[:])
}

// salt gives the next hash salt.
func (z *Writer) salt() uint64 {
	z.seeds++
	return z.derive(fmt.Sprintf("salt %d", z.seeds)) | 1
}

// guid derives a GUID: any number but 0.
func (z *Writer) guid(what string) uint64 { return max(z.derive("guid "+what), 1) }

// Create adds a file. Its parent directory must be there already, or be where
// a dataset is mounted; nothing else about the order matters except that it
// decides the layout. For a regular file body must give exactly h.Size bytes;
// a HoleReader saves reading its holes. For others it is not read and may be
// nil. A directory that is there already gets the new metadata, as the roots
// of datasets do.
func (z *Writer) Create(h Header, body io.Reader) error {
	return z.guard(func() error { return z.create(h, body) })
}

// Link adds another name for an earlier file that is no directory.
func (z *Writer) Link(name, target string) error {
	return z.guard(func() error { return z.link(name, target) })
}

// guard runs f unless the writer is broken, and breaks it when f fails.
func (z *Writer) guard(f func() error) error {
	if z.closed {
		return errors.New("writing to a pool: it is closed")
	}
	if z.err == nil {
		z.err = z.pipe.failed()
	}
	if z.err == nil {
		z.err = f()
	}
	return z.err
}

func (z *Writer) create(h Header, body io.Reader) error {
	name, err := z.treePath(h.Path)
	if err != nil {
		return err
	}
	if err := checkHeader(&h); err != nil {
		return fmt.Errorf("%q: %w", h.Path, err)
	}
	attrs := z.attrs(&h)
	if h.Mode&modeType == modeDir {
		return z.createDir(name, attrs)
	}
	if err := z.leadsNowhere(name, h.Mode); err != nil {
		return fmt.Errorf("%q: %w", h.Path, err)
	}
	parent, base, err := z.parent(name)
	if err != nil {
		return err
	}
	number, err := parent.fs.create(h.Path, parent, attrs, body, h.Size)
	if err != nil {
		return err
	}
	parent.add(base, attrs.Mode, number)
	z.stats.Files++
	return nil
}

// leadsNowhere refuses a file in place of a mountpoint, or of a directory that
// leads to one; a symbolic link may lead there.
func (z *Writer) leadsNowhere(name string, mode uint32) error {
	if fs := z.mounts[name]; fs != nil {
		return fmt.Errorf("dataset %q is mounted there: want a directory", fs.name)
	}
	if fs := z.above[name]; fs != nil && mode&modeType != modeSymlink {
		return fmt.Errorf("dataset %q is mounted below it, at %q: want a directory", fs.name, fs.settings.mountpoint)
	}
	return nil
}

// parent finds the directory that a path lies in.
func (z *Writer) parent(name string) (*directory, string, error) {
	dir, base := path.Split(name)
	if dir != "/" {
		dir = strings.TrimSuffix(dir, "/")
	}
	if d := z.dirs[dir]; d != nil {
		return d, base, nil
	}
	for at := dir; ; at = path.Dir(at) {
		if z.mounts[at] != nil {
			return nil, "", fmt.Errorf("%q: its parent directory is not there: want parents before children", name)
		}
		if at == "/" {
			return nil, "", fmt.Errorf("%q: no dataset is mounted at or above it\nhint: set a dataset's mountpoint", name)
		}
	}
}

// createDir makes a directory, or gives it its metadata. Where a dataset is
// mounted, that is its root's, and the dataset around it gets an empty one.
func (z *Writer) createDir(name string, a sa.Attrs) error {
	if d := z.dirs[name]; d != nil {
		d.setAttrs(a)
	}
	known := z.dirs
	if z.mounts[name] != nil {
		known = z.covered
	}
	if d := known[name]; d != nil {
		d.setAttrs(a)
		return nil
	}
	parent, base, err := z.parent(name)
	if z.mounts[name] != nil && (name == "/" || err != nil) {
		return nil // nothing is around it
	}
	if err != nil {
		return err
	}
	known[name] = parent.child(base, name, a)
	z.stats.Directories++
	return nil
}

// setAttrs replaces what is known of a directory.
func (d *directory) setAttrs(a sa.Attrs) {
	a.Parent = d.attrs.Parent
	d.attrs = a
}

// create writes one file of a kind that is no directory, and gives its object.
func (fs *filesystem) create(name string, parent *directory, a sa.Attrs, body io.Reader, size int64) (uint64, error) {
	a.Parent, a.Links, a.Gen = parent.object, 1, birthTxg
	inDir := fs.splitXattrs(&a)
	o, err := fs.newFile(name, ondisk.TypePlainFile, &a)
	if err != nil {
		return 0, err
	}
	if a.Mode&modeType == modeRegular {
		err = o.putContent(body, size)
	} else {
		o.end()
	}
	if err == nil {
		err = fs.putXattrDir(o.number, name, &a, inDir)
	}
	return o.number, err
}

// link adds a name to a file.
func (z *Writer) link(name, target string) error {
	to, err := z.treePath(name)
	if err != nil {
		return err
	}
	from, err := z.treePath(target)
	if err != nil {
		return err
	}
	parent, base, err := z.parent(to)
	if err != nil {
		return err
	}
	source, sourceBase, err := z.parent(from)
	if err != nil {
		return err
	}
	e, ok := source.find(sourceBase)
	switch {
	case !ok:
		return fmt.Errorf("linking %q to %q: there is no such file", name, target)
	case e.value>>entryTypeShift == modeDir>>12:
		return fmt.Errorf("linking %q to %q: want a file that is no directory", name, target)
	case source.fs != parent.fs:
		return fmt.Errorf("linking %q to %q: they are in datasets %q and %q\nhint: a hard link stays in one dataset; mount neither between them, or store two files",
			name, target, parent.fs.name, source.fs.name)
	}
	mode := uint64(e.value >> entryTypeShift << 12)
	if err := z.leadsNowhere(to, uint32(mode)); err != nil {
		return fmt.Errorf("linking %q to %q: %w", name, target, err)
	}
	links := parent.fs.links
	links[e.objectOf()] = max(links[e.objectOf()], 1) + 1
	parent.add(base, mode, e.objectOf())
	return nil
}

// Close writes the directories and all metadata of the pool. The image is
// complete when it returns nil; the WriterAt is not closed.
func (z *Writer) Close() error {
	if z.closed {
		return errors.New("closing a pool: it is closed")
	}
	err := z.guard(z.finish)
	z.closed = true
	z.pipe.close()
	return err
}

func (z *Writer) finish() error {
	for _, fs := range z.systems {
		if err := fs.close(); err != nil {
			return err
		}
	}
	if err := z.pipe.flush(); err != nil {
		return err
	}
	for _, fs := range z.systems {
		if err := fs.patchLinks(); err != nil {
			return fmt.Errorf("dataset %q: %w", fs.name, err)
		}
	}
	if err := newDSL(z).write(); err != nil {
		return err
	}
	for _, fs := range z.systems {
		z.stats.Logical += int64(fs.set.content)
	}
	z.stats.Allocated = int64(z.space.total)
	return nil
}

// Stats tells what a closed writer has written.
func (z *Writer) Stats() Stats { return z.stats }
