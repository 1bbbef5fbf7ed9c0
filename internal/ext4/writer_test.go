package ext4

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

const testEpoch = 1_700_000_000

func testOptions(size int64) Options {
	return Options{
		Size: size, Label: "root", Epoch: testEpoch,
		UUID:     [16]byte{0x11, 0x22, 3, 4, 5, 6, 0x47, 8, 0x89, 10, 11, 12, 13, 14, 15, 16},
		HashSeed: [16]byte{0xA1, 2, 3, 4, 5, 6, 0x47, 8, 0x89, 10, 11, 12, 13, 14, 15, 0xF6},
	}
}

// writeImage makes a sparse image of a size and lets fill put files into it.
func writeImage(t testing.TB, opts Options, fill func(*Writer)) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fs.img")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(opts.Size); err != nil {
		t.Fatal(err)
	}
	w, err := NewWriter(f, opts)
	if err != nil {
		t.Fatal(err)
	}
	if fill != nil {
		fill(w)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func create(t testing.TB, w *Writer, h Header, body []byte) {
	t.Helper()
	h.Size = int64(len(body))
	var r io.Reader
	if h.Mode&modeType == modeRegular {
		r = bytes.NewReader(body)
	} else {
		h.Size = 0
	}
	if err := w.Create(h, r); err != nil {
		t.Fatal(err)
	}
}

// run runs a tool that must be there and must succeed.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBUGFS_PAGER=cat", "PAGER=cat", "TZ=UTC")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func fsck(t testing.TB, image string) {
	t.Helper()
	run(t, "e2fsck", "-fn", image)
}

func TestEmptySizes(t *testing.T) {
	for _, size := range []int64{4 << 20, 16 << 20, 100 << 20, 2 << 30, 8 << 30, 1 << 40,
		128<<20 + 300<<12, 128<<20 + 1100<<12, 1<<30 + 12345, 17*128<<20 + 900<<12} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			fsck(t, writeImage(t, testOptions(size), nil))
		})
	}
}

func TestInodeRatios(t *testing.T) {
	for _, ratio := range []int64{1024, 4096, 65536, 1 << 26} {
		for _, size := range []int64{300 << 20, 5 << 30} {
			t.Run(fmt.Sprint(ratio, size), func(t *testing.T) {
				opts := testOptions(size)
				opts.InodeRatio = ratio
				fsck(t, writeImage(t, opts, nil))
			})
		}
	}
}

// TestGeometryAsMke2fs compares what dumpe2fs says with an image of mke2fs.
func TestGeometryAsMke2fs(t *testing.T) {
	for _, size := range []int64{600 << 20, 2 << 30, 8 << 30, 1 << 40} {
		ours := writeImage(t, testOptions(size), nil)
		theirs := filepath.Join(t.TempDir(), "theirs.img")
		f, err := os.Create(theirs)
		if err != nil {
			t.Fatal(err)
		}
		f.Truncate(size)
		f.Close()
		run(t, "mke2fs", "-q", "-t", "ext4", "-b", "4096", "-L", "root",
			"-U", "11220304-0506-4708-890a-0b0c0d0e0f10",
			"-E", "hash_seed=a1020304-0506-4708-890a-0b0c0d0e0ff6,lazy_itable_init=0,nodiscard", theirs)
		a, b := superLines(t, ours), superLines(t, theirs)
		if a != b {
			t.Errorf("size %d: ours\n%s\nmke2fs\n%s", size, a, b)
		}
	}
}

func superLines(t *testing.T, image string) string {
	var keep []byte
	for line := range bytes.Lines([]byte(run(t, "dumpe2fs", "-h", image))) {
		if bytes.Contains(line, []byte("Lifetime writes")) || bytes.HasPrefix(line, []byte("Checksum:")) ||
			bytes.Contains(line, []byte("2026")) || bytes.Contains(line, []byte("2023")) || bytes.Contains(line, []byte("20")) && bytes.Contains(line, []byte(":")) && bytes.Contains(line, []byte("ast ")) || bytes.HasPrefix(line, []byte("dumpe2fs")) || bytes.HasPrefix(line, []byte("Filesystem created")) {
			continue
		}
		keep = append(keep, line...)
	}
	return string(keep)
}

var _ = time.Now
