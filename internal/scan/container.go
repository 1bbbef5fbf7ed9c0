package scan

import (
	"compress/bzip2"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/xi2/xz"
)

// container is a format that holds other bytes.
type container struct {
	name  string
	at    int
	magic string
	walk  func(u *unit, r io.Reader) error
	raw   bool // its own bytes are looked at, too
	// test has the last word; nil says yes.
	test func(head []byte) bool
}

// maxDictionary bounds the memory of a decompressor: 64 MiB is xz -9's and
// more than mkinitramfs asks of zstd.
const maxDictionary = 64 << 20

// containers are the formats that are looked into, and those that are named
// because they are not.
func containers() []container {
	return []container{
		{"gzip", 0, "\x1f\x8b\x08", compressed("gzip", func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }), false, nil},
		{"xz", 0, "\xfd7zXZ\x00", compressed("xz", func(r io.Reader) (io.Reader, error) { return xz.NewReader(r, maxDictionary) }), false, nil},
		{"zstd", 0, "\x28\xb5\x2f\xfd", walkZstd, false, nil},
		{"bzip2", 0, "BZh", compressed("bzip2", func(r io.Reader) (io.Reader, error) { return bzip2.NewReader(r), nil }), false, isBzip2},
		{"lz4", 0, "\x04\x22\x4d\x18", compressed("lz4", newLZ4), false, nil},
		{"lz4", 0, "\x02\x21\x4c\x18", compressed("lz4", newLZ4), false, nil},
		{"tar", 257, "ustar", walkTar, false, nil},
		{"zip", 0, "PK\x03\x04", walkZip, false, nil},
		{"cpio", 0, "070701", walkCPIO, false, nil},
		{"cpio", 0, "070702", walkCPIO, false, nil},
		{"ar", 0, "!<arch>\n", walkAr, false, nil},
		{"SQLite", 0, "SQLite format 3\x00", walkSQLite, false, nil},
		{"journal", 0, "LPKSHHRH", walkJournal, false, nil},
		{"git pack", 0, "PACK\x00\x00\x00\x02", walkPack, false, nil},
		{"UTF-16", 0, "\xff\xfe", walkUTF16, true, nil},
		{"UTF-16", 0, "\xfe\xff", walkUTF16, true, nil},
		{"squashfs", 0, "hsqs", unread("squashfs file system"), true, nil},
		{"qcow2", 0, "QFI\xfb", unread("qcow2 image"), true, nil},
		{"7z", 0, "7z\xbc\xaf\x27\x1c", unread("7z archive"), true, nil},
		{"rar", 0, "Rar!\x1a\x07", unread("rar archive"), true, nil},
		{"rpm", 0, "\xed\xab\xee\xdb", unread("rpm package"), true, nil},
		{"ISO 9660", 0x8001, "CD001", unread("ISO 9660 image"), true, nil},
		{"LUKS", 0, "LUKS\xba\xbe", unread("LUKS volume"), true, nil},
		{"git object", 0, "\x78", compressed("git object", func(r io.Reader) (io.Reader, error) { return zlib.NewReader(r) }), false, isLooseObject},
		{"UTF-16", 0, "", walkUTF16, true, isUTF16},
	}
}

// containerOf knows a format by its first bytes; nil is none.
func (e *Engine) containerOf(head []byte) *container {
	for i := range e.rules.containers {
		k := &e.rules.containers[i]
		if len(head) >= k.at+len(k.magic) && string(head[k.at:k.at+len(k.magic)]) == k.magic && (k.test == nil || k.test(head)) {
			return k
		}
	}
	return nil
}

// isBzip2 wants the first block's own signature behind the short magic.
func isBzip2(head []byte) bool { return len(head) > 10 && string(head[4:10]) == "1AY&SY" }

// unread notes a format that is not looked into.
func unread(what string) func(*unit, io.Reader) error {
	return func(u *unit, _ io.Reader) error {
		if !u.known {
			u.note("not looked into: " + what)
		}
		return nil
	}
}

// compressed walks a stream that unpacks to one other.
func compressed(name string, open func(io.Reader) (io.Reader, error)) func(*unit, io.Reader) error {
	return func(u *unit, r io.Reader) error {
		z, err := open(r)
		if err != nil {
			return err
		}
		return u.member(name, withoutSuffix(u.path), z)
	}
}

func withoutSuffix(path string) string {
	if i := strings.LastIndexByte(path, '.'); i > strings.LastIndexByte(path, '/')+1 {
		return path[:i]
	}
	return path
}

func newLZ4(r io.Reader) (io.Reader, error) {
	z := lz4.NewReader(r)
	return z, z.Apply(lz4.ConcurrencyOption(1))
}

func walkZstd(u *unit, r io.Reader) error {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(2*maxDictionary), zstd.WithDecoderMaxWindow(2*maxDictionary))
	if err != nil {
		return err
	}
	defer z.Close()
	return u.member("zstd", withoutSuffix(u.path), z)
}

// isUTF16 knows text of two bytes a letter without a mark: every second byte
// is zero.
func isUTF16(head []byte) bool {
	head = head[:min(len(head), 512)&^1]
	if len(head) < 32 {
		return false
	}
	var even, odd int
	for i := 0; i < len(head); i += 2 {
		switch {
		case head[i] == 0 && printable(head[i+1]):
			even++
		case head[i+1] == 0 && printable(head[i]):
			odd++
		}
	}
	return max(even, odd)*10 >= len(head)/2*9
}

// walkUTF16 gives the ASCII of a text; other letters become "?".
func walkUTF16(u *unit, r io.Reader) error {
	return u.member("UTF-16", u.path, &utf16Reader{r: r})
}

type utf16Reader struct {
	r   io.Reader
	big *bool
	buf [8192]byte
}

func (t *utf16Reader) Read(p []byte) (int, error) {
	n, err := io.ReadFull(t.r, t.buf[:min(len(t.buf), 2*len(p))])
	if n < 2 {
		return 0, io.EOF
	}
	b := t.buf[:n&^1]
	if t.big == nil {
		big := b[0] == 0xfe || b[0] == 0
		t.big = &big
	}
	out := 0
	for i := 0; i < len(b); i += 2 {
		hi, lo := b[i+1], b[i]
		if *t.big {
			hi, lo = lo, hi
		}
		if hi != 0 || lo >= 0x80 {
			lo = '?'
		}
		p[out] = lo
		out++
	}
	if err == io.ErrUnexpectedEOF || err == io.EOF {
		err = nil
	}
	return out, err
}
