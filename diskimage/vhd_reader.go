package diskimage

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// maxBATBytes bounds the block allocation table: 2040 GiB in blocks of 512 KiB
// take half of it.
const maxBATBytes = 32 << 20

// VHDDisk is an open VHD image, fixed or dynamic.
type VHDDisk struct {
	r         io.ReaderAt
	fileSize  int64
	footer    *vhdFooter
	footerAt  int64 // in the file; of the footer that is used
	size      int64
	damaged   error // what is wrong with the footer at the end, when its copy is used
	header    *vhdHeader
	bat       []uint32 // of a dynamic image, as far as the disk goes
	blockSize int64
}

// OpenVHD opens the VHD image of size bytes in r. Footer, dynamic disk header
// and their checksums are checked at once, the entries of the block allocation
// table as they are used. When the footer of a dynamic image is damaged, the
// copy at the head of the file is used.
func OpenVHD(r io.ReaderAt, size int64) (*VHDDisk, error) {
	d := &VHDDisk{r: r, fileSize: size}
	if err := d.readFooter(); err != nil {
		return nil, err
	}
	d.size = d.footer.diskSize()
	if d.footer.diskType == vhdDynamic {
		if err := d.readHead(); err != nil {
			return nil, err
		}
		return d, nil
	}
	if d.size > d.footerAt {
		return nil, corruptf("reading vhd footer at offset %#x: disk of %d bytes, but only %d are before it", d.footerAt, d.size, d.footerAt)
	}
	return d, nil
}

// readFooter finds the footer in the last 512 or 511 bytes or, for dynamic
// images, at the head.
func (d *VHDDisk) readFooter() error {
	if d.fileSize < vhdOldFooter {
		return corruptf("reading vhd footer: file has %d bytes, want at least %d", d.fileSize, vhdOldFooter)
	}
	b := make([]byte, vhdFooterSize+1) // one more, for a short footer's last byte
	tail := b[:min(d.fileSize, vhdFooterSize)]
	at := d.fileSize - int64(len(tail))
	if err := readFull(d.r, tail, at); err != nil {
		return fmt.Errorf("reading vhd footer at offset %#x: %w", at, err)
	}
	if !strings.HasPrefix(string(b), vhdCookie) && strings.HasPrefix(string(b[1:]), vhdCookie) {
		b, at = b[1:], at+1
	}
	f, err := parseVHDFooter(b[:vhdFooterSize], at)
	if err == nil {
		d.footer, d.footerAt = f, at
		return nil
	}
	if errors.Is(err, ErrUnsupported) || d.fileSize < vhdFooterSize {
		return err
	}
	head := make([]byte, vhdFooterSize)
	if err := readFull(d.r, head, 0); err != nil {
		return fmt.Errorf("reading copy of the vhd footer at offset 0: %w", err)
	}
	f, headErr := parseVHDFooter(head, 0)
	switch {
	case errors.Is(headErr, ErrUnsupported):
		return headErr
	case headErr != nil && strings.HasPrefix(string(head), vhdCookie):
		return corruptf("%v; its copy is of no use: %v", err, headErr)
	case headErr != nil || f.diskType == vhdFixed:
		return err
	}
	d.footer, d.damaged = f, err
	return nil
}

// readHead reads the dynamic disk header and the block allocation table.
func (d *VHDDisk) readHead() error {
	at := d.footer.dataOffset
	if d.fileSize < vhdHeaderSize || at > uint64(d.fileSize)-vhdHeaderSize {
		return corruptf("reading vhd footer at offset %#x: dynamic disk header at offset %#x reaches past the end of the file at %#x", d.footerAt, at, d.fileSize)
	}
	b := make([]byte, vhdHeaderSize)
	if err := readFull(d.r, b, int64(at)); err != nil {
		return fmt.Errorf("reading dynamic disk header at offset %#x: %w", at, err)
	}
	h, err := parseVHDHeader(b, int64(at))
	if err != nil {
		return err
	}
	d.header, d.blockSize = h, int64(h.blockSize)
	need := ceilDiv(d.size, d.blockSize)
	if int64(h.entries) < need {
		return corruptf("reading dynamic disk header at offset %#x: BAT of %d entries, a disk of %d bytes needs %d", at, h.entries, d.size, need)
	}
	if h.tableOffset > uint64(d.fileSize) || int64(h.entries)*4 > d.fileSize-int64(h.tableOffset) {
		return corruptf("reading dynamic disk header at offset %#x: BAT of %d entries at offset %#x reaches past the end of the file at %#x", at, h.entries, h.tableOffset, d.fileSize)
	}
	if need*4 > maxBATBytes {
		return unsupportedf("reading dynamic disk header at offset %#x: BAT of %d entries (have up to %d)", at, need, maxBATBytes/4)
	}
	table := make([]byte, need*4)
	if err := readFull(d.r, table, int64(h.tableOffset)); err != nil {
		return fmt.Errorf("reading BAT at offset %#x: %w", h.tableOffset, err)
	}
	d.bat = make([]uint32, need)
	for i := range d.bat {
		d.bat[i] = binary.BigEndian.Uint32(table[i*4:])
	}
	return nil
}

