package diskimage

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// The old GNU header (GNU tar manual, "Basic Tar Format", struct
// oldgnu_header and struct sparse_header): where the sparse map's fields are.
const (
	tarBlock       = 512
	tarRecord      = 20 * tarBlock // GNU tar's archives are whole records
	tarMagic       = "ustar  \x00"
	tarTypeSparse  = 'S'
	tarMapAt       = 386 // in the header: four entries of two numbers
	tarMapEntries  = 4
	tarExtended    = 482 // tells that an extension block follows
	tarRealSize    = 483
	tarNumber      = 12
	tarExtEntries  = 21 // in an extension block, from its start
	tarExtExtended = 504

	gcpName = "disk.raw"
)

// putTarNumber writes n in octal or, where it is too large, as GNU tar does in
// base 256 with the first bit set.
func putTarNumber(b []byte, n int64) {
	if n < 1<<(3*(len(b)-1)) {
		copy(b, fmt.Sprintf("%0*o\x00", len(b)-1, n))
		return
	}
	clear(b)
	binary.BigEndian.PutUint64(b[len(b)-8:], uint64(n))
	b[0] = 0x80
}

// tarNumberOf reads what putTarNumber writes. Spaces may stand around octal
// digits.
func tarNumberOf(b []byte) (int64, error) {
	if b[0]&0x80 == 0 {
		text := strings.Trim(string(b), " \x00")
		if text == "" {
			return 0, nil
		}
		n, err := strconv.ParseUint(text, 8, 62)
		if err != nil {
			return 0, corruptf("%q is no octal number", b)
		}
		return int64(n), nil
	}
	n := int64(b[0] & 0x7f) // the next bit is set in negative numbers
	for _, c := range b[1:] {
		if n >= 1<<54 {
			return 0, corruptf("number %x, want less than 2^62", b)
		}
		n = n<<8 | int64(c)
	}
	return n, nil
}

// tarChecksum is the sum of a header's bytes with spaces for the checksum's
// own eight.
func tarChecksum(b []byte) int64 {
	sum := int64(8 * ' ')
	for i, c := range b {
		if i < 148 || i >= 156 {
			sum += int64(c)
		}
	}
	return sum
}

// writeTarHead writes the header of a sparse disk.raw and its map. The map
// says where the runs of data are; they follow it in the archive back to back.
func writeTarHead(w io.Writer, runs []extent, size, mtime int64) error {
	b := make([]byte, tarBlock)
	copy(b, gcpName)
	putTarNumber(b[100:108], 0o644)
	putTarNumber(b[108:116], 0)
	putTarNumber(b[116:124], 0)
	stored := int64(0)
	for _, x := range runs {
		stored += x.end - x.start
	}
	putTarNumber(b[124:136], stored)
	putTarNumber(b[136:148], mtime)
	b[156] = tarTypeSparse
	copy(b[257:], tarMagic)
	putTarNumber(b[tarRealSize:tarRealSize+tarNumber], size)
	if len(runs) == 0 || runs[len(runs)-1].end < size {
		// GNU tar gives a file that ends with a hole its length by an empty
		// run at the end (sparse.c, sparse_extract_region).
		runs = append(runs, extent{size, size})
	}
	rest := putTarMap(b[tarMapAt:], runs, tarMapEntries)
	b[tarExtended] = tarMore(rest)
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", tarChecksum(b)))
	if _, err := w.Write(b); err != nil {
		return err
	}
	for len(rest) > 0 {
		clear(b)
		rest = putTarMap(b, rest, tarExtEntries)
		b[tarExtExtended] = tarMore(rest)
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return nil
}

// putTarMap writes up to n runs and returns the others.
func putTarMap(b []byte, runs []extent, n int) []extent {
	n = min(n, len(runs))
	for i, x := range runs[:n] {
		putTarNumber(b[i*24:i*24+tarNumber], x.start)
		putTarNumber(b[i*24+tarNumber:i*24+24], x.end-x.start)
	}
	return runs[n:]
}

func tarMore(rest []extent) byte {
	if len(rest) > 0 {
		return 1
	}
	return 0
}

// tarForm is a way to store a file in a tar.
type tarForm string

const (
	tarFormPlain  tarForm = "plain"
	tarFormSparse tarForm = "old GNU sparse"
	tarFormPosix  tarForm = "POSIX sparse" // its holes cannot be had from archive/tar
)

// tarDisk is the first member of a tar, which should be a disk.raw.
type tarDisk struct {
	name   string
	size   int64 // of the file
	form   tarForm
	stored int64    // bytes in the archive
	header []byte   // of a sparse member
	runs   []extent // of data; of a sparse member known after readMap
	data   io.Reader
}

// tarFirst reads the first header of the tar in r, without a sparse map.
func tarFirst(r io.Reader) (*tarDisk, error) {
	b := make([]byte, tarBlock)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	if b[156] != tarTypeSparse || string(b[257:265]) != tarMagic {
		return tarPlain(io.MultiReader(bytes.NewReader(b), r))
	}
	sum, err := tarNumberOf(b[148:156])
	if want := tarChecksum(b); err != nil || sum != want {
		return nil, corruptf("reading tar header at offset 0x0: checksum %q, want %o", b[148:156], want)
	}
	name, _, _ := bytes.Cut(b[:100], []byte{0})
	d := &tarDisk{name: string(name), form: tarFormSparse, header: b, data: r}
	if d.size, err = tarNumberOf(b[tarRealSize : tarRealSize+tarNumber]); err != nil {
		return nil, fmt.Errorf("reading tar header at offset 0x0: real size: %w", err)
	}
	if d.stored, err = tarNumberOf(b[124:136]); err != nil {
		return nil, fmt.Errorf("reading tar header at offset 0x0: size: %w", err)
	}
	return d, nil
}

// tarPlain reads a header that is not sparse, in any form archive/tar knows.
func tarPlain(r io.Reader) (*tarDisk, error) {
	t := tar.NewReader(r)
	h, err := t.Next()
	if err != nil {
		return nil, err
	}
	if h.Typeflag != tar.TypeReg {
		return nil, unsupportedf("reading tar header at offset 0x0: %q has type %q, want a file", h.Name, h.Typeflag)
	}
	d := &tarDisk{name: h.Name, size: h.Size, stored: h.Size, form: tarFormPlain, data: t}
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			d.form = tarFormPosix
		}
	}
	if h.Size > 0 {
		d.runs = []extent{{0, h.Size}}
	}
	return d, nil
}

