package diskimage

import (
	"context"
	"encoding/hex"
	"fmt"
	"hash"
	"math"
	"slices"
	"strings"
)

// VMDKSubformat is a variant of VMDK that can be written, as VMware's
// descriptors call it.
type VMDKSubformat string

// StreamOptimized is compressed and written from front to back, as an OVA
// wants it; monolithicSparse is what Workstation and QEMU run from.
const (
	VMDKStreamOptimized  VMDKSubformat = "streamOptimized"
	VMDKMonolithicSparse VMDKSubformat = "monolithicSparse"
)

// vmdkAdapters are the values of ddb.adapterType. A paravirtual adapter has no
// name of its own here: VMware writes lsilogic for it too.
var vmdkAdapters = [...]string{"lsilogic", "buslogic", "ide", "legacyESX"}

const (
	// defaultCID is any number but fffffffe and ffffffff, which VMware takes
	// for a disk never written to and for no parent. Only a child disk that
	// names its parent by CID looks at it.
	defaultCID = 0x6b6c6430
	noParent   = 0xffffffff

	// defaultHardwareVersion is what VMware's own open-vmdk writes: products
	// later than ESX 3 take the version from the machine, not from the disk.
	defaultHardwareVersion = 4
)

// VMDKOptions are the options of NewVMDKWriter.
type VMDKOptions struct {
	Subformat VMDKSubformat // VMDKStreamOptimized when empty
	// AdapterType is ddb.adapterType: lsilogic (when empty), buslogic, ide or
	// legacyESX. For PVSCSI it is lsilogic.
	AdapterType string
	// HardwareVersion is ddb.virtualHWVersion; 0 means 4.
	HardwareVersion int
	// CID is the content identifier; 0 means a fixed one.
	CID uint32
	// ExtentName is the file name in the embedded descriptor; "disk.vmdk" when
	// empty. Nothing is opened by it.
	ExtentName string
	// NoDigest leaves the SHA-256 out. That of streamOptimized is computed
	// while writing, that of monolithicSparse reads the file back once.
	NoDigest bool
}

// VMDKWriter is a Sink that writes a VMDK of one file with grains of 64 KiB.
// Its layouts are described in docs/design/vmdk.md.
//
// StreamOptimized is written strictly from front to back: the target sees no
// write below one before, and no read.
type VMDKWriter struct {
	out  bufferedTarget
	opts VMDKOptions
	h    vmdkHeader
	size int64     // of the disk, a multiple of 512
	end  int64     // of what is written or taken in the file
	sum  hash.Hash // of all written so far; nil but for streamOptimized

	gd  []uint32 // sector of each grain table, 0 where there is none
	gt  []uint32 // the table for cur
	cur int64    // index in gd, -1 before the first
}

// NewVMDKWriter returns a sink for a VMDK file. The options are checked when
// writing begins. The target of streamOptimized may be a part of a larger file.
func NewVMDKWriter(t Target, opts VMDKOptions) *VMDKWriter {
	if opts.Subformat == "" {
		opts.Subformat = VMDKStreamOptimized
	}
	if opts.AdapterType == "" {
		opts.AdapterType = vmdkAdapters[0]
	}
	if opts.HardwareVersion == 0 {
		opts.HardwareVersion = defaultHardwareVersion
	}
	if opts.CID == 0 {
		opts.CID = defaultCID
	}
	if opts.ExtentName == "" {
		opts.ExtentName = "disk.vmdk"
	}
	return &VMDKWriter{out: bufferedTarget{t: t}, opts: opts}
}

// BlockSize implements BlockSizer.
func (w *VMDKWriter) BlockSize() int { return vmdkGrainSize }

func (w *VMDKWriter) stream() bool { return w.opts.Subformat == VMDKStreamOptimized }

// packs implements packer.
func (w *VMDKWriter) packs() bool { return w.opts.Subformat != VMDKMonolithicSparse }

