package export

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kldload/kldload/internal/ui"
)

// quiet is a UI nobody hears.
func quiet() *ui.UI { return ui.New(io.Discard, ui.Quiet) }

// tool runs a foreign tool in dir.
func tool(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// makeDisk writes a sparse raw disk of 20 MiB and a bit.
func makeDisk(t *testing.T, path string) []byte {
	t.Helper()
	disk := make([]byte, 20<<20+512)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(disk[1<<20 : 2<<20])
	copy(disk[5<<20:], bytes.Repeat([]byte("compressible "), 40000))
	disk[len(disk)-1] = 1
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(int64(len(disk))); err != nil {
		t.Fatal(err)
	}
	for off := 0; off < len(disk); off += 4096 {
		p := disk[off:min(off+4096, len(disk))]
		if !bytes.Equal(p, make([]byte, len(p))) {
			if _, err := f.WriteAt(p, int64(off)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return disk
}

// request is one for all formats into the folder out below dir.
func request(t *testing.T, dir string, formats ...string) Request {
	t.Helper()
	choices, err := Choose(formats)
	if err != nil {
		t.Fatal(err)
	}
	return Request{Input: filepath.Join(dir, "disk.raw"), Choices: choices, OutputDir: filepath.Join(dir, "out"), Name: "web", UI: quiet()}
}

func list(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func TestConvertAllFormats(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	disk := makeDisk(t, filepath.Join(dir, "disk.raw"))
	r := request(t, dir, "all")
	result, err := Convert(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if result.Read > 3<<20 || result.Input.VirtualSize != int64(len(disk)) || len(result.Outputs) != len(Names()) {
		t.Errorf("%+v", result)
	}
	out := r.OutputDir
	if got, err := os.ReadFile(filepath.Join(out, "web.raw")); err != nil || !bytes.Equal(got, disk) {
		t.Errorf("web.raw differs, %v", err)
	}
	for _, c := range r.Choices {
		tool(t, out, "sha256sum", "--strict", "-c", "web"+c.Extension()+ChecksumSuffix)
		back := request(t, dir, "raw")
		back.Input, back.OutputDir, back.Name = filepath.Join(out, "web"+c.Extension()), filepath.Join(dir, "back"), string(c.Format())
		if _, err := Convert(t.Context(), back); err != nil {
			t.Errorf("reading %s: %v", c.Format(), err)
			continue
		}
		got, err := os.ReadFile(filepath.Join(dir, "back", back.Name+".raw"))
		if err != nil || !bytes.HasPrefix(got, disk) || len(bytes.TrimRight(got[len(disk):], "\x00")) > 0 {
			t.Errorf("%s holds another disk, %v", c.Format(), err)
		}
	}
	var m Manifest
	text, err := os.ReadFile(filepath.Join(out, "web.manifest.json"))
	if err = errors.Join(err, json.Unmarshal(text, &m)); err != nil {
		t.Fatal(err)
	}
	if m.Schema != 1 || m.Input.File != "disk.raw" || len(m.Outputs) != len(r.Choices) || strings.Contains(string(text), dir) {
		t.Errorf("manifest: %s", text)
	}
	for i, o := range m.Outputs {
		data, err := os.ReadFile(filepath.Join(out, o.File))
		sum := sha256.Sum256(data)
		if err != nil || o.SHA256 != hex.EncodeToString(sum[:]) || o.Size != int64(len(data)) || o.VirtualSize < int64(len(disk)) || o.SHA256 != result.Outputs[i].SHA256 {
			t.Errorf("%+v, %v", o, err)
		}
	}
}

func TestConvertIsDeterministic(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	makeDisk(t, filepath.Join(dir, "disk.raw"))
	var sums [2]string
	for i := range sums {
		r := request(t, dir, "all")
		r.OutputDir, r.Jobs = filepath.Join(dir, "out", string('a'+rune(i))), 1+i*3
		if _, err := Convert(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		sums[i] = tool(t, r.OutputDir, "sh", "-c", "sha256sum *")
	}
	if sums[0] != sums[1] {
		t.Errorf("two runs differ:\n%s%s", sums[0], sums[1])
	}
}

func TestConvertRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		prepare func(t *testing.T, dir string, r *Request)
		want    string
	}{
		"no input":        {func(_ *testing.T, _ string, r *Request) { r.Input += "x" }, "no such file"},
		"a folder":        {func(_ *testing.T, dir string, r *Request) { r.Input = dir }, "is a directory"},
		"an output there": {func(t *testing.T, dir string, _ *Request) { put(t, dir, "out/web.raw") }, "--force replaces it"},
		"a checksum file there": {func(t *testing.T, dir string, _ *Request) { put(t, dir, "out/web.raw.sha256") },
			"web.raw.sha256\" exists"},
		"a manifest there": {func(t *testing.T, dir string, _ *Request) { put(t, dir, "out/web.manifest.json") }, "web.manifest.json\" exists"},
		"the input itself": {func(_ *testing.T, dir string, r *Request) { r.OutputDir, r.Name, r.Force = dir, "disk", true },
			"is a file the input is made of"},
		"the input by another name": {func(t *testing.T, dir string, r *Request) {
			put(t, dir, "out/x")
			r.Force = true
			if err := os.Link(r.Input, filepath.Join(dir, "out/web.raw")); err != nil {
				t.Fatal(err)
			}
		}, "is a file the input is made of"},
		"a file for a folder": {func(t *testing.T, dir string, r *Request) {
			put(t, dir, "file")
			r.OutputDir = filepath.Join(dir, "file")
		},
			"not a directory"},
		"a device": {func(_ *testing.T, _ string, r *Request) { r.OutputDir, r.Output, r.Force = "", "/dev/null", true }, "is not a file"},
		"an output that is a folder": {func(_ *testing.T, dir string, r *Request) { r.OutputDir, r.Output, r.Force = "", dir, true },
			"is a folder\nhint: --output-dir"},
		"another format": {func(_ *testing.T, _ string, r *Request) { r.InputFormat = "qcow2" }, "magic"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			makeDisk(t, filepath.Join(dir, "disk.raw"))
			r := request(t, dir, "raw")
			c.prepare(t, dir, &r)
			before := tool(t, dir, "find", ".")
			if _, err := Convert(t.Context(), r); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if after := tool(t, dir, "find", "."); after != before {
				t.Errorf("before:\n%safter:\n%s", before, after)
			}
		})
	}
}

// put writes a small file below dir.
func put(t *testing.T, dir, name string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("old"), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func TestForceReplaces(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	disk := makeDisk(t, filepath.Join(dir, "disk.raw"))
	put(t, dir, "out/web.raw")
	put(t, dir, "out/web.manifest.json")
	r := request(t, dir, "raw")
	r.Force = true
	if _, err := Convert(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(r.OutputDir, "web.raw")); err != nil || !bytes.Equal(got, disk) {
		t.Errorf("not replaced, %v", err)
	}
}

// TestNothingUnderAFinalName breaks a conversion in its midst and at its end.
func TestNothingUnderAFinalName(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	makeDisk(t, filepath.Join(dir, "disk.raw"))

	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		r := request(t, dir, "qcow2", "raw")
		r.UI = ui.New(writerFunc(func(p []byte) { cancel(errors.New("enough")) }), ui.JSON) // at the first event
		if _, err := Convert(ctx, r); err == nil || !strings.Contains(err.Error(), "enough") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a name taken meanwhile", func(t *testing.T) {
		r := request(t, dir, "qcow2", "raw")
		taken := filepath.Join(r.OutputDir, "web.raw")
		r.UI = ui.New(writerFunc(func([]byte) { _ = os.WriteFile(taken, []byte("theirs"), 0o644) }), ui.JSON)
		if _, err := Convert(t.Context(), r); !errors.Is(err, os.ErrExist) {
			t.Errorf("got %v", err)
		}
		if got, err := os.ReadFile(taken); err != nil || string(got) != "theirs" || list(t, r.OutputDir) != "web.raw" {
			t.Errorf("left %s, %q, %v", list(t, r.OutputDir), got, err)
		}
		os.RemoveAll(r.OutputDir)
	})
	if got := list(t, dir); got != "disk.raw" {
		t.Errorf("left %s", got)
	}
}

type writerFunc func(p []byte)

func (f writerFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }

// TestOutOfSpace runs into the limit on a file's size, which the kernel
// enforces as it does a full disk.
func TestOutOfSpace(t *testing.T) {
	dir := t.TempDir()
	makeDisk(t, filepath.Join(dir, "disk.raw"))
	r := request(t, dir, "raw", "qcow2")
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 4 << 20, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	_, err := Convert(t.Context(), r)
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, unix.EFBIG) || list(t, dir) != "disk.raw" {
		t.Errorf("got %v, left %s", err, list(t, dir))
	}
}

func TestChecksumEscapes(t *testing.T) {
	dir := t.TempDir()
	name := "a\nb\\c"
	put(t, dir, name)
	sum := sha256.Sum256([]byte("old"))
	o := Output{File: name, SHA256: hex.EncodeToString(sum[:])}
	if err := os.WriteFile(filepath.Join(dir, "sums"), o.Checksum(), 0o644); err != nil {
		t.Fatal(err)
	}
	tool(t, dir, "sha256sum", "--strict", "-c", "sums")
}

func TestADiskInUseIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	makeDisk(t, filepath.Join(dir, "disk.raw"))
	tool(t, dir, "qemu-img", "create", "-q", "-f", "qcow2", "-b", "disk.raw", "-F", "raw", "top.qcow2")
	f, err := os.OpenFile(filepath.Join(dir, "disk.raw"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK} // of an open file description: it is in the way of our own, too
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock); err != nil {
		t.Fatal(err)
	}
	for _, input := range []string{"disk.raw", "top.qcow2"} { // the disk, and what lies on it
		r := request(t, dir, "raw")
		r.Input = filepath.Join(dir, input)
		if _, err := Convert(t.Context(), r); err == nil || !strings.Contains(err.Error(), "disk.raw\": is locked for writing") ||
			!strings.Contains(err.Error(), "hint: ") || list(t, dir) != "disk.raw top.qcow2" {
			t.Errorf("%s: got %v, left %s", input, err, list(t, dir))
		}
		r.Force = true
		if _, err := Convert(t.Context(), r); err != nil {
			t.Errorf("%s, forced: %v", input, err)
		}
		os.RemoveAll(r.OutputDir)
	}
}
