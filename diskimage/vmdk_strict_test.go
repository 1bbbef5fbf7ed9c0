package diskimage

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// strictReader reads a streamOptimized VMDK as VMware's "Virtual Disk Format
// 5.0" describes it, once from front to back and without any of the code under
// test. Whatever the text calls for is demanded.
type strictReader struct {
	r      io.Reader
	sector uint64 // next to be read
	header []byte
	cap    uint64 // in sectors
	grain  uint64
	want   Disk

	next   uint64            // first LBA a grain may have
	grains map[uint64]uint64 // sector of each grain since the last grain table, by LBA
	tables map[uint64]uint64 // sector of each grain table, by index
}

// strictStream fails unless r is a complete stream that holds want.
func strictStream(r io.Reader, want Disk) error {
	s := &strictReader{r: bufio.NewReaderSize(r, 1<<20), want: want, grains: map[uint64]uint64{}, tables: map[uint64]uint64{}}
	if err := s.readHeader(); err != nil {
		return err
	}
	for kind := uint32(0); kind != 2; {
		var err error
		if kind, err = s.readSection(); err != nil {
			return fmt.Errorf("at sector %d: %w", s.sector, err)
		}
	}
	if err := s.checkHole(s.next, s.cap); err != nil {
		return err
	}
	return s.readEnd()
}

// take reads n sectors.
func (s *strictReader) take(n uint64) ([]byte, error) {
	b := make([]byte, n*512)
	if _, err := io.ReadFull(s.r, b); err != nil {
		return nil, fmt.Errorf("%d sectors at sector %d: %w", n, s.sector, err)
	}
	s.sector += n
	return b, nil
}

func (s *strictReader) readHeader() error {
	b, err := s.take(1)
	if err != nil {
		return err
	}
	le := binary.LittleEndian
	s.header, s.cap, s.grain = b, le.Uint64(b[12:]), le.Uint64(b[20:])
	descriptor, size, overhead := le.Uint64(b[28:]), le.Uint64(b[36:]), le.Uint64(b[64:])
	switch {
	case string(b[:4]) != "KDMV" || le.Uint32(b[4:]) != 3:
		return fmt.Errorf("magic %q version %d", b[:4], le.Uint32(b[4:]))
	case le.Uint32(b[8:]) != 1|1<<16|1<<17 || string(b[73:77]) != "\n \r\n":
		return fmt.Errorf("flags %#x, newlines %q", le.Uint32(b[8:]), b[73:77])
	case s.grain != 128 || le.Uint32(b[44:]) != 512 || le.Uint16(b[77:]) != 1 || b[72] != 0:
		return fmt.Errorf("grain size %d, %d entries, compression %d, unclean %d", s.grain, le.Uint32(b[44:]), le.Uint16(b[77:]), b[72])
	case le.Uint64(b[48:]) != 0 || le.Uint64(b[56:]) != 1<<64-1:
		return fmt.Errorf("directories at %#x and %#x, want none and at the end", le.Uint64(b[48:]), le.Uint64(b[56:]))
	case descriptor != 1 || size == 0 || overhead%s.grain != 0 || overhead < 1+size:
		return fmt.Errorf("descriptor at %d of %d sectors, overhead %d", descriptor, size, overhead)
	case !allZero(b[79:]):
		return errors.New("padding of the header is not zero")
	case int64(s.cap)*512 < s.want.Size() || int64(s.cap-1)*512 > s.want.Size():
		return fmt.Errorf("capacity %d sectors for %d bytes", s.cap, s.want.Size())
	}
	d, err := s.take(overhead - 1)
	if err != nil {
		return err
	}
	if !allZero(d[size*512:]) {
		return errors.New("zeros wanted between descriptor and grains")
	}
	return s.checkDescriptor(string(bytes.TrimRight(d[:size*512], "\x00")))
}

func (s *strictReader) checkDescriptor(text string) error {
	for _, want := range []string{"# Disk DescriptorFile\nversion=1\n", "\nparentCID=ffffffff\n", "\ncreateType=\"streamOptimized\"\n",
		fmt.Sprintf("\nRW %d SPARSE \"", s.cap), "\nddb.adapterType = \"", "\nddb.geometry.cylinders = \"", "\nddb.virtualHWVersion = \""} {
		if !strings.Contains(text, want) || strings.ContainsRune(text, 0) {
			return fmt.Errorf("descriptor lacks %q:\n%s", want, text)
		}
	}
	return nil
}

// readSection reads a marker and what it stands for, up to the directory.
func (s *strictReader) readSection() (kind uint32, err error) {
	at := s.sector
	m, err := s.take(1)
	if err != nil {
		return 0, err
	}
	value, size, kind := binary.LittleEndian.Uint64(m), binary.LittleEndian.Uint32(m[8:]), binary.LittleEndian.Uint32(m[12:])
	if size > 0 {
		return 0, s.readGrain(at, value, size, m)
	}
	if !allZero(m[16:]) {
		return 0, errors.New("padding of a marker is not zero")
	}
	b, err := s.take(value)
	if err != nil {
		return 0, err
	}
	switch kind {
	case 1:
		return kind, s.checkTable(at+1, b)
	case 2:
		return kind, s.checkDirectory(b)
	}
	return 0, fmt.Errorf("marker of type %d where grains are", kind)
}