// Begin implements Sink.
func (w *VMDKWriter) Begin(size int64) error {
	if err := w.checkOptions(); err != nil {
		return err
	}
	// A capacity of 0 tells QEMU that the file is a descriptor alone, so an
	// empty disk gets a sector. Others are not rounded up to a grain, which the
	// specification recommends: the backup GPT is in a disk's last sector, and
	// both VMware's and QEMU's readers take a last grain in part.
	w.size = max(1, ceilDiv(size, vmdkSector)) * vmdkSector
	tables := ceilDiv(w.size, vmdkTableSpan)
	if tables*4 > maxGDBytes {
		return fmt.Errorf("vmdk disk of %d bytes: want at most %d", size, maxGDBytes/4*int64(vmdkTableSpan))
	}
	w.gd, w.gt, w.cur = make([]uint32, tables), make([]uint32, vmdkTableEntries), -1
	if err := w.out.t.Truncate(0); err != nil {
		return fmt.Errorf("emptying vmdk target: %w", err)
	}
	w.h = vmdkHeader{
		version: 1, flags: vmdkFlagNewline, capacity: uint64(w.size / vmdkSector), grainSize: vmdkGrainSize / vmdkSector,
		descriptorOffset: 1, descriptorSize: vmdkDescriptorSectors, tableEntries: vmdkTableEntries,
	}
	if w.stream() {
		return w.beginStream()
	}
	return w.beginSparse()
}

func (w *VMDKWriter) checkOptions() error {
	o := &w.opts
	switch {
	case o.Subformat != VMDKStreamOptimized && o.Subformat != VMDKMonolithicSparse:
		return fmt.Errorf("vmdk subformat %q, want %s or %s", o.Subformat, VMDKStreamOptimized, VMDKMonolithicSparse)
	case !slices.Contains(vmdkAdapters[:], o.AdapterType):
		return fmt.Errorf("vmdk adapter type %q, want %s (lsilogic for PVSCSI too)", o.AdapterType, strings.Join(vmdkAdapters[:], ", "))
	case o.HardwareVersion < 0:
		return fmt.Errorf("vmdk hardware version %d, want a positive number", o.HardwareVersion)
	case o.CID == noParent:
		return fmt.Errorf("vmdk CID %08x stands for no disk, want another one", o.CID)
	case strings.ContainsFunc(o.ExtentName, func(r rune) bool { return r < ' ' || r == '"' }) || len(o.ExtentName) > 255:
		return fmt.Errorf("vmdk extent name %q, want at most 255 bytes without quotes and control characters", o.ExtentName)
	}
	return nil
}

// Encode implements Sink.
func (w *VMDKWriter) Encode(b *Block) (Commit, error) {
	if !w.stream() {
		return func(context.Context) error { return w.commitSparse(b) }, nil
	}
	grains, err := encodeGrains(b)
	if err != nil {
		return nil, err
	}
	return func(context.Context) error { return w.commitStream(b, grains) }, nil
}

// selectTable makes w.gt the table for off and writes the one it was.
func (w *VMDKWriter) selectTable(off int64) error {
	if i := off / vmdkTableSpan; i != w.cur {
		if err := w.flushTable(); err != nil {
			return err
		}
		w.cur = i
	}
	return nil
}

// setGrain enters the grain of the disk at off, which begins at host, into the
// table that is selected.
func (w *VMDKWriter) setGrain(off, host int64) error {
	if host/vmdkSector > math.MaxUint32 {
		return fmt.Errorf("vmdk grain at offset %#x of the file: its tables hold sectors of 32 bits, a file has at most 2 TiB", host)
	}
	w.gt[off%vmdkTableSpan/vmdkGrainSize] = uint32(host / vmdkSector)
	return nil
}

// flushTable writes the grain table for cur, when there is one.
func (w *VMDKWriter) flushTable() error {
	if w.cur < 0 {
		return nil
	}
	table := littleEndian32(w.gt)
	clear(w.gt)
	if w.stream() {
		return w.appendTable(table)
	}
	return w.writeTable(table)
}

// Finish implements Sink.
func (w *VMDKWriter) Finish(ctx context.Context) (Result, error) {
	if err := w.flushTable(); err != nil {
		return Result{}, err
	}
	finish := w.finishSparse
	if w.stream() {
		finish = w.finishStream
	}
	if err := finish(); err != nil {
		return Result{}, err
	}
	r := Result{Format: VMDK, Size: w.end}
	var err error
	switch {
	case w.opts.NoDigest:
	case w.sum != nil:
		r.SHA256 = hex.EncodeToString(w.sum.Sum(nil))
	default:
		if r.SHA256, err = hashTarget(ctx, w.out.t, w.end); err != nil {
			return Result{}, fmt.Errorf("hashing vmdk file: %w", err)
		}
	}
	return r, nil
}
