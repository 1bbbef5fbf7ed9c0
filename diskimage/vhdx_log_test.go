package diskimage

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// logChange is a change in a log entry: 4 KiB of data, or length zeros.
type logChange struct {
	at, length int64
	data       []byte
}

var testLog = guid{1, 2, 3, 4}

// logEntry makes a log entry by sections 2.3.1.1 to 2.3.1.4.
func logEntry(sequence uint64, tail, fileSize int64, changes ...logChange) []byte {
	le := binary.LittleEndian
	b := make([]byte, (64+32*len(changes)+4095)/4096*4096)
	for i, c := range changes {
		d := b[64+32*i:]
		le.PutUint64(d[16:], uint64(c.at))
		le.PutUint64(d[24:], sequence)
		if c.data == nil {
			copy(d, "zero")
			le.PutUint64(d[8:], uint64(c.length))
			continue
		}
		copy(d, "desc")
		copy(d[4:8], c.data[4092:])
		copy(d[8:16], c.data[:8])
		sector := bytes.Clone(c.data)
		copy(sector, "data")
		le.PutUint32(sector[4:], uint32(sequence>>32))
		le.PutUint32(sector[4092:], uint32(sequence))
		b = append(b, sector...)
	}
	copy(b, "loge")
	le.PutUint32(b[8:], uint32(len(b)))
	le.PutUint32(b[12:], uint32(tail))
	le.PutUint64(b[16:], sequence)
	le.PutUint32(b[24:], uint32(len(changes)))
	copy(b[32:], testLog[:])
	le.PutUint64(b[48:], uint64(fileSize))
	le.PutUint64(b[56:], uint64(fileSize))
	le.PutUint32(b[4:], vhdxChecksum(b))
	return b
}

// putLog places an entry in the log of an image, around its end at need.
func putLog(b []byte, at int, entry []byte) {
	for i := 0; i < len(entry); i += 4096 {
		copy(b[vhdxLogAt+(at+i)%vhdxUnit:], entry[i:i+4096])
	}
}

// setHeaders changes both headers and makes their checksums right.
func setHeaders(b []byte, change func(h []byte)) []byte {
	for _, at := range vhdxHeadersAt {
		h := b[at : at+vhdxHeaderSize]
		change(h)
		binary.LittleEndian.PutUint32(h[4:], vhdxChecksum(h))
	}
	return b
}

func openLog(h []byte) { copy(h[48:], testLog[:]) }

// TestVHDXLog takes the first sector of the BAT out of an image, puts it into
// a log in several ways, and lets QEMU replay a copy.
func TestVHDXLog(t *testing.T) {
	good := smallVHDX(t, VHDXOptions{})
	size := int64(len(good))
	bat := logChange{at: vhdxBATAt, data: good[vhdxBATAt : vhdxBATAt+4096]}
	nothing := logChange{at: vhdxBATAt, data: make([]byte, 4096)}
	other := bytes.Repeat([]byte{9}, 4096) // no BAT at all
	const manyDescriptors = "many descriptors"
	for _, c := range []struct {
		name string
		fill func(b []byte)
	}{
		{"one", func(b []byte) { putLog(b, 0, logEntry(1, 0, size, bat)) }},
		{"later", func(b []byte) { putLog(b, 40960, logEntry(7, 40960, size, bat)) }},
		{"around the end", func(b []byte) { putLog(b, vhdxUnit-4096, logEntry(1<<40, vhdxUnit-4096, size, bat)) }},
		{"two", func(b []byte) {
			putLog(b, 0, logEntry(5, 0, size, nothing))
			putLog(b, 8192, logEntry(6, 0, size, bat))
		}},
		{"older sequence first", func(b []byte) {
			putLog(b, 0, logEntry(2, 0, size, logChange{at: vhdxBATAt, data: other}))
			putLog(b, 65536, logEntry(9, 65536, size, bat))
		}},
		{"older sequence last", func(b []byte) {
			putLog(b, 0, logEntry(9, 0, size, bat))
			putLog(b, 65536, logEntry(2, 65536, size, logChange{at: vhdxBATAt, data: other}))
		}},
		{"torn last", func(b []byte) {
			putLog(b, 0, logEntry(3, 0, size, bat))
			torn := logEntry(4, 0, size, logChange{at: vhdxBATAt, data: other})
			torn[5000]++
			putLog(b, 8192, torn)
		}},
		{"zeros, then data", func(b []byte) {
			putLog(b, 0, logEntry(3, 0, size, logChange{at: vhdxBATAt, length: 8192}, bat))
		}},
		{"data, then empty", func(b []byte) {
			putLog(b, 0, logEntry(3, 0, size, bat))
			putLog(b, 8192, logEntry(4, 0, size))
		}},
		{manyDescriptors, func(b []byte) {
			changes := []logChange{bat}
			for i := range int64(150) { // a second sector of them
				changes = append(changes, logChange{at: vhdxBATAt + 8192 + i*4096, length: 4096})
			}
			putLog(b, 0, logEntry(3, 0, size, changes...))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := setHeaders(bytes.Clone(good), openLog)
			copy(b[vhdxBATAt:], other)
			c.fill(b)
			// QEMU 7.2 reads a second sector of descriptors into the place of
			// the first (vhdx_log_read_sectors) and refuses such a log.
			sameAfterReplay(t, b, good, c.name != manyDescriptors)
		})
	}
}

