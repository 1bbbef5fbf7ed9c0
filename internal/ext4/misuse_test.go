package ext4

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

// ram is an image in memory.
type ram []byte

func (r ram) WriteAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > int64(len(r)) {
		return 0, io.ErrShortWrite
	}
	return copy(r[off:], p), nil
}

func newRAM(t testing.TB, size int64, change func(*Options)) (ram, *Writer) {
	t.Helper()
	opts := testOptions(size)
	if change != nil {
		change(&opts)
	}
	r := make(ram, size)
	w, err := NewWriter(r, opts)
	if err != nil {
		t.Fatal(err)
	}
	return r, w
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "ext4: ") {
		t.Errorf("error is %v, want ext4: …%s", err, want)
	}
}

// TestMisuse checks that wrong entries are refused and leave the writer usable.
func TestMisuse(t *testing.T) {
	image, w := newRAM(t, 16<<20, nil)
	create(t, w, Header{Path: "d", Mode: modeDir | 0o755}, nil)
	create(t, w, Header{Path: "f", Mode: modeRegular | 0o644}, []byte("f"))
	file, link := uint32(modeRegular|0o644), uint32(modeSymlink|0o777)
	many := map[string][]byte{"user.a": make([]byte, 2100), "user.b": make([]byte, 2100)}
	for _, c := range []struct {
		h    Header
		want string
	}{
		{Header{Path: "/f2", Mode: file}, "clean relative path"},
		{Header{Path: "d/", Mode: file}, "clean relative path"},
		{Header{Path: "./x", Mode: file}, "clean relative path"},
		{Header{Path: "d/../x", Mode: file}, "clean relative path"},
		{Header{Path: "a\x00b", Mode: file}, "NUL"},
		{Header{Path: strings.Repeat("x", 256), Mode: file}, "name of 256 bytes"},
		{Header{Path: "f", Mode: file}, "exists already"},
		{Header{Path: "d", Mode: modeDir}, "exists already"},
		{Header{Path: "no/x", Mode: file}, `parent "no" is not there`},
		{Header{Path: "f/x", Mode: file}, `parent "f" is not there`},
		{Header{Path: "", Mode: file}, "must be a directory"},
		{Header{Path: "lost+found", Mode: file}, "must be a directory"},
		{Header{Path: "x", Mode: 0o644}, "no known file type"},
		{Header{Path: "x", Mode: 1<<20 | file}, "unknown bits"},
		{Header{Path: "x", Mode: file, Size: -1}, "size -1"},
		{Header{Path: "x", Mode: file, Size: 1 << 45}, "ext4 allows"},
		{Header{Path: "x", Mode: link}, "link target of 0 bytes"},
		{Header{Path: "x", Mode: link, Linkname: strings.Repeat("x", 4096)}, "link target of 4096 bytes"},
		{Header{Path: "x", Mode: modeChar, Major: 4096}, "device 4096:0"},
		{Header{Path: "x", Mode: file, Xattrs: map[string][]byte{"nope": nil}}, "no such name space"},
		{Header{Path: "x", Mode: file, Xattrs: map[string][]byte{"user.": nil}}, "no such name space"},
		{Header{Path: "x", Mode: file, Xattrs: map[string][]byte{"user.x": make([]byte, 5000)}}, "do not fit"},
		{Header{Path: "x", Mode: file, Xattrs: many}, "do not fit"},
		{Header{Path: "x", Mode: file, Xattrs: map[string][]byte{"system.posix_acl_access": {1}}}, "access control list"},
		{Header{Path: "x", Mode: file, Xattrs: map[string][]byte{"system.posix_acl_access": wireACL([3]uint32{3, 0, 0})}}, "tag 0x3"},
	} {
		wantError(t, w.Create(c.h, strings.NewReader("")), c.want)
	}
	wantError(t, w.Link("l", "d"), "is a directory")
	wantError(t, w.Link("l", "none"), "no such file yet")
	wantError(t, w.Link("f", "f"), "exists already")
	wantError(t, w.Link("no/f", "f"), "not there")
	wantError(t, w.Link("l", ""), "clean")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	wantError(t, w.Close(), "closed writer")
	wantError(t, w.Create(Header{Path: "z", Mode: file}, nil), "closed writer")
	path := t.TempDir() + "/i"
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	fsck(t, path)
}

func TestBadOptions(t *testing.T) {
	for want, change := range map[string]func(*Options){
		"too small":        func(o *Options) { o.Size = 64 << 10 },
		"limit of 16 TiB":  func(o *Options) { o.Size = 1 << 45 },
		"label":            func(o *Options) { o.Label = strings.Repeat("x", 17) },
		"inode ratio":      func(o *Options) { o.InodeRatio = 100 },
		"journal of 10":    func(o *Options) { o.JournalBlocks = 10 },
		"journal of 99999": func(o *Options) { o.JournalBlocks = 99999 },
		"epoch":            func(o *Options) { o.Epoch = -1 },
		"reserved":         func(o *Options) { o.ReservedPercent = 60 },
	} {
		opts := testOptions(16 << 20)
		change(&opts)
		_, err := NewWriter(ram(nil), opts)
		wantError(t, err, want)
	}
	for _, size := range []int64{-1, 0, 1, 4096} {
		if _, err := NewWriter(ram(nil), Options{Size: size}); err == nil {
			t.Errorf("size %d is accepted", size)
		}
	}
}

