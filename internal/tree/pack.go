package tree

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"sort"
	"time"

	"golang.org/x/sys/unix"
)

// PackOptions controls Pack.
type PackOptions struct {
	// Epoch is the latest modification time an entry may have
	// (reproducible-builds.org, SOURCE_DATE_EPOCH); later ones become it.
	Epoch time.Time
	// EmptyDirs are directories whose content is left out.
	EmptyDirs []string
}

// Pack writes the tree at root as a stream, parents before children, names in
// byte order. It must run as root of the tree's user namespace.
func Pack(root string, w io.Writer, opts PackOptions) (Stats, error) {
	p := &packer{root: root, tw: tar.NewWriter(w), epoch: opts.Epoch, seen: map[inode]string{}, empty: map[string]bool{}, xattrs: newXattrReader()}
	for _, dir := range opts.EmptyDirs {
		p.empty[path.Clean(dir)] = true
	}
	err := p.walk(".")
	if err == nil {
		err = p.tw.Close()
	}
	return p.stats, err
}

type inode struct{ dev, ino uint64 }

type packer struct {
	root   string
	tw     *tar.Writer
	epoch  time.Time
	seen   map[inode]string
	empty  map[string]bool
	xattrs *xattrReader
	stats  Stats
}

func (p *packer) walk(name string) error {
	full := filepath.Join(p.root, name)
	var st unix.Stat_t
	if err := unix.Lstat(full, &st); err != nil {
		return fmt.Errorf("packing %q: %w", name, err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFSOCK {
		return nil
	}
	if err := p.entry(name, full, &st); err != nil {
		return fmt.Errorf("packing %q: %w", name, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || p.empty[name] {
		return nil
	}
	d, err := os.Open(full)
	if err != nil {
		return err
	}
	names, err := d.Readdirnames(-1)
	if err = errors.Join(err, d.Close()); err != nil {
		return fmt.Errorf("packing %q: %w", name, err)
	}
	sort.Strings(names)
	for _, child := range names {
		if err := p.walk(path.Join(name, child)); err != nil {
			return err
		}
	}
	return nil
}

func (p *packer) entry(name, full string, st *unix.Stat_t) error {
	h, err := p.header(name, full, st)
	if err != nil {
		return err
	}
	p.stats.Entries++
	if err := p.tw.WriteHeader(h); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeReg || h.Size == 0 {
		return nil
	}
	p.stats.Bytes += h.Size
	f, err := os.Open(full)
	if err != nil {
		return err
	}
	n, err := io.Copy(p.tw, io.LimitReader(f, h.Size))
	if err == nil && n != h.Size {
		err = fmt.Errorf("the file shrank from %d to %d bytes while it was read", h.Size, n)
	}
	return errors.Join(err, f.Close())
}

func (p *packer) header(name, full string, st *unix.Stat_t) (*tar.Header, error) {
	mtime := time.Unix(st.Mtim.Sec, 0)
	if mtime.After(p.epoch) {
		mtime = p.epoch
	}
	h := &tar.Header{
		Name: name, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid), ModTime: mtime, Format: tar.FormatPAX,
	}
	id := inode{st.Dev, st.Ino}
	if first, ok := p.seen[id]; ok && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		h.Typeflag, h.Linkname = tar.TypeLink, first
		return h, nil
	}
	if st.Nlink > 1 {
		p.seen[id] = name
	}
	if err := setType(h, full, st); err != nil {
		return nil, err
	}
	xattrs, err := p.xattrs.ofPath(full)
	for _, name := range ofHost {
		delete(xattrs, name)
	}
	if len(xattrs) > 0 {
		h.PAXRecords = map[string]string{}
		for key, value := range xattrs {
			h.PAXRecords[xattrPrefix+key] = string(value)
		}
	}
	return h, err
}

func setType(h *tar.Header, full string, st *unix.Stat_t) error {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, st.Size
	case unix.S_IFDIR:
		h.Typeflag = tar.TypeDir
	case unix.S_IFLNK:
		target, err := os.Readlink(full)
		h.Typeflag, h.Linkname = tar.TypeSymlink, target
		return err
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	default:
		return fmt.Errorf("unknown file type %#o", st.Mode&unix.S_IFMT)
	}
	return nil
}

// ofHost are attributes that belong to the host's security modules rather than
// to the file.
var ofHost = []string{"security.selinux", "security.ima", "security.evm"}