// sameAfterReplay compares the image in b, which has a log, with a good one, as
// we read it and, when asked, as QEMU does.
func sameAfterReplay(t *testing.T, b, good []byte, askQEMU bool) {
	t.Helper()
	dir := t.TempDir()
	crashed, want := filepath.Join(dir, "crashed.vhdx"), filepath.Join(dir, "good.vhdx")
	for path, content := range map[string][]byte{crashed: b, want: good} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f := open(t, crashed, OpenOptions{})
	sameDisk(t, open(t, want, OpenOptions{}), f)
	mustCheck(t, f)
	if d := f.Info().Details; d[len(d)-1].Name != "log" {
		t.Errorf("the log is not told of: %v", d)
	}
	if after, err := os.ReadFile(crashed); err != nil || !bytes.Equal(after, b) {
		t.Errorf("the file was changed (%v)", err)
	}
	if askQEMU {
		qemu(t, "qemu-img", "check", "-q", "-r", "all", crashed)
		qemu(t, "qemu-img", "compare", "-q", crashed, want)
	}
}

// TestVHDXLogTail replays from the tail on: what comes before it is in the
// file already and may have been followed by changes without the log.
func TestVHDXLogTail(t *testing.T) {
	good := smallVHDX(t, VHDXOptions{})
	b := setHeaders(bytes.Clone(good), openLog)
	size := int64(len(good))
	putLog(b, 0, logEntry(5, 0, size, logChange{at: vhdxBATAt, data: bytes.Repeat([]byte{9}, 4096)}))
	putLog(b, 8192, logEntry(6, 8192, size))
	d, err := OpenVHDX(bytes.NewReader(b), size)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.NextData(0); err != nil || d.changes != 0 {
		t.Errorf("%d changes, %v: want none", d.changes, err)
	}
}

// TestVHDXLogOfQEMU has QEMU fail to write to the BAT once the log is written,
// as a crash between the two does.
func TestVHDXLogOfQEMU(t *testing.T) {
	path := filepath.Join(t.TempDir(), "crashed.vhdx")
	qemu(t, "qemu-img", "create", "-q", "-f", "vhdx", "-o", "block_size=1M", path, "64M")
	qemu(t, "qemu-io", "-f", "vhdx", "-c", "write -P 7 1M 300k", path)
	before := open(t, path, OpenOptions{}).Image.(*VHDXDisk)
	fail := fmt.Sprintf("driver=vhdx,file.driver=blkdebug,file.image.driver=file,file.image.filename=%s,file.inject-error.0.event=none,"+
		"file.inject-error.0.iotype=write,file.inject-error.0.sector=%d,file.inject-error.0.errno=5,file.inject-error.0.once=off", path, before.bat.start/512)
	qemuFails(t, "qemu-io", "-c", "write -P 9 20M 64k", "--image-opts", fail)

	f := open(t, path, OpenOptions{})
	if f.Image.(*VHDXDisk).changes == 0 {
		t.Error("no log was left: the test says nothing")
	}
	raw := create(t, "replayed.raw")
	if _, err := Write(context.Background(), f, WriteOptions{}, NewRawWriter(raw, RawOptions{NoDigest: true})); err != nil {
		t.Fatal(err)
	}
	qemu(t, "qemu-io", "-r", "-f", "raw", "-c", "read -P 9 20M 64k", "-c", "read -P 7 1M 300k", "-c", "read -P 0 21M 1M", raw.Name())
	qemu(t, "qemu-img", "check", "-q", "-r", "all", path)
	qemu(t, "qemu-img", "compare", "-q", "-f", "vhdx", "-F", "raw", path, raw.Name())
}