// Size implements Disk.
func (d *VHDDisk) Size() int64 { return d.size }

// Info implements Image.
func (d *VHDDisk) Info() Info {
	f := d.footer
	text := func(b [4]byte) string { return strings.TrimRight(string(b[:]), "\x00 ") }
	i := Info{Format: VHD, Subformat: string(VHDFixed), VirtualSize: d.size, BlockSize: d.blockSize, Details: []Detail{
		{"creator", fmt.Sprintf("%q %d.%d", text(f.creator), f.creatorVersion>>16, f.creatorVersion&0xffff)},
		{"creator host", fmt.Sprintf("%q", text(f.creatorOS))},
		{"created", vhdEpoch.Add(time.Duration(f.timestamp) * time.Second).Format(time.RFC3339)},
		{"unique id", hex.EncodeToString(f.uuid[:])},
		{"current size", fmt.Sprint(f.currentSize)},
		{"geometry", fmt.Sprintf("%d/%d/%d", f.geometry.cylinders, f.geometry.heads, f.geometry.sectors)},
	}}
	if f.diskType == vhdDynamic {
		i.Subformat = string(VHDDynamic)
	}
	if f.savedState {
		i.Details = append(i.Details, Detail{"saved state", "yes"})
	}
	return i
}

// blockAt returns where the data of block i lies in the file, 0 when the block
// is all zero.
func (d *VHDDisk) blockAt(i int64) (int64, error) {
	e := d.bat[i]
	if e == vhdNoBlock {
		return 0, nil
	}
	bitmap := int64(e) * vhdSector
	data := bitmap + vhdBitmapSize(d.blockSize)
	if data+d.blockSize > d.fileSize {
		return 0, d.entryError(i, fmt.Sprintf("its block reaches past the end of the file at %#x", d.fileSize))
	}
	if what := d.metadata(bitmap, data+d.blockSize); what != "" {
		return 0, d.entryError(i, "its block lies on the "+what)
	}
	return data, nil
}

func (d *VHDDisk) entryError(i int64, problem string) error {
	return corruptf("reading BAT at offset %#x: entry %d is sector %#x: %s", d.header.tableOffset, i, d.bat[i], problem)
}

// metadata names a structure that lies within [start, end), or nothing.
func (d *VHDDisk) metadata(start, end int64) string {
	header, table := int64(d.footer.dataOffset), int64(d.header.tableOffset)
	switch {
	case start < vhdFooterSize:
		return "copy of the footer"
	case start < header+vhdHeaderSize && header < end:
		return "dynamic disk header"
	case start < table+int64(d.header.entries)*4 && table < end:
		return "BAT"
	case d.damaged == nil && d.footerAt < end:
		return "footer"
	}
	return ""
}

// NextData implements Disk. Of a fixed image it knows the holes when its file
// does.
func (d *VHDDisk) NextData(off int64) (start, end int64, err error) {
	if off >= d.size {
		return d.size, d.size, nil
	}
	if d.header == nil {
		file, ok := d.r.(Disk)
		if !ok {
			return off, d.size, nil
		}
		start, end, err = file.NextData(off)
		return min(start, d.size), min(end, d.size), err
	}
	i := off / d.blockSize
	for i < int64(len(d.bat)) && d.bat[i] == vhdNoBlock {
		i++
	}
	start = min(max(off, i*d.blockSize), d.size)
	for i < int64(len(d.bat)) && d.bat[i] != vhdNoBlock {
		i++
	}
	return start, min(i*d.blockSize, d.size), nil
}

// ReadAt implements Disk. The sector bitmaps are not looked at, as QEMU and
// Hyper-V do it: sectors never written are zero in the file too.
func (d *VHDDisk) ReadAt(p []byte, off int64) (int, error) {
	return readRuns(p, off, d.size, d.readRun)
}

// readRun fills the front of p, of a dynamic image within the block at off.
func (d *VHDDisk) readRun(p []byte, off int64) (int, error) {
	host := off
	if d.header != nil {
		at, err := d.blockAt(off / d.blockSize)
		if err != nil {
			return 0, err
		}
		p = p[:min(int64(len(p)), d.blockSize-off%d.blockSize)]
		if at == 0 {
			clear(p)
			return len(p), nil
		}
		host = at + off%d.blockSize
	}
	if err := readFull(d.r, p, host); err != nil {
		return 0, fmt.Errorf("reading vhd data at offset %#x: %w", host, err)
	}
	return len(p), nil
}
