package diskimage

import (
	"bytes"
	"fmt"
	"io"
)

// Format is the name of an image format, spelled as qemu-img spells it but for
// VHD, which QEMU calls vpc.
type Format string

// Formats that Detect can tell. Those without a reader are named so that such
// an image is refused rather than taken for a raw disk.
const (
	Raw   Format = "raw"
	QCOW2 Format = "qcow2"
	VMDK  Format = "vmdk"
	VHD   Format = "vhd"
	VHDX  Format = "vhdx"
	VDI   Format = "vdi"
	LUKS  Format = "luks"
	OVA   Format = "ova"
	GCP   Format = "gcp" // disk.raw in a gzipped tar
	Gzip  Format = "gzip"
	XZ    Format = "xz"
	Zstd  Format = "zstd"
)

// signature is a magic number at a fixed place; at < 0 counts from the end.
// The first that is found counts.
type signature struct {
	format Format
	at     int64
	magic  string
}

var signatures = [...]signature{
	{QCOW2, 0, "QFI\xfb"},
	{VMDK, 0, "KDMV"},
	{VMDK, 0, "COWD"},
	{VMDK, 0, "# Disk DescriptorFile"},
	{VHDX, 0, "vhdxfile"},
	{VHD, 0, vhdCookie}, // dynamic: a copy of the footer at the head
	{VDI, 64, "\x7f\x10\xda\xbe"},
	{OVA, 257, "ustar"},
	{Gzip, 0, "\x1f\x8b\x08"},
	{XZ, 0, "\xfd7zXZ\x00"},
	{Zstd, 0, "\x28\xb5\x2f\xfd"},
	// Of a fixed VHD the head is the disk's, which may well be LUKS; what
	// comes before is a file that can end with anything.
	{VHD, -vhdFooterSize, vhdCookie},
	{VHD, -vhdOldFooter, vhdCookie},
	{LUKS, 0, "LUKS\xba\xbe"},
}

// Detect tells the format from the content of the first sector and, for fixed
// VHD, the last one; of a gzip file it inflates the first block of what may be
// a tar. What carries no known magic is Raw.
//
// The owner of a raw disk decides what its first sector holds and can make it
// look like another format; name the format in OpenOptions where that matters.
func Detect(r io.ReaderAt, size int64) (Format, error) {
	head := make([]byte, min(size, 512))
	if err := readFull(r, head, 0); err != nil {
		return "", fmt.Errorf("reading first sector: %w", err)
	}
	tail := make([]byte, min(size, 512))
	if err := readFull(r, tail, size-int64(len(tail))); err != nil {
		return "", fmt.Errorf("reading last sector: %w", err)
	}
	for _, s := range signatures {
		from := head
		at := s.at
		if at < 0 {
			from, at = tail, at+int64(len(tail))
		}
		if at >= 0 && at <= int64(len(from)) && bytes.HasPrefix(from[at:], []byte(s.magic)) {
			if s.format == Gzip && isGCP(r, size) {
				return GCP, nil
			}
			return s.format, nil
		}
	}
	return Raw, nil
}