func TestVHDXLogRefused(t *testing.T) {
	good := smallVHDX(t, VHDXOptions{})
	size := int64(len(good))
	sector := make([]byte, 4096)
	for _, c := range []struct {
		name   string
		change func(b []byte) []byte
		kind   error
		want   string
	}{
		{"no entry", func(b []byte) []byte { return b }, ErrCorrupt, "no sequence of sound entries"},
		{"other GUID", func(b []byte) []byte {
			e := logEntry(1, 0, size)
			e[32]++
			binary.LittleEndian.PutUint32(e[4:], vhdxChecksum(e))
			putLog(b, 0, e)
			return b
		}, ErrCorrupt, "no sequence of sound entries"},
		{"tail elsewhere", func(b []byte) []byte { putLog(b, 0, logEntry(1, 4096, size)); return b }, ErrCorrupt, "no sequence of sound entries"},
		{"version", func(b []byte) []byte {
			return setHeaders(b, func(h []byte) { h[64] = 1 })
		}, ErrUnsupported, "replaying vhdx log at offset 0x100000: version 1"},
		{"too long", func(b []byte) []byte {
			b = setHeaders(b, func(h []byte) { binary.LittleEndian.PutUint32(h[68:], 32<<20) })
			return append(b, make([]byte, 40<<20)...)
		}, ErrUnsupported, "want at most 16777216; attach it in Hyper-V"},
		{"file was longer", func(b []byte) []byte { putLog(b, 0, logEntry(1, 0, size+1)); return b }, ErrCorrupt, "entry at offset 0x100000: the file had"},
		{"changes headers", func(b []byte) []byte {
			putLog(b, 0, logEntry(1, 0, size, logChange{at: 65536, data: sector}))
			return b
		}, ErrCorrupt, "changes offset 0x10000, before the region tables"},
		{"far away", func(b []byte) []byte {
			putLog(b, 0, logEntry(1, 0, size, logChange{at: 1 << 62, data: sector}))
			return b
		}, ErrCorrupt, "descriptor 0: changes 4096 bytes at offset 0x4000000000000000"},
		{"endless zeros", func(b []byte) []byte {
			putLog(b, 0, logEntry(1, 0, size, logChange{at: vhdxBATAt, length: -4096}))
			return b
		}, ErrCorrupt, "changes 18446744073709547520 bytes"},
		{"too many", func(b []byte) []byte {
			var changes []logChange
			for i := range int64(2 * vhdxMaxPatches) {
				changes = append(changes, logChange{at: vhdxUnit + i*8192, length: 4096})
			}
			putLog(b, 0, logEntry(1, 0, size, changes...))
			return b
		}, ErrUnsupported, "more than 4096 changes; attach it in Hyper-V"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := c.change(setHeaders(bytes.Clone(good), openLog))
			if err := readVHDX(b); !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %v with %q", err, c.kind, c.want)
			}
		})
	}
}

// TestPatchedFile holds random changes against a plain copy of the file.
func TestPatchedFile(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 22))
	plain := random(r, 1000, false)
	f := &patchedFile{r: bytes.NewReader(bytes.Clone(plain)), stored: 1000, size: 1000}
	plain = append(plain, make([]byte, 500)...)
	for range 300 {
		p := filePatch{start: r.Int64N(1400)}
		p.end = p.start + r.Int64N(101)
		clear(plain[p.start:p.end])
		if r.IntN(2) == 0 {
			p.data = random(r, int(p.end-p.start), false)
			copy(plain[p.start:], p.data)
		}
		f.paint(p)
		from := r.Int64N(1500)
		got := make([]byte, r.Int64N(1500))
		n, err := f.ReadAt(got, from)
		want := plain[min(from, f.size):min(f.size, from+int64(len(got)))]
		if n != len(want) || !bytes.Equal(got[:n], want) || (err == io.EOF) != (n < len(got)) {
			t.Fatalf("reading %d bytes at %d: %d, %v", len(got), from, n, err)
		}
	}
}
