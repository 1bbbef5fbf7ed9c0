package scan

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// FuzzFile gives any bytes to every reader of containers: no panic, no error
// that is the content's, no more memory than the bounds allow.
func FuzzFile(f *testing.F) {
	t := &testing.T{}
	p := &placer{t: t, m: newMaker(t), dir: f.TempDir()}
	text := []byte("text\n")
	for _, seed := range [][]byte{
		p.gzip(text), p.tar("a", "b"), p.zip("a", text), p.ar("a", text), utf16Bytes("some text that is long enough", binary.BigEndian, false),
		[]byte("PACK\x00\x00\x00\x02\x00\x00\x00\x01\x30"), []byte("070701" + string(bytes.Repeat([]byte("0"), 104))),
		append([]byte("SQLite format 3\x00\x02\x00\x01\x01\x00\x40\x20\x20"), make([]byte, 2000)...),
		append([]byte("LPKSHHRH"), make([]byte, 200)...), []byte("\x28\xb5\x2f\xfd\x04\x00"), []byte("\xfd7zXZ\x00\x00\x04"),
		[]byte("QUtJQQ" + "QUtJQUtJQUtJQUtJQUtJQUtJQUtJQUtJQUtJQUtJQUtJ\n"), []byte("BZh91AY&SY"), []byte("\x04\x22\x4d\x18\x60\x40\x82"),
	} {
		f.Add(seed)
	}
	e, err := New(Options{MaxExpanded: 4 << 20})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
		if err := e.File(context.Background(), Location{Path: "/etc/x"}, int64(len(b)), 0, open); err != nil {
			t.Fatal(err)
		}
		e.mu.Lock()
		e.found, e.notes = nil, nil
		e.mu.Unlock()
	})
}

// FuzzDelta gives any difference to git's reader.
func FuzzDelta(f *testing.F) {
	f.Add([]byte("base"), []byte{4, 4, 0x90, 4})
	f.Add([]byte(""), []byte{0, 3, 3, 'a', 'b', 'c'})
	f.Fuzz(func(t *testing.T, base, delta []byte) {
		if out := applyDelta(base, delta); len(out) > maxObject+0x1000000 {
			t.Fatalf("%d bytes", len(out))
		}
	})
}

func FuzzAllowList(f *testing.F) {
	f.Add([]byte("[[allow]]\npath = \"/x\"\nreason = \"y\"\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = ParseAllowList("a", b, time.Unix(0, 0))
	})
}

// FuzzDatabase gives any file to the reader of dpkg's digests.
func FuzzDatabase(f *testing.F) {
	f.Add([]byte("d41d8cd98f00b204e9800998ecf8427e  usr/x\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		info := filepath.Join(dir, "var/lib/dpkg/info")
		if err := os.MkdirAll(info, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(info, "a.md5sums"), b, 0o644); err != nil {
			t.Fatal(err)
		}
		_ = newPristine().learn(os.DirFS(dir))
	})
}
