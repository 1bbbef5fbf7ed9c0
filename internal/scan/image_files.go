package scan

import (
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/kldload/kldload/internal/ext4"
	"github.com/kldload/kldload/zfs"
)

// walked is a file system on the way through it.
type walked struct {
	fsys fs.ReadDirFS
	loc  Location // of the volume and dataset; Where is the snapshot
	// mount is where the file system is mounted, "" at the root.
	mount string
	bytes *bytesOf // of the volume, for slack; nil where there is none
	// newer has the files of the next newer snapshot, whose content is looked at
	// already; nil where there is none. The walk puts its own in.
	newer map[uint64]zfs.Identity
	links map[uint64]bool // files of several names that were met
}

// What a file system may be able to tell of a file.
type (
	xattrReader interface {
		Xattrs(name string) (map[string][]byte, error)
	}
	linkReader interface {
		ReadLink(name string) (string, error)
	}
	slackReader interface {
		Slack(name string, yield func(kind string, off, size int64) error) error
	}
)

// at is the location of a file.
func (w *walked) at(name, where string) Location {
	l := w.loc
	l.Path = path.Join("/", w.mount, name)
	if where != "" {
		l.Where = strings.TrimPrefix(l.Where+" > "+where, " > ")
	}
	return l
}

// files looks at all files of a file system, each once.
func (s *imageScan) files(w *walked) {
	w.links = map[uint64]bool{}
	s.slack(w, ".")
	s.dir(w, ".", true)
}

// dir goes down from a directory; fresh is one whose names are not those of a
// newer snapshot.
func (s *imageScan) dir(w *walked, dir string, fresh bool) {
	list, err := w.fsys.ReadDir(dir)
	if err != nil {
		s.noted(w.at(dir, ""), err)
		return
	}
	if fresh {
		s.names(w, dir, list)
	}
	for _, d := range list {
		if s.ctx.Err() != nil {
			return
		}
		name := path.Join(dir, d.Name())
		info, err := d.Info()
		if err != nil {
			s.noted(w.at(name, ""), err)
			continue
		}
		content, attributes := w.fresh(info)
		s.file(w, name, info, content, attributes)
		if info.IsDir() {
			s.dir(w, name, content)
		}
	}
}

// names looks at the names in a directory.
func (s *imageScan) names(w *walked, dir string, list []fs.DirEntry) {
	s.text(w.at(dir, "file names"), lines(list))
}

// text looks at names.
func (s *imageScan) text(loc Location, text string) {
	if text != "" {
		s.do(loc, func() error { return s.e.names(s.ctx, loc, text) })
	}
}

// file hands over what there is to look at of a file.
func (s *imageScan) file(w *walked, name string, info fs.FileInfo, content, attributes bool) {
	if content {
		switch info.Mode().Type() {
		case 0:
			loc := w.at(name, "")
			s.do(loc, func() error { return s.content(w, loc, name, info) })
		case fs.ModeSymlink:
			if r, ok := w.fsys.(linkReader); ok {
				target, err := r.ReadLink(name)
				s.noted(w.at(name, ""), err)
				s.text(w.at(name, "link target"), target)
			}
		}
		s.slack(w, name)
	}
	if attributes {
		s.xattrs(w, name)
	}
}

// fresh tells what of a file was not looked at: nothing of a further name, and
// what differs from the next newer snapshot.
func (w *walked) fresh(info fs.FileInfo) (content, attributes bool) {
	ino, links := uint64(0), uint64(1)
	switch n := info.Sys().(type) {
	case *zfs.Node:
		ino, links = n.Ino, n.Links
	case *ext4.Node:
		ino, links = uint64(n.Ino), uint64(n.Links)
	}
	if links > 1 && !info.IsDir() {
		if w.links[ino] {
			return false, false
		}
		w.links[ino] = true
	}
	id, ok := zfs.IdentityOf(info)
	if !ok || w.newer == nil {
		return true, true
	}
	old, seen := w.newer[ino]
	w.newer[ino] = id
	return !seen || old.Content != id.Content || info.Mode().Type() == fs.ModeSymlink && old != id,
		!seen || old.Attributes != id.Attributes
}

// sparseFrom is the size from which on a file's holes are worth a look, and
// sparseRatio how much larger it must be than what it takes.
const (
	sparseFrom  = 64 << 20
	sparseRatio = 16
)

// content looks at a regular file. One that is mostly holes is taken as bytes.
func (s *imageScan) content(w *walked, loc Location, name string, info fs.FileInfo) error {
	size := info.Size()
	defer s.done(size)
	if size >= sparseFrom && taken(info) < size/sparseRatio {
		f, err := w.fsys.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		if r, ok := f.(io.ReaderAt); ok {
			return s.sparse(loc, &bytesOf{r: r, size: size})
		}
	}
	return s.e.File(s.ctx, loc, size, info.Mode(), func() (io.ReadCloser, error) { return w.fsys.Open(name) })
}

// taken is the bytes that a file takes on its volume, as far as is known.
func taken(info fs.FileInfo) int64 {
	switch n := info.Sys().(type) {
	case *zfs.Node:
		return int64(min(n.Used, 1<<62))
	case *ext4.Node:
		return n.Sectors * 512
	}
	return info.Size()
}

// sparse looks at the parts of a file that are no holes.
func (s *imageScan) sparse(loc Location, b *bytesOf) error {
	for at := int64(0); at < b.size; {
		start, stop, err := b.nextData(at, b.size)
		if err != nil {
			return err
		}
		if err := s.nonZero(loc, b, start, stop); err != nil {
			return err
		}
		at = stop
	}
	return s.ctx.Err()
}

// xattrs looks at the extended attributes of a file: names and values.
func (s *imageScan) xattrs(w *walked, name string) {
	r, ok := w.fsys.(xattrReader)
	if !ok {
		return
	}
	s.do(w.at(name, ""), func() error {
		all, err := r.Xattrs(name)
		if err != nil {
			return err
		}
		return s.e.xattrs(s.ctx, func(where string) Location { return w.at(name, where) }, all)
	})
}

// slack looks at what a file takes beyond its content.
func (s *imageScan) slack(w *walked, name string) {
	r, ok := w.fsys.(slackReader)
	if !ok || w.bytes == nil {
		return
	}
	err := r.Slack(name, func(kind string, off, size int64) error {
		if size <= piece { // most: a look here is cheaper than handing it over
			b := make([]byte, size)
			if err := w.bytes.readFull(b, off); err != nil || zeros(b) {
				return err
			}
		}
		s.region(w.at(name, kind), w.bytes, off, size)
		return s.ctx.Err()
	})
	s.noted(w.at(name, ""), err)
}