// readGrain reads the grain whose first sector is m and compares it.
func (s *strictReader) readGrain(at, lba uint64, size uint32, m []byte) error {
	if lba%s.grain != 0 || lba < s.next || lba >= s.cap || size > 65569 { // compressBound(64 KiB)
		return fmt.Errorf("grain with LBA %d of %d bytes, want a multiple of %d from %d", lba, size, s.grain, s.next)
	}
	for old := range s.grains {
		if old/512/s.grain != lba/512/s.grain {
			return fmt.Errorf("grain with LBA %d before the table of LBA %d", lba, old)
		}
	}
	rest, err := s.take((12+uint64(size)+511)/512 - 1)
	if err != nil {
		return err
	}
	m = append(m, rest...)
	if !allZero(m[12+size:]) {
		return errors.New("padding of a grain is not zero")
	}
	data := bytes.NewReader(m[12 : 12+size])
	z, err := zlib.NewReader(data)
	if err != nil {
		return err
	}
	got, err := io.ReadAll(z) // checks the Adler-32 at its end
	if err != nil || data.Len() != 0 || len(got) != int(s.grain)*512 || allZero(got) {
		return fmt.Errorf("grain with LBA %d: %d bytes, %d left over, %v", lba, len(got), data.Len(), err)
	}
	if err := s.compare(lba, got); err != nil {
		return err
	}
	s.grains[lba] = at
	hole := s.next
	s.next = lba + s.grain
	return s.checkHole(hole, lba)
}

func (s *strictReader) compare(lba uint64, got []byte) error {
	want := make([]byte, len(got)) // zeros past the end of the disk
	if _, err := s.want.ReadAt(want, int64(lba)*512); err != nil && err != io.EOF {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("grain with LBA %d differs from the disk", lba)
	}
	return nil
}

// checkHole fails when the disk has data between two LBAs.
func (s *strictReader) checkHole(from, to uint64) error {
	end := min(int64(to)*512, s.want.Size())
	for off := int64(from) * 512; off < end; {
		start, stop, err := s.want.NextData(off)
		if err != nil || start >= stop || start >= end {
			return err
		}
		b := make([]byte, min(1<<20, min(stop, end)-start))
		if _, err := s.want.ReadAt(b, start); err != nil && err != io.EOF {
			return err
		}
		if !allZero(b) {
			return fmt.Errorf("data near %#x of the disk is not in the stream", start)
		}
		off = start + int64(len(b))
	}
	return nil
}

// checkTable holds a grain table against the grains since the last one.
func (s *strictReader) checkTable(at uint64, b []byte) error {
	if len(b) != 2048 || len(s.grains) == 0 {
		return fmt.Errorf("grain table of %d bytes after %d grains", len(b), len(s.grains))
	}
	index := (s.next - 1) / (512 * s.grain)
	for i := range uint64(512) {
		if e := uint64(binary.LittleEndian.Uint32(b[i*4:])); e != s.grains[(index*512+i)*s.grain] {
			return fmt.Errorf("grain table %d: entry %d is %d, want %d", index, i, e, s.grains[(index*512+i)*s.grain])
		}
	}
	s.tables[index] = at
	clear(s.grains)
	return nil
}

func (s *strictReader) checkDirectory(b []byte) error {
	n := (s.cap + 512*s.grain - 1) / (512 * s.grain)
	if uint64(len(b)) != (n*4+511)/512*512 || len(s.grains) != 0 {
		return fmt.Errorf("directory of %d bytes for %d tables, with %d grains in no table", len(b), n, len(s.grains))
	}
	for i := range uint64(len(b) / 4) {
		if e := uint64(binary.LittleEndian.Uint32(b[i*4:])); e != s.tables[i] {
			return fmt.Errorf("directory entry %d is %d, want %d", i, e, s.tables[i])
		}
	}
	s.header = slices.Clone(s.header)
	binary.LittleEndian.PutUint64(s.header[56:], s.sector-uint64(len(b)/512))
	return nil
}

// readEnd reads footer and end-of-stream marker, and nothing after them.
func (s *strictReader) readEnd() error {
	b, err := s.take(3)
	if err != nil {
		return err
	}
	marker := make([]byte, 512)
	marker[0], marker[12] = 1, 3
	if !bytes.Equal(b[:512], marker) {
		return fmt.Errorf("footer marker is %x", b[:16])
	}
	if !bytes.Equal(b[512:1024], s.header) {
		return fmt.Errorf("footer is not the header with the directory's place: %x", b[512:600])
	}
	if !allZero(b[1024:]) {
		return fmt.Errorf("end-of-stream marker is %x", b[1024:1040])
	}
	if n, err := s.r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		return fmt.Errorf("something follows the end of the stream (%v)", err)
	}
	return nil
}

func allZero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

// TestStrictReaderRefusesQEMUs shows that the strict reader is one: qemu-img's
// streamOptimized has its directory at the head, no tables between the grains
// and no footer.
func TestStrictReaderRefusesQEMUs(t *testing.T) {
	disk := testDisks()[4]
	path := rawFile(t, disk.size, disk.puts...)
	out := filepath.Join(t.TempDir(), "theirs.vmdk")
	qemu(t, "qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", path, out)
	f, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := strictStream(f, open(t, path, OpenOptions{Format: Raw})); err == nil {
		t.Error("qemu-img's stream is accepted")
	} else {
		t.Logf("refused: %v", err)
	}
}
