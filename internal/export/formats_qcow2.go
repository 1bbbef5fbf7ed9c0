package export

import (
	"fmt"
	"path/filepath"

	"github.com/kldload/kldload/diskimage"
)

// qcow2Options are those of the writer, and the backing file by its name.
type qcow2Options struct {
	diskimage.QCOW2Options
	backing       string
	backingFormat diskimage.Format
}

func qcow2Format() format {
	type o = qcow2Options
	packing := map[string]diskimage.Compression{
		"deflate": diskimage.CompressDeflate, "zstd": diskimage.CompressZstd, "none": diskimage.CompressNone,
	}
	return entry("qcow2", ".qcow2", "KVM, Proxmox, OpenStack", []option[o]{
		oneOf("compression", "zstd needs QEMU 5.1", func(o *o, v string) { o.Compression = packing[v] }, "deflate", "zstd", "none"),
		blockSize("cluster_size", "unit of allocation", "64K", 512, 2<<20, func(o *o) *int { return &o.ClusterSize }),
		text("backing", "FILE", "write only what differs from this image", func(o *o) *string { return &o.backing }),
		oneOf("backing_format", "of that image; else by its content", func(o *o, v string) { o.backingFormat = diskimage.Format(v) },
			"qcow2", "raw", "vmdk", "vhd", "vhdx"),
	}, newQCOW2)
}

func newQCOW2(t diskimage.Target, o qcow2Options, s *surroundings) (diskimage.Sink, error) {
	o.NoDigest = s.noDigest
	if o.backing == "" {
		if o.backingFormat != "" {
			return nil, mistakef("add qcow2.backing=FILE", "qcow2.backing_format without qcow2.backing")
		}
		return diskimage.NewQCOW2Writer(t, o.QCOW2Options), nil
	}
	for _, path := range s.outputs {
		if sameFile(path, o.backing) {
			return nil, fmt.Errorf("backing file %q is an output itself", o.backing)
		}
	}
	base, err := diskimage.Open(o.backing, diskimage.OpenOptions{Format: o.backingFormat, Backing: true})
	if err != nil {
		return nil, err
	}
	s.close = append(s.close, base.Close)
	o.Backing, o.BackingFormat = base, base.Info().Format
	if o.BackingName, err = nameFrom(filepath.Dir(s.path), o.backing); err != nil {
		return nil, err
	}
	return diskimage.NewQCOW2Writer(t, o.QCOW2Options), nil
}

// nameFrom is how a file in dir names the file that the user calls name:
// absolute where that is, else relative to dir.
func nameFrom(dir, name string) (string, error) {
	if filepath.IsAbs(name) {
		return name, nil
	}
	abs, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", err
	}
	return filepath.Rel(dir, abs)
}
