package ext4

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
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

// mke2fs makes an image with the parameters of testOptions.
func mke2fs(t testing.TB, size int64, args ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "theirs.img")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		t.Fatal(err)
	}
	run(t, "mke2fs", append(append([]string{"-q", "-t", "ext4", "-b", "4096", "-L", "root",
		"-U", "11220304-0506-4708-890a-0b0c0d0e0f10",
		"-E", "hash_seed=a1020304-0506-4708-890a-0b0c0d0e0ff6,lazy_itable_init=0,nodiscard"}, args...), path)...)
	return path
}

// TestGeometryAsMke2fs compares what dumpe2fs says with an image of mke2fs.
func TestGeometryAsMke2fs(t *testing.T) {
	for _, size := range []int64{600 << 20, 2 << 30, 8 << 30, 1 << 40} {
		a, b := superLines(t, writeImage(t, testOptions(size), nil)), superLines(t, mke2fs(t, size))
		if a != b {
			t.Errorf("size %d: ours\n%s\nmke2fs\n%s", size, a, b)
		}
	}
}

// superLines is the output of dumpe2fs -h without what depends on time.
func superLines(t *testing.T, image string) string {
	var keep []string
lines:
	for line := range strings.Lines(run(t, "dumpe2fs", "-h", image)) {
		for _, p := range []string{"dumpe2fs", "Checksum:", "Lifetime writes", "Filesystem created", "Last write time", "Last checked"} {
			if strings.HasPrefix(line, p) {
				continue lines
			}
		}
		keep = append(keep, line)
	}
	return strings.Join(keep, "")
}
