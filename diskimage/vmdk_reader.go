package diskimage

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// VMDKReadOptions are the options of OpenVMDK.
type VMDKReadOptions struct {
	// OpenExtent opens a file a descriptor names, as the bytes it holds. The
	// name has no folder in it: the file lies beside the descriptor. A disk
	// that is an io.Closer is closed with the image. When nil, an image of
	// several files is refused.
	OpenExtent func(name string) (Disk, error)
}

// VMDKDisk is an open VMDK: one file, or a descriptor with the extents it
// names.
type VMDKDisk struct {
	desc    *descriptorFile
	extents []vmdkExtent // in order and without gaps
	size    int64
}

// vmdkExtent is a part of the disk.
type vmdkExtent struct {
	start, size int64
	name        string // empty for the only one
	// disk holds the extent from base on; nil stands for zeros.
	disk Disk
	base int64
	file Disk // what OpenExtent gave
}

// OpenVMDK opens the VMDK of size bytes in r: a sparse file with its descriptor
// in it, or a descriptor. Grain tables are checked as they are used; headers
// and grain directories at once.
func OpenVMDK(r io.ReaderAt, size int64, opts VMDKReadOptions) (*VMDKDisk, error) {
	magic := make([]byte, min(4, size))
	if err := readFull(r, magic, 0); err != nil {
		return nil, fmt.Errorf("reading vmdk magic: %w", err)
	}
	switch string(magic) {
	case "COWD":
		return nil, unsupportedf("reading vmdk header: sparse extent of ESX (COWD)")
	case vmdkDescriptorMagic[:4]:
		return openDescriptorFile(r, size, opts)
	}
	s, err := openVMDKSparse(r, size, newVMDKShared(1))
	if err != nil {
		return nil, err
	}
	d, err := s.embeddedDescriptor()
	if err != nil {
		return nil, err
	}
	return &VMDKDisk{desc: d, extents: []vmdkExtent{{size: s.size, disk: s}}, size: s.size}, nil
}

// openDescriptorFile opens the extents that the descriptor in r names.
func openDescriptorFile(r io.ReaderAt, size int64, opts VMDKReadOptions) (*VMDKDisk, error) {
	desc, err := readDescriptor(r, 0, size)
	if err != nil {
		return nil, err
	}
	if len(desc.extents) == 0 {
		return nil, corruptf("reading vmdk descriptor: no extents")
	}
	d := &VMDKDisk{desc: desc}
	shared := newVMDKShared(len(desc.extents))
	for i, line := range desc.extents {
		e := vmdkExtent{start: d.size, size: line.sectors * vmdkSector, name: line.name}
		if e.size > 1<<62-d.size {
			return nil, errors.Join(corruptf("reading vmdk descriptor: extents of more than 2^62 bytes"), d.Close())
		}
		if err := e.open(line, opts, shared); err != nil {
			return nil, errors.Join(fmt.Errorf("extent %d, %.80q: %w", i, line.name, err), e.close(), d.Close())
		}
		d.extents = append(d.extents, e)
		d.size += e.size
	}
	return d, nil
}

// open opens the extent's file. VMFS is FLAT by another name.
func (e *vmdkExtent) open(line extentLine, opts VMDKReadOptions, shared *vmdkShared) error {
	switch line.kind {
	case "ZERO":
		return nil
	case "FLAT", "VMFS", "SPARSE":
	default:
		return unsupportedf("type %.20q (have FLAT, VMFS, SPARSE, ZERO)", line.kind)
	}
	if line.name == "" || line.name == "." || line.name == ".." || strings.ContainsAny(line.name, "/\\\x00") {
		return unsupportedf("want a file beside the descriptor")
	}
	if opts.OpenExtent == nil {
		return unsupportedf("opening further files is not allowed here")
	}
	var err error
	if e.file, err = opts.OpenExtent(line.name); err != nil {
		e.file = nil
		return err
	}
	e.disk, e.base = e.file, line.offset*vmdkSector
	if line.kind == "SPARSE" {
		s, err := openVMDKSparse(e.file, e.file.Size(), shared)
		if err != nil {
			return err
		}
		e.disk, e.base = s, 0
	}
	if have := e.disk.Size() - e.base; have < e.size {
		return corruptf("holds %d bytes, the descriptor says %d", max(0, have), e.size)
	}
	return nil
}

func (e *vmdkExtent) close() error {
	if c, ok := e.file.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// wrap says which file an error is about.
func (e *vmdkExtent) wrap(err error) error {
	if err == nil || e.name == "" {
		return err
	}
	return fmt.Errorf("extent %q: %w", e.name, err)
}

// Size implements Disk.
func (d *VMDKDisk) Size() int64 { return d.size }

// Info implements Image.
func (d *VMDKDisk) Info() Info {
	i := Info{Format: VMDK, Subformat: d.desc.keys["createtype"], VirtualSize: d.size}
	for _, key := range [...]string{"CID", "ddb.adapterType", "ddb.virtualHWVersion"} {
		if v := d.desc.keys[strings.ToLower(key)]; v != "" {
			i.Details = append(i.Details, Detail{key, v})
		}
	}
	i.Details = append(i.Details, Detail{"extents", strconv.Itoa(len(d.extents))})
	if s, ok := d.extents[0].disk.(*vmdkSparse); ok {
		i.BlockSize = s.grain
		if s.h.compressed() {
			i.Compression = "deflate"
		}
	}
	return i
}

// Close closes the extents' files. The reader given to OpenVMDK stays the
// caller's.
func (d *VMDKDisk) Close() error {
	var errs []error
	for i := range d.extents {
		errs = append(errs, d.extents[i].close())
	}
	return errors.Join(errs...)
}

// at returns the index of the extent that holds off.
func (d *VMDKDisk) at(off int64) int {
	i, _ := slices.BinarySearchFunc(d.extents, off, func(e vmdkExtent, off int64) int {
		if e.start+e.size <= off {
			return -1
		}
		return 1
	})
	return i
}

// NextData implements Disk.
func (d *VMDKDisk) NextData(off int64) (start, end int64, err error) {
	for i := d.at(off); i < len(d.extents); i++ {
		e := &d.extents[i]
		if e.disk == nil {
			continue
		}
		s, t, err := e.disk.NextData(e.base + max(0, off-e.start))
		if err != nil {
			return 0, 0, e.wrap(err)
		}
		s, t = s-e.base, min(t-e.base, e.size)
		if s < t {
			return e.start + s, e.start + t, nil
		}
	}
	return d.size, d.size, nil
}

// ReadAt implements Disk.
func (d *VMDKDisk) ReadAt(p []byte, off int64) (int, error) {
	return readRuns(p, off, d.size, d.readRun)
}

// readRun fills the front of p within the extent at off.
func (d *VMDKDisk) readRun(p []byte, off int64) (int, error) {
	e := &d.extents[d.at(off)]
	in := off - e.start
	p = p[:min(int64(len(p)), e.size-in)]
	if e.disk == nil {
		clear(p)
	} else if err := readFull(e.disk, p, e.base+in); err != nil {
		return 0, e.wrap(err)
	}
	return len(p), nil
}
