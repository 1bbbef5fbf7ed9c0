package zfs

import (
	"fmt"
	"io"
	"path"
)

// DatasetWriter puts files into one file system of a pool that is being
// written, wherever it is mounted.
type DatasetWriter struct {
	z    *Writer
	fs   *filesystem
	dirs map[string]*directory // by path
}

// Dataset gives the writer of one dataset. Options.Apart must be set, and each
// dataset is to be asked for once.
func (z *Writer) Dataset(name string) (*DatasetWriter, error) {
	if !z.opts.Apart {
		return nil, fmt.Errorf("dataset %q: want Options.Apart for files by dataset", name)
	}
	for _, fs := range z.systems {
		if fs.name == name {
			return &DatasetWriter{z, fs, map[string]*directory{".": fs.root}}, nil
		}
	}
	return nil, fmt.Errorf("dataset %q: the pool has none of that name", name)
}

// Create is Writer.Create with a path below the dataset's root.
func (d *DatasetWriter) Create(h Header, body io.Reader) error {
	return d.z.guard(func() error { return d.create(h, body) })
}

// Link is Writer.Link with paths below the dataset's root.
func (d *DatasetWriter) Link(name, target string) error {
	return d.z.guard(func() error { return d.link(name, target) })
}

func (d *DatasetWriter) create(h Header, body io.Reader) error {
	if err := checkHeader(&h); err != nil {
		return d.wrap(h.Path, err)
	}
	attrs := d.z.attrs(&h)
	if known := d.dirs[h.Path]; known != nil && h.Mode&modeType == modeDir {
		known.setAttrs(attrs)
		return nil
	}
	parent, base, err := d.parent(h.Path)
	if err != nil {
		return d.wrap(h.Path, err)
	}
	if h.Mode&modeType == modeDir {
		d.dirs[h.Path] = parent.child(base, h.Path, attrs)
		d.z.stats.Directories++
		return nil
	}
	number, err := d.fs.create(h.Path, parent, attrs, body, h.Size)
	if err != nil {
		return err
	}
	parent.add(base, attrs.Mode, number)
	d.z.stats.Files++
	return nil
}

func (d *DatasetWriter) wrap(name string, err error) error {
	return fmt.Errorf("dataset %q: %q: %w", d.fs.name, name, err)
}

// parent finds the directory that a path lies in.
func (d *DatasetWriter) parent(name string) (*directory, string, error) {
	if name == "." {
		return nil, "", fmt.Errorf("want a directory")
	}
	if err := checkPath(name); err != nil {
		return nil, "", err
	}
	dir, base := path.Split(name)
	parent := d.dirs[path.Clean(dir)]
	if parent == nil {
		return nil, "", fmt.Errorf("its parent directory is not there: want parents before children")
	}
	return parent, base, nil
}

func (d *DatasetWriter) link(name, target string) error {
	parent, base, err := d.parent(name)
	if err != nil {
		return d.wrap(name, err)
	}
	source, sourceBase, err := d.parent(target)
	if err != nil {
		return d.wrap(target, err)
	}
	e, ok := source.find(sourceBase)
	if !ok || e.value>>entryTypeShift == modeDir>>12 {
		return d.wrap(name, fmt.Errorf("linking to %q: want a file that is there and is no directory", target))
	}
	d.fs.links[e.objectOf()] = max(d.fs.links[e.objectOf()], 1) + 1
	parent.add(base, uint64(e.value>>entryTypeShift<<12), e.objectOf())
	return nil
}
