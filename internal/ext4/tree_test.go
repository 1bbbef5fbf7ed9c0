package ext4

import (
	"bytes"
	"fmt"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// pattern gives n bytes that are the same for a seed and never zero.
func pattern(seed int64, n int) []byte {
	b := make([]byte, n)
	rand.New(rand.NewSource(seed)).Read(b)
	for i := range b {
		b[i] |= 1
	}
	return b
}

func wireACL(entries ...[3]uint32) []byte {
	b := le.AppendUint32(nil, aclWireVersion)
	for _, e := range entries {
		b = le.AppendUint16(b, uint16(e[0]))
		b = le.AppendUint16(b, uint16(e[1]))
		b = le.AppendUint32(b, e[2])
	}
	return b
}

// holes gives a body of count blocks of data, each followed by gap empty blocks.
func holes(count, gap int) []byte {
	b := make([]byte, count*(1+gap)*blockSize)
	for i := range count {
		copy(b[i*(1+gap)*blockSize:], pattern(int64(i), blockSize))
	}
	return b
}

const capPing = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// sampleHeaders is a tree with one of every kind, and the bodies by path.
func sampleHeaders(maxXattr, maxLink int) ([]Header, map[string][]byte) {
	t := time.Unix(1_650_000_000, 123_456_789)
	acl := wireACL([3]uint32{aclUserObj, 7, aclNoID}, [3]uint32{aclUser, 5, 1000}, [3]uint32{aclGroupObj, 5, aclNoID},
		[3]uint32{aclGroup, 6, 2000}, [3]uint32{aclMask, 7, aclNoID}, [3]uint32{aclOther, 4, aclNoID})
	long := strings.Repeat("n", 255)
	hs := []Header{
		{Path: "", Mode: modeDir | 0o755, ModTime: t},
		{Path: "etc", Mode: modeDir | 0o755, ModTime: t},
		{Path: "etc/empty", Mode: modeRegular | 0o644, ModTime: t},
		{Path: "etc/hostname", Mode: modeRegular | 0o640, UID: 70000, GID: 80000, ModTime: t},
		{Path: "etc/" + long, Mode: modeRegular | 0o600, ModTime: t.AddDate(100, 0, 0)},
		{Path: "etc/old", Mode: modeRegular | 0o600, ModTime: time.Unix(-1000, 5)},
		{Path: "etc/fast", Mode: modeSymlink | 0o777, Linkname: strings.Repeat("a", 59), ModTime: t},
		{Path: "etc/slow60", Mode: modeSymlink | 0o777, Linkname: strings.Repeat("b", 60), ModTime: t},
		{Path: "etc/slow", Mode: modeSymlink | 0o777, Linkname: strings.Repeat("c", maxLink), ModTime: t},
		{Path: "dev", Mode: modeDir | 0o755, ModTime: t},
		{Path: "dev/null", Mode: modeChar | 0o666, Major: 1, Minor: 3, ModTime: t},
		{Path: "dev/big", Mode: modeBlock | 0o660, Major: 259, Minor: 70000, ModTime: t},
		{Path: "dev/fifo", Mode: modeFIFO | 0o600, ModTime: t},
		{Path: "dev/sock", Mode: modeSocket | 0o600, ModTime: t},
		{Path: "bin", Mode: modeDir | 0o1777, ModTime: t, Xattrs: map[string][]byte{
			"system.posix_acl_default": acl, "system.posix_acl_access": acl}},
		{Path: "bin/ping", Mode: modeRegular | 0o755, ModTime: t,
			Xattrs: map[string][]byte{"security.capability": []byte(capPing)}},
		{Path: "bin/su", Mode: modeRegular | 0o4755, ModTime: t, Xattrs: map[string][]byte{
			"system.posix_acl_access": acl, "user.small": []byte("v"), "user.empty": {},
			"user.big": pattern(9, maxXattr), "trusted.t": []byte("abcdefg"), "security.selinux": []byte("system_u:object_r:bin_t:s0\x00")}},
		{Path: "data", Mode: modeDir | 0o700, ModTime: t},
		{Path: "data/h5", Mode: modeRegular | 0o600, ModTime: t},
		{Path: "data/h400", Mode: modeRegular | 0o600, ModTime: t},
		{Path: "data/h1500", Mode: modeRegular | 0o600, ModTime: t},
		{Path: "data/hole", Mode: modeRegular | 0o600, ModTime: t},
		{Path: "data/swap", Mode: modeRegular | 0o600, ModTime: t, NoHoles: true},
		{Path: "data/tail", Mode: modeRegular | 0o600, ModTime: t},
	}
	bodies := map[string][]byte{
		"etc/hostname": []byte("golden\n"), "bin/ping": pattern(1, 70_001), "bin/su": pattern(2, 4096),
		"data/h5": holes(5, 1), "data/h400": holes(400, 1), "data/h1500": holes(1500, 2),
		"data/hole": make([]byte, 10<<20+1), "data/swap": make([]byte, 1<<20),
		"data/tail": append(make([]byte, 1<<20), "end"...), "etc/old": pattern(3, 4097),
	}
	return hs, bodies
}

func fillSample(t testing.TB) func(*Writer) { return fillSampleWithin(t, 3000, maxSymlink) }

// fillSampleWithin bounds what must fit one block, for file systems with small ones.
func fillSampleWithin(t testing.TB, maxXattr, maxLink int) func(*Writer) {
	return func(w *Writer) {
		hs, bodies := sampleHeaders(maxXattr, maxLink)
		for _, h := range hs {
			create(t, w, h, bodies[h.Path])
		}
		for _, l := range [][2]string{{"bin/ping6", "bin/ping"}, {"bin/ping4", "bin/ping6"}, {"etc/fast2", "etc/fast"}, {"dev/null2", "dev/null"}} {
			if err := w.Link(l[0], l[1]); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// mount loop-mounts an image read-only; tests run as root.
func mount(t testing.TB, image string) string {
	t.Helper()
	dir := t.TempDir()
	run(t, "mount", "-o", "ro,loop", image, dir)
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v\n%s", err, out)
		}
	})
	return dir
}

// TestKernelReads mounts the sample and holds what the kernel shows against the
// headers.
func TestKernelReads(t *testing.T) {
	image := writeImage(t, testOptions(256<<20), fillSample(t))
	fsck(t, image)
	dir := mount(t, image)
	hs, bodies := sampleHeaders(3000, maxSymlink)
	for _, h := range hs {
		at := filepath.Join(dir, h.Path)
		got := strings.TrimSpace(run(t, "stat", "-c", "%f %u %g %s %.Y %t %T", at))
		size := int64(len(bodies[h.Path]))
		switch h.Mode & modeType {
		case modeSymlink:
			size = int64(len(h.Linkname))
			if target, err := os.Readlink(at); err != nil || target != h.Linkname {
				t.Errorf("%q points to %q (%v)", h.Path, target, err)
			}
		case modeDir:
			size = blockSize
		case modeRegular:
			body, err := os.ReadFile(at)
			if err != nil || !bytes.Equal(body, bodies[h.Path]) {
				t.Errorf("%q: body of %d bytes differs (%v)", h.Path, len(body), err)
			}
		}
		want := fmt.Sprintf("%x %d %d %d %d.%09d %x %x", h.Mode, h.UID, h.GID, size,
			h.ModTime.Unix(), h.ModTime.Nanosecond(), h.Major, h.Minor)
		if h.ModTime.Unix() < 0 { // stat prints seconds rounded to zero
			want = got
			if info, err := os.Lstat(at); err != nil || !info.ModTime().Equal(h.ModTime) {
				t.Errorf("%q: time %v (%v)", h.Path, info.ModTime(), err)
			}
		}
		if got != want {
			t.Errorf("%q: kernel says %s, want %s", h.Path, got, want)
		}
		for name, value := range h.Xattrs {
			if got, err := getxattr(at, name); err != nil || !bytes.Equal(got, value) {
				t.Errorf("%q: attribute %s is %x (%v), want %x", h.Path, name, got, err, value)
			}
		}
	}
	for path, want := range map[string]string{"bin/ping": "3", "etc/fast": "2", "dev/null2": "2", "bin": "2", "": "7", "data": "2"} {
		if got := strings.TrimSpace(run(t, "stat", "-c", "%h", filepath.Join(dir, path))); got != want {
			t.Errorf("%q has %s links, want %s", path, got, want)
		}
	}
	acl := run(t, "getfacl", "-n", "--omit-header", "-p", filepath.Join(dir, "bin/su"))
	if !strings.Contains(acl, "user:1000:r-x") || !strings.Contains(acl, "group:2000:rw-") || !strings.Contains(acl, "mask::rwx") {
		t.Errorf("getfacl says %s", acl)
	}
	if caps := run(t, "getfattr", "-m-", "-d", filepath.Join(dir, "bin/ping")); !strings.Contains(caps, "security.capability") {
		t.Errorf("getfattr says %s", caps)
	}
}

// TestSparse asks how much of the image and of its files is there.
func TestSparse(t *testing.T) {
	image := writeImage(t, testOptions(1<<30), fillSample(t))
	if used := strings.Fields(run(t, "du", "-k", image))[0]; len(used) > 5 {
		t.Errorf("image takes %s KiB", used)
	}
	stat := run(t, "debugfs", "-R", "stat /data/hole", image)
	if !strings.Contains(stat, "Blockcount: 0") {
		t.Errorf("a file of zeros has blocks: %s", stat)
	}
	if stat := run(t, "debugfs", "-R", "stat /data/swap", image); !strings.Contains(stat, "Blockcount: 2048") {
		t.Errorf("NoHoles file has holes: %s", stat)
	}
}

// TestBigDirs makes directories with trees of one and two levels and more
// subdirectories than a link count holds.
func TestBigDirs(t *testing.T) {
	image := writeImage(t, testOptions(2<<30), func(w *Writer) {
		for _, d := range []struct {
			name string
			n    int
			kind uint32
			pad  string
		}{
			{"files", 20_000, modeRegular, "-\u00e9\u4e16"},
			{"deep", 9_000, modeRegular, strings.Repeat("x", 240)},
			{"dirs", 64_999, modeDir, ""},
			{"two", 300, modeRegular, ""},
		} {
			create(t, w, Header{Path: d.name, Mode: modeDir | 0o755}, nil)
			for i := range d.n {
				create(t, w, Header{Path: fmt.Sprintf("%s/f%d%s", d.name, i, d.pad), Mode: d.kind | 0o755}, nil)
			}
		}
	})
	fsck(t, image)
	if out := run(t, "debugfs", "-R", "htree_dump /deep", image); !strings.Contains(out, "Indirect levels: 1") {
		t.Errorf("tree of /deep has no second level: %.600s", out)
	}
	dir := mount(t, image)
	for name, n := range map[string]int{"files": 20_000, "deep": 9_000, "dirs": 64_999, "two": 300} {
		list, err := os.ReadDir(filepath.Join(dir, name))
		if err != nil || len(list) != n {
			t.Errorf("%s lists %d names (%v), want %d", name, len(list), err, n)
		}
	}
	for i := range 20_000 { // lookups go by hash
		if _, err := os.Lstat(filepath.Join(dir, "files", fmt.Sprintf("f%d-\u00e9\u4e16", i))); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.TrimSpace(run(t, "stat", "-c", "%h", filepath.Join(dir, "dirs"))); got != "1" {
		t.Errorf("dirs has %s links, want 1 (not counted)", got)
	}
}

// TestLargeFile crosses extents, groups and the descriptors of other groups.
func TestLargeFile(t *testing.T) {
	block := pattern(7, 1<<20)
	const mib = 300
	image := writeImage(t, testOptions(1<<30), func(w *Writer) {
		h := Header{Path: "large", Mode: modeRegular | 0o644, Size: mib << 20}
		var parts []io.Reader
		for range mib {
			parts = append(parts, bytes.NewReader(block))
		}
		if err := w.Create(h, io.MultiReader(parts...)); err != nil {
			t.Fatal(err)
		}
	})
	fsck(t, image)
	f, err := os.Open(filepath.Join(mount(t, image), "large"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := make([]byte, len(block))
	for i := range mib {
		if _, err := io.ReadFull(f, got); err != nil || !bytes.Equal(got, block) {
			t.Fatalf("MiB %d differs (%v)", i, err)
		}
	}
}

// TestGrow resizes images offline, and one while it is mounted.
func TestGrow(t *testing.T) {
	for _, from := range []int64{256 << 20, 4 << 30} {
		image := writeImage(t, testOptions(from), fillSample(t))
		if err := os.Truncate(image, 100<<30); err != nil {
			t.Fatal(err)
		}
		run(t, "e2fsck", "-fy", image)
		run(t, "resize2fs", image)
		fsck(t, image)
	}
}

// mountWritable loop-mounts an image that other tools may write to.
// The returned function unmounts it; read-only first, because another test's
// mount namespace may hold a copy of the mount, and the journal is open as long.
func mountWritable(t *testing.T, image string) (dir, loop string, unmount func()) {
	t.Helper()
	dir = t.TempDir()
	loop = strings.TrimSpace(run(t, "losetup", "--show", "-f", image))
	unmount = sync.OnceFunc(func() {
		for _, args := range [][]string{{"mount", "-o", "remount,ro", dir}, {"umount", dir}, {"losetup", "-d", loop}} {
			if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
				t.Errorf("%q: %v\n%s", args, err, out)
			}
		}
	})
	t.Cleanup(unmount)
	run(t, "mount", loop, dir)
	return dir, loop, unmount
}

// TestKernelWrites lets a kernel fill directories that are full, replace and
// delete files, and looks at the result with e2fsck and the reader.
func TestKernelWrites(t *testing.T) {
	image := writeImage(t, testOptions(512<<20), func(w *Writer) {
		fillSample(t)(w)
		for i := range 3000 {
			create(t, w, Header{Path: fmt.Sprintf("bin/old%d", i), Mode: modeRegular | 0o644}, pattern(1, 100))
		}
	})
	dir, _, unmount := mountWritable(t, image)
	for i := range 3000 {
		if err := os.WriteFile(filepath.Join(dir, "bin", fmt.Sprint("new", i)), pattern(int64(i), 5_000), 0o644); err != nil {
			t.Error(err)
		}
		if err := os.Remove(filepath.Join(dir, "bin", fmt.Sprint("old", i))); err != nil {
			t.Error(err)
		}
	}
	if err := os.RemoveAll(filepath.Join(dir, "data")); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "etc/hostname"), bytes.Repeat([]byte("x"), 10<<20), 0o644); err != nil {
		t.Error(err)
	}
	run(t, "setfattr", "-n", "user.later", "-v", strings.Repeat("y", 500), filepath.Join(dir, "bin/su"))
	want := walkHost(t, dir)
	unmount()
	fsck(t, image)
	compareListings(t, walkImage(t, image), want)
}

// TestGrowOnline does what systemd-growfs does on first boot.
func TestGrowOnline(t *testing.T) {
	if !hasSysResource(t) {
		t.Skip("this root lacks CAP_SYS_RESOURCE, which the kernel wants for EXT4_IOC_RESIZE_FS")
	}
	image := writeImage(t, testOptions(4<<30), fillSample(t))
	if err := os.Truncate(image, 100<<30); err != nil {
		t.Fatal(err)
	}
	_, loop, unmount := mountWritable(t, image)
	run(t, "resize2fs", loop)
	unmount()
	fsck(t, image)
}

// TestResizeInodeAsMke2fs compares the whole resize inode with that of mke2fs;
// only its own block may lie elsewhere.
func TestResizeInodeAsMke2fs(t *testing.T) {
	for _, size := range []int64{600 << 20, 4 << 30, 1 << 40} {
		list := func(image string) string {
			_, blocks, _ := strings.Cut(run(t, "debugfs", "-R", "stat <7>", image), "BLOCKS:")
			_, blocks, ok := strings.Cut(blocks, ", ")
			if !ok {
				t.Fatalf("%s: no blocks in inode 7", image)
			}
			return blocks
		}
		if a, b := list(writeImage(t, testOptions(size), nil)), list(mke2fs(t, size)); a != b {
			t.Errorf("size %d: resize inode\n%.500s\nmke2fs\n%.500s", size, a, b)
		}
	}
}

func TestDeterminism(t *testing.T) {
	var sums []string
	for range 2 {
		image := writeImage(t, testOptions(300<<20), fillSample(t))
		sums = append(sums, strings.Fields(run(t, "sha256sum", image))[0])
	}
	if sums[0] != sums[1] {
		t.Error("two images of one tree differ")
	}
}
