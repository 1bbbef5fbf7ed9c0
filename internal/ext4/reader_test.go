package ext4

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
)

func openImage(t testing.TB, path string) *FS {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	f, err := Open(file, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// describe puts all there is to know of a file into one line.
func describe(n Node, body io.Reader) (string, error) {
	sum := sha256.New()
	if body != nil {
		if _, err := io.Copy(sum, body); err != nil {
			return "", err
		}
	}
	var attrs []string
	for _, k := range slices.Sorted(maps.Keys(n.Xattrs)) {
		attrs = append(attrs, fmt.Sprintf("%s=%x", k, n.Xattrs[k]))
	}
	return fmt.Sprintf("%o ino %d links %d %d:%d size %d %v dev %d:%d ->%q %x %s", n.Mode, n.Ino, n.Links, n.UID, n.GID,
		n.Size, n.ModTime, n.Major, n.Minor, n.Linkname, sum.Sum(nil)[:8], strings.Join(attrs, " ")), nil
}

// walkImage lists an image with the reader.
func walkImage(t testing.TB, image string) map[string]string {
	t.Helper()
	f := openImage(t, image)
	all := map[string]string{}
	err := fs.WalkDir(f, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		n, err := f.Node(path)
		if err != nil {
			return err
		}
		var body io.Reader
		if d.Type().IsRegular() {
			file, err := f.Open(path)
			if err != nil {
				return err
			}
			body = file
		}
		all[path], err = describe(*n, body)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// walkHost lists a mounted image with the kernel.
func walkHost(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		n := hostNode(info)
		n.Xattrs = listxattr(t, path)
		var body io.Reader
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			if n.Linkname, err = os.Readlink(path); err != nil {
				return err
			}
		case d.Type().IsRegular():
			file, err := os.Open(path)
			if err != nil {
				return err
			}
			defer file.Close()
			body = file
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		all[rel], err = describe(n, body)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func compareListings(t *testing.T, got, want map[string]string) {
	t.Helper()
	for path, w := range want {
		if got[path] != w {
			t.Errorf("%.80s\n got %.700s\nwant %.700s", path, got[path], w)
		}
	}
	for path := range got {
		if _, ok := want[path]; !ok {
			t.Errorf("%.80s should not be there", path)
		}
	}
}

func TestReadOwn(t *testing.T) {
	image := writeImage(t, testOptions(256<<20), fillSample(t))
	compareListings(t, walkImage(t, image), walkHost(t, mount(t, image)))
	f := openImage(t, image)
	if want := testOptions(0); f.UUID() != want.UUID || f.Label() != want.Label || f.Size() != 256<<20 {
		t.Errorf("uuid %x, label %q, size %d", f.UUID(), f.Label(), f.Size())
	}
}

// TestReadMke2fs reads images that mke2fs filled from a folder, with several block
// sizes and features, against the kernel's view.
func TestReadMke2fs(t *testing.T) {
	src := mount(t, writeImage(t, testOptions(256<<20), func(w *Writer) {
		fillSampleWithin(t, 500, 1000)(w)
		create(t, w, Header{Path: "many", Mode: modeDir | 0o755}, nil)
		for i := range 3000 {
			create(t, w, Header{Path: fmt.Sprintf("many/file%d", i), Mode: modeRegular | 0o644}, []byte("x"))
		}
	}))
	for _, args := range [][]string{
		nil,
		{"-b", "1024"},
		{"-b", "2048", "-O", "^metadata_csum,^64bit", "-I", "128"},
		{"-O", "metadata_csum_seed,meta_bg,^resize_inode"},
		{"-O", "^flex_bg,^has_journal,large_dir"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			image := mke2fs(t, 300<<20, append(args, "-d", src)...)
			compareListings(t, walkImage(t, image), walkHost(t, mount(t, image)))
		})
	}
}

func TestReadRejects(t *testing.T) {
	src := t.TempDir()
	if err := os.WriteFile(filepath.Join(src, "small"), []byte("small"), 0o644); err != nil {
		t.Fatal(err)
	}
	for feature, want := range map[string]string{
		"inline_data":    "inline data is not supported",
		"^extent,^64bit": "block-mapped files (ext2, ext3) are not supported",
		"bigalloc":       "bigalloc is not supported",
		"^filetype":      "filetype",
	} {
		path := mke2fs(t, 64<<20, "-O", feature, "-d", src)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		f, err := Open(bytes.NewReader(b), int64(len(b)))
		if err == nil {
			_, err = fs.ReadFile(f, "small")
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", feature, err)
		}
	}
}

// TestReadRejectsDirty: a journal with something in it would have to be replayed.
func TestReadRejectsDirty(t *testing.T) {
	b, w := newRAM(t, 16<<20, nil)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	super := b[superOffset:][:superSize]
	super[0x60] |= incompatRecover
	le.PutUint32(super[0x3FC:], crc32c(^uint32(0), super[:0x3FC]))
	_, err := Open(bytes.NewReader(b), int64(len(b)))
	wantError(t, err, "superblock at 1024: the journal needs recovery")
}

func TestConcurrentReads(t *testing.T) {
	f := openImage(t, writeImage(t, testOptions(64<<20), func(w *Writer) {
		create(t, w, Header{Path: "f", Mode: modeRegular | 0o644}, holes(1500, 1))
	}))
	want := sha256.Sum256(holes(1500, 1))
	file, err := f.Open("f")
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			body := file.(*File)
			sum := sha256.New()
			if _, err := io.Copy(sum, io.NewSectionReader(body, 0, body.Size())); err != nil || [32]byte(sum.Sum(nil)) != want {
				t.Errorf("content differs (%v)", err)
			}
			if _, err := fs.ReadDir(f, "."); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

func TestFS(t *testing.T) {
	image := writeImage(t, testOptions(64<<20), func(w *Writer) {
		create(t, w, Header{Path: "a", Mode: modeDir | 0o755}, nil)
		create(t, w, Header{Path: "a/b", Mode: modeRegular | 0o644}, pattern(1, 10_000))
		create(t, w, Header{Path: "c", Mode: modeRegular | 0o4755}, nil)
	})
	if err := fstest.TestFS(openImage(t, image), "a/b", "c", "lost+found"); err != nil {
		t.Error(err)
	}
}

func TestResolve(t *testing.T) {
	image := writeImage(t, testOptions(64<<20), func(w *Writer) {
		create(t, w, Header{Path: "usr", Mode: modeDir | 0o755}, nil)
		create(t, w, Header{Path: "usr/bin", Mode: modeDir | 0o755}, nil)
		create(t, w, Header{Path: "usr/bin/sh", Mode: modeRegular | 0o755}, nil)
		for from, to := range map[string]string{"bin": "usr/bin", "abs": "/usr/bin/sh", "up": "../../../usr/./bin",
			"loop": "loop", "ping": "pong", "pong": "ping", "usr/bin/x": "../../abs", "none": "gone"} {
			create(t, w, Header{Path: from, Mode: modeSymlink | 0o777, Linkname: to}, nil)
		}
	})
	f := openImage(t, image)
	for name, want := range map[string]string{"bin/sh": "usr/bin/sh", "abs": "usr/bin/sh", "up/sh": "usr/bin/sh",
		"/usr//bin/x": "usr/bin/sh", ".": ".", "up/../..": "."} {
		if got, err := f.Resolve(name); err != nil || got != want {
			t.Errorf("%q resolves to %q (%v), want %q", name, got, err, want)
		}
	}
	for _, name := range []string{"loop", "ping"} {
		if _, err := f.Resolve(name); err == nil || !strings.Contains(err.Error(), "more than 40") {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := f.Resolve("none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("dangling link: %v", err)
	}
	if target, err := f.ReadLink("bin"); err != nil || target != "usr/bin" {
		t.Errorf("bin -> %q (%v)", target, err)
	}
}
