package diskimage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"sync/atomic"
)

// OVAWriter is a Sink that writes an OVA: an OVF 1.1 package (DSP0243) of one
// machine with one streamOptimized VMDK, in a tar archive. Its layout is
// described in docs/design/ova.md.
//
// The package begins with what depends on its last byte, so its head is written
// last: the target cannot be a pipe, and a file cut short is no tar archive.
type OVAWriter struct {
	t         Target
	opts      OVAOptions
	disk      *VMDKWriter
	diskAt    int64        // where the disk file begins in the target
	populated atomic.Int64 // bytes of grains that are not zero
}

// NewOVAWriter returns a sink for an OVA file. The options are checked when
// writing begins.
func NewOVAWriter(t Target, opts OVAOptions) *OVAWriter {
	return &OVAWriter{t: t, opts: opts.withDefaults()}
}

// BlockSize implements BlockSizer.
func (w *OVAWriter) BlockSize() int { return vmdkGrainSize }

// packs implements packer.
func (w *OVAWriter) packs() bool { return true }

// Begin implements Sink. It begins the disk behind the room its head takes.
func (w *OVAWriter) Begin(size int64) error {
	if err := w.opts.check(); err != nil {
		return err
	}
	head, err := w.head(ovfSizes{}, strings.Repeat("0", 2*sha256.Size))
	if err != nil {
		return err
	}
	if err := w.t.Truncate(0); err != nil {
		return fmt.Errorf("emptying ova target: %w", err)
	}
	w.diskAt = int64(len(head))
	w.disk = NewVMDKWriter(offsetTarget{w.t, w.diskAt},
		VMDKOptions{Subformat: VMDKStreamOptimized, ExtentName: w.opts.diskFile()})
	return w.disk.Begin(size)
}

// Encode implements Sink.
func (w *OVAWriter) Encode(b *Block) (Commit, error) {
	commit, err := w.disk.Encode(b)
	if err != nil {
		return nil, err
	}
	grains, err := b.compressed(packing{size: vmdkGrainSize}) // made by the disk's Encode
	for _, g := range grains {
		if g != nil {
			w.populated.Add(vmdkGrainSize)
		}
	}
	return commit, err
}

// Finish implements Sink.
func (w *OVAWriter) Finish(ctx context.Context) (Result, error) {
	disk, err := w.disk.Finish(ctx)
	if err != nil {
		return Result{}, err
	}
	sizes := ovfSizes{FileSize: disk.Size, Populated: w.populated.Load(), Capacity: w.disk.size}
	head, err := w.head(sizes, disk.SHA256)
	if err != nil {
		return Result{}, err
	}
	// The disk up to a block, then the two blocks that end an archive.
	end := w.diskAt + disk.Size
	r := Result{Format: OVA, Size: w.diskAt + padded(disk.Size) + 2*tarBlock}
	out := bufferedTarget{t: w.t}
	if err := out.write(zeros[:r.Size-end], end); err != nil {
		return Result{}, err
	}
	if err := out.write(head, 0); err != nil {
		return Result{}, err
	}
	if err := out.flush(); err != nil {
		return Result{}, err
	}
	if w.opts.NoDigest {
		return r, nil
	}
	if r.SHA256, err = hashTarget(ctx, w.t, r.Size); err != nil {
		return Result{}, fmt.Errorf("hashing ova file: %w", err)
	}
	return r, nil
}

// head returns the archive up to the disk's first byte: descriptor, manifest
// and the disk's header. Its length depends on the options alone.
func (w *OVAWriter) head(sizes ovfSizes, diskSum string) ([]byte, error) {
	ovf, err := renderOVF(&w.opts, sizes)
	if err != nil {
		return nil, fmt.Errorf("rendering OVF descriptor: %w", err)
	}
	// No space before the parenthesis: DSP0243 1.1, clause 5.1.
	manifest := fmt.Sprintf("SHA256(%s)= %x\nSHA256(%s)= %s\n",
		w.opts.ovfFile(), sha256.Sum256(ovf), w.opts.diskFile(), diskSum)
	var b bytes.Buffer
	for _, f := range []struct {
		name string
		data []byte
		size int64
	}{
		{w.opts.ovfFile(), ovf, int64(len(ovf))},
		{w.opts.manifestFile(), []byte(manifest), int64(len(manifest))},
		{w.opts.diskFile(), nil, sizes.FileSize},
	} {
		header, err := tarHeader(f.name, f.size, w.opts.Timestamp)
		if err != nil {
			return nil, fmt.Errorf("making tar header of %q: %w", f.name, err)
		}
		b.Write(header)
		b.Write(f.data)
		b.Write(zeros[:padded(int64(len(f.data)))-int64(len(f.data))])
	}
	return b.Bytes(), nil
}

// offsetTarget is the part of a target from base on.
type offsetTarget struct {
	t    Target
	base int64
}

// WriteAt implements Target.
func (o offsetTarget) WriteAt(p []byte, off int64) (int, error) { return o.t.WriteAt(p, o.base+off) }

// ReadAt implements Target.
func (o offsetTarget) ReadAt(p []byte, off int64) (int, error) { return o.t.ReadAt(p, o.base+off) }

// Truncate implements Target.
func (o offsetTarget) Truncate(size int64) error { return o.t.Truncate(o.base + size) }
