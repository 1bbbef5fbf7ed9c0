package ext4

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// patched is an image with some bytes replaced: 4 bytes of position, one of
// length (low 4 bits) and the bytes, again and again.
type patched struct {
	base    []byte
	patches []byte
}

func (p *patched) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 || off >= int64(len(p.base)) {
		return 0, io.EOF
	}
	n := copy(b, p.base[off:])
	for q := p.patches; len(q) > 5; {
		at := int64(le.Uint32(q)) % int64(len(p.base))
		size := min(1+int(q[4]&15), len(q)-5)
		for i, v := range q[5 : 5+size] {
			if k := at + int64(i) - off; k >= 0 && k < int64(n) {
				b[k] = v
			}
		}
		q = q[5+size:]
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// fuzzBases are small images with everything in them, from both writers.
var fuzzBases = sync.OnceValues(func() ([][]byte, error) {
	dir, err := os.MkdirTemp("", "ext4fuzz")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	r := make(ram, 6<<20)
	opts := testOptions(int64(len(r)))
	opts.JournalBlocks = -1
	w, err := NewWriter(r, opts)
	if err != nil {
		return nil, err
	}
	hs, bodies := sampleHeaders(3000, maxSymlink)
	hs = append(hs, Header{Path: "many", Mode: modeDir | 0o755})
	for i := range 60 {
		hs = append(hs, Header{Path: fmt.Sprintf("many/%d%s", i, strings.Repeat("m", 200)), Mode: modeRegular})
	}
	for _, h := range hs {
		if h.Path == "data/h1500" || h.Path == "data/swap" {
			continue
		}
		h.Size = int64(len(bodies[h.Path]))
		if err := w.Create(h, bytes.NewReader(bodies[h.Path])); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	theirs, err := mke2fsSmall(dir)
	return [][]byte{r, theirs}, err
})

// mke2fsSmall is an image with other block, inode and descriptor sizes.
func mke2fsSmall(dir string) ([]byte, error) {
	src, image := filepath.Join(dir, "src"), filepath.Join(dir, "image")
	if err := os.MkdirAll(filepath.Join(src, "a/b/c"), 0o755); err != nil {
		return nil, err
	}
	err := errors.Join(os.WriteFile(filepath.Join(src, "a/holes"), holes(20, 2), 0o600),
		os.Symlink(strings.Repeat("l", 100), filepath.Join(src, "a/b/link")))
	if err != nil {
		return nil, err
	}
	out, err := exec.Command("mke2fs", "-q", "-t", "ext4", "-b", "1024", "-I", "128", "-N", "64",
		"-O", "^metadata_csum,^64bit,^has_journal,^resize_inode", "-d", src, image, "1M").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("mke2fs: %w\n%s", err, out)
	}
	return os.ReadFile(image)
}

// explore calls everything the reader has, with bounds on what it reads.
func explore(r io.ReaderAt, size int64, checksums bool) error {
	f, err := Open(r, size)
	if err != nil {
		return err
	}
	f.checksums = f.checksums && checksums
	buf := make([]byte, 3*blockSize)
	visits := 0
	var first error
	keep := func(err error) {
		if first == nil && err != nil && err != io.EOF {
			first = err
		}
	}
	fs.WalkDir(f, ".", func(path string, d fs.DirEntry, err error) error {
		if visits++; visits > 2000 {
			panic("a walk without end")
		}
		keep(err)
		if err != nil {
			return nil
		}
		keep(f.Slack(path, within(f)))
		n, err := f.Node(path)
		keep(err)
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		file, err := f.Open(path)
		keep(err)
		if err != nil {
			return nil
		}
		body := file.(*File)
		for _, at := range []int64{0, n.Size / 2, n.Size - 5000} {
			_, err := body.ReadAt(buf, max(at, 0))
			keep(err)
		}
		_, err = f.Resolve(path)
		keep(err)
		return nil
	})
	keep(f.Unused(within(f)))
	return first
}

// within takes only what lies on the volume.
func within(f *FS) func(string, int64, int64) error {
	return func(kind string, off, size int64) error {
		if off < 0 || size <= 0 || off+size > f.Size() {
			panic(fmt.Sprintf("%s: %d bytes at %d of %d", kind, size, off, f.Size()))
		}
		return nil
	}
}

func FuzzOpen(f *testing.F) {
	bases, err := fuzzBases()
	if err != nil {
		f.Fatal(err)
	}
	patch := func(at uint32, b ...byte) []byte {
		return append(append(le.AppendUint32(nil, at), byte(len(b)-1)), b...)
	}
	f.Add(uint8(0), false, []byte{})
	f.Add(uint8(1), true, patch(superOffset+0x18, 9))
	f.Add(uint8(0), false, patch(superOffset+0x28, 0, 0, 0, 0))
	f.Add(uint8(0), false, patch(superOffset+0xFE, 0, 0))
	f.Add(uint8(0), false, patch(4096+8, 0xFF, 0xFF, 0xFF, 0xFF))
	f.Fuzz(func(t *testing.T, which uint8, checksums bool, patches []byte) {
		start := time.Now()
		p := &patched{bases[int(which)%len(bases)], patches[:min(len(patches), 200)]}
		explore(p, int64(len(p.base)), checksums)
		if d := time.Since(start); d > 20*time.Second {
			t.Errorf("took %v", d)
		}
	})
}

// TestDamage changes bytes at random, with checksums not looked at: nothing may
// panic or hang.
func TestDamage(t *testing.T) {
	bases, err := fuzzBases()
	if err != nil {
		t.Fatal(err)
	}
	for i, base := range bases {
		if err := explore(bytes.NewReader(base), int64(len(base)), true); err != nil {
			t.Fatalf("image %d: %v", i, err)
		}
		damage(base)
	}
}

func damage(base []byte) {
	var used []int // blocks that hold anything
	for i := 0; i < len(base); i += blockSize {
		if !isZero(base[i : i+blockSize]) {
			used = append(used, i)
		}
	}
	rnd := rand.New(rand.NewSource(1))
	values := []byte{0, 1, 2, 0x7F, 0x80, 0xFF}
	for range 800 {
		at := used[min(rnd.Intn(len(used)), rnd.Intn(len(used)))] + rnd.Intn(blockSize)
		b := le.AppendUint32(nil, uint32(at))
		b = append(b, byte(rnd.Intn(4)), values[rnd.Intn(len(values))], byte(rnd.Intn(256)), 0xFF, 0xFF)
		explore(&patched{base, b}, int64(len(base)), false)
	}
}

// TestChecksumsNoticed flips a bit in each kind of metadata.
func TestChecksumsNoticed(t *testing.T) {
	path := writeImage(t, testOptions(64<<20), fillSample(t))
	base, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Open(bytes.NewReader(base), int64(len(base)))
	if err != nil {
		t.Fatal(err)
	}
	table, err := f.inodeTable(0)
	if err != nil {
		t.Fatal(err)
	}
	root, err := f.readInode(inoRoot)
	if err != nil {
		t.Fatal(err)
	}
	su, err := f.walkPath("bin/su")
	if err != nil {
		t.Fatal(err)
	}
	deep, err := f.walkPath("data/h1500")
	if err != nil {
		t.Fatal(err)
	}
	rootBlock := int64(le.Uint32(root.block[20:]))
	for what, at := range map[string]int64{
		"superblock": superOffset + 0x7A, "group": blockSize + 0x10,
		"inode": table*blockSize + inodeSize + 4, "directory": rootBlock*blockSize + 30,
		"attributes in block": su.xattrBlock*blockSize + 40,
		"extent node":         int64(le.Uint32(deep.block[16:]))*blockSize + 16,
	} {
		patch := append(le.AppendUint32(nil, uint32(at)), 0, base[at]^4)
		err := explore(&patched{base, patch}, int64(len(base)), true)
		if err == nil || !strings.Contains(err.Error(), "checksum") || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// FuzzWriterNames feeds the writer entries made of fuzzed names; whatever it
// accepts, the reader must find.
func FuzzWriterNames(f *testing.F) {
	f.Add("a\na/b\na/b\n../x\n\nlost+found\nlost+found/x\na/\n/a")
	f.Add(strings.Repeat("n", 300) + "\n.\n..\n\xff\xfe\n")
	f.Fuzz(func(t *testing.T, names string) {
		r, w := newRAM(t, 1<<20, nil)
		accepted := map[string]bool{}
		for i, name := range strings.SplitN(names, "\n", 60) {
			mode := uint32(modeDir)
			if i%3 == 2 {
				mode = modeFIFO
			}
			if w.Create(Header{Path: name, Mode: mode}, nil) == nil && name != "" {
				accepted[name] = true
			}
		}
		if w.Close() != nil {
			return
		}
		fsys, err := Open(bytes.NewReader(r), int64(len(r)))
		if err != nil {
			t.Fatal(err)
		}
		for name := range accepted {
			if _, err := fsys.Lstat(name); err != nil {
				t.Errorf("%q: %v", name, err)
			}
		}
	})
}

// synthetic is the size distribution of a small root: many small files, some large.
func synthetic(total int) (sizes []int) {
	rnd := rand.New(rand.NewSource(4))
	for total > 0 {
		n := 1 << (8 + rnd.Intn(13))
		n = min(n+rnd.Intn(n), total)
		sizes = append(sizes, n)
		total -= n
	}
	return sizes
}

// BenchmarkWriter writes a tree of 256 MiB in files of 256 B to 2 MiB to a file.
// See docs/design/ext4.md for how mke2fs -d compares.
func BenchmarkWriter(b *testing.B) {
	const total = 256 << 20
	sizes, body := synthetic(total), pattern(5, 4<<20)
	b.SetBytes(total)
	path := b.TempDir() + "/i"
	for b.Loop() {
		file, err := os.Create(path)
		if err != nil {
			b.Fatal(err)
		}
		w, err := NewWriter(file, testOptions(1<<30))
		if err != nil {
			b.Fatal(err)
		}
		for i, n := range sizes {
			if i%50 == 0 {
				create(b, w, Header{Path: fmt.Sprintf("d%d", i/50), Mode: modeDir | 0o755}, nil)
			}
			create(b, w, Header{Path: fmt.Sprintf("d%d/f%d", i/50, i), Mode: modeRegular | 0o644}, body[i%4096:][:n])
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
		file.Close()
	}
}
