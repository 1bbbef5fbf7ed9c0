package disk

import (
	"io"
	"strings"

	"github.com/kldload/kldload/internal/ext4"
	"github.com/kldload/kldload/internal/gpt"
	"github.com/kldload/kldload/internal/tree"
	"github.com/kldload/kldload/internal/zpool"
	"github.com/kldload/kldload/zfs"
)

// root is the root file system being filled.
type root interface {
	create(e *tree.Entry, body io.Reader) error
	Link(name, target string) error
	Close() error
	stats() Stats // once it is closed
}

func (o *Options) newRoot(w io.WriterAt, p gpt.Partition) (root, error) {
	if o.Pool == nil {
		fs, err := ext4.NewWriter(w, ext4.Options{
			Size: p.Size, UUID: o.Identity.Root, HashSeed: o.Identity.HashSeed, Label: o.Label, Epoch: o.Epoch.Unix(),
		})
		return ext4Root{fs}, err
	}
	opts := o.Pool.Options()
	opts.Size, opts.Seed, opts.Epoch, opts.Snapshot = p.Size, o.Identity.PoolSeed, o.Epoch, Golden
	opts.VdevPath = "/dev/disk/by-partuuid/" + strings.ToLower(p.GUID.String())
	pool, err := zfs.NewWriter(w, opts)
	return zfsRoot{pool}, err
}

type ext4Root struct{ *ext4.Writer }

func (r ext4Root) create(e *tree.Entry, body io.Reader) error {
	return r.Create(ext4.Header{
		Path: e.Path, Mode: e.Mode, UID: e.UID, GID: e.GID, Size: e.Size, ModTime: e.ModTime,
		Major: e.Major, Minor: e.Minor, Linkname: e.Symlink, Xattrs: e.Xattrs,
	}, body)
}

func (r ext4Root) stats() Stats { return Stats{} }

type zfsRoot struct{ *zfs.Writer }

func (r zfsRoot) create(e *tree.Entry, body io.Reader) error { return r.Create(zpool.Header(e), body) }

func (r zfsRoot) stats() Stats {
	s := r.Stats()
	return Stats{Logical: s.Logical, Allocated: s.Allocated}
}