// maxTarRuns bounds a sparse map: pieces of 64 KiB with as much between them
// on a disk of 1 TiB.
const maxTarRuns = 8 << 20

// readMap reads the map of a sparse member and checks that its runs come in
// order, fit the disk and are what the archive stores.
func (d *tarDisk) readMap() error {
	switch d.form {
	case tarFormPlain:
		return nil
	case tarFormPosix:
		return unsupportedf("%q is a POSIX sparse file: pack it with tar --format=oldgnu -S, which is what Google takes", d.name)
	}
	left := d.stored
	if err := d.addRuns(d.header[tarMapAt:], tarMapEntries, &left); err != nil {
		return fmt.Errorf("reading sparse map at offset %#x: %w", tarMapAt, err)
	}
	more := d.header[tarExtended] != 0
	b := make([]byte, tarBlock)
	for at := int64(tarBlock); more; at += tarBlock {
		if _, err := io.ReadFull(d.data, b); err != nil {
			return err
		}
		if err := d.addRuns(b, tarExtEntries, &left); err != nil {
			return fmt.Errorf("reading sparse map at offset %#x: %w", at, err)
		}
		more = b[tarExtExtended] != 0
	}
	if left != 0 {
		return corruptf("reading tar header at offset 0x0: %d bytes are stored, %d more than the sparse map has", d.stored, left)
	}
	return nil
}

// addRuns adds the entries in b; one that is empty is the last.
func (d *tarDisk) addRuns(b []byte, n int, left *int64) error {
	end := int64(0)
	if len(d.runs) > 0 {
		end = d.runs[len(d.runs)-1].end
	}
	for i := range n {
		start, err := tarNumberOf(b[i*24 : i*24+tarNumber])
		if err != nil {
			return err
		}
		length, err := tarNumberOf(b[i*24+tarNumber : i*24+24])
		switch {
		case err != nil:
			return err
		case length == 0:
			continue
		case start < end || start > d.size || length > d.size-start:
			return corruptf("run of %d bytes at %#x, want it after %#x and within %d bytes", length, start, end, d.size)
		case length > *left:
			return corruptf("run of %d bytes at %#x, but only %d more are stored", length, start, *left)
		case length%tarBlock != 0 && start+length != d.size:
			return corruptf("run of %d bytes at %#x, want whole blocks of 512 before the end", length, start)
		case len(d.runs) == maxTarRuns:
			return corruptf("more than %d runs", maxTarRuns)
		}
		end = start + length
		*left -= length
		d.runs = append(d.runs, extent{start, end})
	}
	return nil
}