// TestBrokenBodies: a body that is not as announced breaks the writer.
func TestBrokenBodies(t *testing.T) {
	broken := errors.New("broken pipe")
	for want, body := range map[string]io.Reader{
		"body ends after 4 of 10 bytes":        strings.NewReader("four"),
		"past its 10 bytes: more data":         strings.NewReader("0123456789x"),
		"reading the body at 0: broken pipe":   io.MultiReader(errReader{broken}),
		"reading the body past its 10 bytes: ": io.MultiReader(strings.NewReader("0123456789"), errReader{broken}),
		"no body for 10 bytes":                 nil,
	} {
		_, w := newRAM(t, 16<<20, nil)
		err := w.Create(Header{Path: "f", Mode: modeRegular, Size: 10}, body)
		wantError(t, err, want)
		wantError(t, w.Create(Header{Path: "g", Mode: modeRegular}, nil), want)
		wantError(t, w.Close(), want)
	}
}

type errReader struct{ err error }

func (e errReader) Read([]byte) (int, error) { return 0, e.err }

func TestNoSpace(t *testing.T) {
	_, w := newRAM(t, 16<<20, nil)
	err := w.Create(Header{Path: "usr/lib", Mode: modeDir}, nil)
	wantError(t, err, "parent")
	err = w.Create(Header{Path: "big", Mode: modeRegular, Size: 20 << 20}, bytes.NewReader(pattern(1, 20<<20)))
	wantError(t, err, `writing "big": no space left: image of 16.0 MiB has 0 B free, `)
	var full *NoSpaceError
	if !errors.As(err, &full) || full.Needed < 8<<20/blockSize || full.Resource != "blocks" {
		t.Errorf("%+v", full)
	}

	_, w = newRAM(t, 16<<20, func(o *Options) { o.InodeRatio = 1 << 20 })
	for i := range 16 {
		err = w.Create(Header{Path: strings.Repeat("x", i+1), Mode: modeFIFO}, nil)
	}
	wantError(t, err, "no inodes left: image of 16.0 MiB has 0 free, 1 more wanted")

	// Directories take their blocks at the end.
	_, w = newRAM(t, 4<<20, nil)
	for i := range 240 {
		if err = w.Create(Header{Path: "d" + strings.Repeat("y", i), Mode: modeDir}, nil); err != nil {
			t.Fatal(err)
		}
	}
	err = w.Create(Header{Path: "f", Mode: modeRegular, Size: 3 << 20}, bytes.NewReader(pattern(1, 3<<20)))
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, w.Close(), "no space left")
}

// TestFullImage fills an image to the last block and inode.
func TestFullImage(t *testing.T) {
	image, w := newRAM(t, 8<<20, func(o *Options) { o.JournalBlocks = -1; o.InodeRatio = 1 << 19 })
	free := w.alloc.free - 1 - lostFoundBlocks
	create(t, w, Header{Path: "f", Mode: modeRegular}, pattern(1, int(free)*blockSize))
	for i := range 4 {
		create(t, w, Header{Path: strings.Repeat("x", i+1), Mode: modeFIFO}, nil)
	}
	wantError(t, w.Create(Header{Path: "y", Mode: modeFIFO}, nil), "no inodes left")
	w.broken = nil // nothing was written for it
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := t.TempDir() + "/i"
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	fsck(t, path)
}

// failing writes n times and then no more.
type failing struct {
	ram
	n int
}

func (f *failing) WriteAt(p []byte, off int64) (int, error) {
	if f.n--; f.n < 0 {
		return 0, errors.New("disk gone")
	}
	return f.ram.WriteAt(p, off)
}

// TestWriteErrors: whichever write fails, somebody says so.
func TestWriteErrors(t *testing.T) {
	for n := 0; ; n++ {
		f := &failing{make(ram, 32<<20), n}
		w, err := NewWriter(f, testOptions(32<<20))
		for i := 0; err == nil && i < 3; i++ {
			body := pattern(1, 3<<20)
			err = w.Create(Header{Path: strings.Repeat("f", i+1), Mode: modeRegular, Size: int64(len(body))}, bytes.NewReader(body))
		}
		if err == nil {
			err = w.Close()
		}
		if err == nil {
			if n < 5 {
				t.Errorf("only %d writes", n)
			}
			return
		}
		wantError(t, err, "disk gone")
	}
}

func TestTimesAtTheEdge(t *testing.T) {
	image, w := newRAM(t, 16<<20, nil)
	for name, sec := range map[string]int64{"min": minSeconds, "max": maxSeconds, "below": minSeconds - 1, "above": maxSeconds + 1} {
		create(t, w, Header{Path: name, Mode: modeRegular, ModTime: time.Unix(sec, 0)}, nil)
	}
	create(t, w, Header{Path: "none", Mode: modeRegular}, nil)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := Open(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int64{"min": minSeconds, "max": maxSeconds, "below": minSeconds, "above": maxSeconds, "none": testEpoch} {
		info, err := f.Lstat(name)
		if err != nil || info.ModTime().Unix() != want {
			t.Errorf("%s: %v (%v), want %d", name, info.ModTime().Unix(), err, want)
		}
	}
}
