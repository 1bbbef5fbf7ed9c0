package tree

import (
	"archive/tar"
	"bufio"
	"fmt"
	"io"
	"path"
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
	out := bufio.NewWriterSize(w, streamBuffer) // the stream is mostly a pipe, and headers are small
	p := &packer{tw: tar.NewWriter(out), epoch: opts.Epoch, buf: make([]byte, streamBuffer)}
	walk := WalkOptions{EmptyDirs: map[string]bool{}}
	for _, dir := range opts.EmptyDirs {
		walk.EmptyDirs[path.Clean(dir)] = true
	}
	err := Walk(root, walk, p.entry)
	if err == nil {
		err = p.tw.Close()
	}
	if err == nil {
		err = out.Flush()
	}
	return p.stats, err
}

type packer struct {
	tw    *tar.Writer
	epoch time.Time
	stats Stats
	buf   []byte
}

func (p *packer) entry(e *Entry, body io.Reader) error {
	if e.Mode&unix.S_IFMT == unix.S_IFSOCK {
		return nil
	}
	h := p.header(e)
	p.stats.Entries++
	if err := p.tw.WriteHeader(h); err != nil {
		return fmt.Errorf("packing %q: %w", e.Path, err)
	}
	if h.Size == 0 {
		return nil
	}
	p.stats.Bytes += h.Size
	if _, err := io.CopyBuffer(p.tw, body, p.buf); err != nil {
		return fmt.Errorf("packing %q: %w", e.Path, err)
	}
	return nil
}

// ofHost are attributes that belong to the host's security modules rather than
// to the file.
var ofHost = []string{"security.selinux", "security.ima", "security.evm"}

func (p *packer) header(e *Entry) *tar.Header {
	mtime := time.Unix(e.ModTime.Unix(), 0)
	if mtime.After(p.epoch) {
		mtime = p.epoch
	}
	h := &tar.Header{
		Name: e.Path, Mode: int64(e.Mode & 0o7777), Uid: int(e.UID), Gid: int(e.GID), ModTime: mtime, Format: tar.FormatPAX,
	}
	if e.HardLink != "" {
		h.Typeflag, h.Linkname = tar.TypeLink, e.HardLink
		return h
	}
	h.Typeflag = typeFlags[e.Mode&unix.S_IFMT]
	h.Linkname, h.Devmajor, h.Devminor = e.Symlink, int64(e.Major), int64(e.Minor)
	h.Size = e.Size
	for _, name := range ofHost {
		delete(e.Xattrs, name)
	}
	if len(e.Xattrs) > 0 {
		h.PAXRecords = map[string]string{}
		for key, value := range e.Xattrs {
			h.PAXRecords[xattrPrefix+key] = string(value)
		}
	}
	return h
}

// typeFlags maps st_mode's types to tar's.
var typeFlags = map[uint32]byte{
	unix.S_IFREG: tar.TypeReg, unix.S_IFDIR: tar.TypeDir, unix.S_IFLNK: tar.TypeSymlink,
	unix.S_IFCHR: tar.TypeChar, unix.S_IFBLK: tar.TypeBlock, unix.S_IFIFO: tar.TypeFifo,
}
