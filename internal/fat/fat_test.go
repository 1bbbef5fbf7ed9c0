package fat_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/kldload/kldload/internal/fat"
)

const mib = 1 << 20

var epoch = time.Date(2024, 2, 29, 13, 37, 42, 0, time.UTC)

// tree is path to content; a nil content is a directory.
type tree map[string][]byte

func noise(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// smallTree fits into 1 MiB and 512-byte clusters, and crosses their borders.
func smallTree() tree {
	deep := strings.TrimSuffix(strings.Repeat("deep dir/", 20), "/")
	t := tree{
		"user-data":                      []byte("#cloud-config\n"),
		"meta-data":                      []byte("instance-id: x\n"),
		"EFI/BOOT/BOOTX64.EFI":           noise(70_000, 1),
		"EFI/debian/grubx64.efi":         noise(512, 2),
		"EFI/debian/shimx64.efi":         noise(513, 3),
		"loader/entries/6.1.0-28.conf":   []byte("title kldload\n"),
		"empty":                          {},
		"EMPTY dir":                      nil,
		deep + "/bottom.txt":             []byte("bottom"),
		strings.Repeat("n", 251) + ".go": []byte("255 units"),
		"exactly 13 ch":                  []byte("13"),
		"exactly-26-characters-long":     []byte("26"),
		"Grüße, Welt Ж€.txt":             []byte("ü"),
		"a+b,c;d=e[f].x":                 []byte("+"),
		".hidden":                        []byte("."),
		"two.dots.tar.gz":                []byte(".."),
		"LONGNA~1.TXT":                   []byte("claims a tail"),
		"longname one.txt":               []byte("1"),
		"longname two.txt":               []byte("2"),
		"zeros":                          make([]byte, 30_000),
	}
	for i := range 60 { // more than one cluster of directory
		t[fmt.Sprintf("many/a file with number %03d", i)] = []byte{byte(i)}
	}
	return t
}

func (t tree) write(w *fat.Writer) error {
	for _, p := range slices.Sorted(mapKeys(t)) {
		if t[p] == nil {
			if err := w.Mkdir(p); err != nil {
				return err
			}
		} else if err := w.Create(p, int64(len(t[p])), bytes.NewReader(t[p]), epoch.Add(time.Hour)); err != nil {
			return err
		}
	}
	return w.Close()
}

func mapKeys(t tree) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range t {
			if !yield(k) {
				return
			}
		}
	}
}

func newImage(t testing.TB, size int64) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "fat.img"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return f
}

func build(t testing.TB, opts fat.Options, content tree) *os.File {
	t.Helper()
	f := newImage(t, opts.Size)
	w, err := fat.NewWriter(f, opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := content.write(w); err != nil {
		t.Fatal(err)
	}
	return f
}

func tool(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TZ=UTC", "MTOOLS_SKIP_CHECK=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// fsck holds an image to a clean fsck.vfat: any word but its summary is a fault.
func fsck(t testing.TB, f *os.File) {
	t.Helper()
	out := tool(t, "fsck.vfat", "-n", "-v", f.Name())
	for _, bad := range []string{"differ", "rong", "ntrunc", "Dirty", "dirty", "orphan", "Truncat", "Bad", "uplicate", "Reclaim", "Leaving"} {
		if strings.Contains(out, bad) {
			t.Errorf("fsck.vfat: %s", out)
		}
	}
}

// sameTree compares all of fsys with want.
func sameTree(t testing.TB, fsys fs.FS, want tree) {
	t.Helper()
	dirs := map[string]bool{".": true}
	for p, content := range want {
		if content == nil {
			dirs[p] = true
		}
		for d := path.Dir(p); d != "."; d = path.Dir(d) {
			dirs[d] = true
		}
	}
	seen := 0
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		seen++
		if d.IsDir() {
			if !dirs[p] {
				t.Errorf("directory %q is not wanted", p)
			}
			return nil
		}
		got, err := fs.ReadFile(fsys, p)
		if err != nil {
			return err
		}
		if content, ok := want[p]; !ok || content == nil || !bytes.Equal(got, content) {
			t.Errorf("file %q: %d bytes, not as wanted (%d bytes)", p, len(got), len(content))
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	total := len(dirs)
	for _, content := range want {
		if content != nil {
			total++
		}
	}
	if seen != total {
		t.Errorf("%d files and directories, want %d", seen, total)
	}
}

func open(t testing.TB, f *os.File) *fat.FS {
	t.Helper()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	fsys, err := fat.Open(f, st.Size())
	if err != nil {
		t.Fatal(err)
	}
	return fsys
}

type volume struct {
	size int64
	ask  fat.Type
	want fat.Type
	ss   int
}

func volumes() []volume {
	return []volume{
		{mib, fat.Auto, fat.FAT12, 0},
		{2 * mib, fat.Auto, fat.FAT12, 0},
		{3 * mib, fat.FAT16, fat.FAT16, 0},
		{8 * mib, fat.FAT12, fat.FAT12, 0},
		{33 * mib, fat.Auto, fat.FAT16, 0},
		{34 * mib, fat.FAT32, fat.FAT32, 0},
		{260 * mib, fat.FAT32, fat.FAT32, 0},
		{512 * mib, fat.Auto, fat.FAT32, 0},
		{512 * mib, fat.Auto, fat.FAT32, 4096},
		{2 << 30, fat.Auto, fat.FAT32, 0},
		{40 << 30, fat.Auto, fat.FAT32, 0},
	}
}

func TestWriterJudgedByFsckAndMtools(t *testing.T) {
	for _, v := range volumes() {
		t.Run(fmt.Sprintf("%dMiB-%v-%d", v.size/mib, v.ask, v.ss), func(t *testing.T) {
			opts := fat.Options{Size: v.size, Type: v.ask, Label: "KLD_ESP 1", VolumeID: 0xCAFE1234, Epoch: epoch, HiddenSectors: 2048, SectorSize: v.ss}
			want := smallTree()
			if v.size > 512*mib {
				want["big.bin"] = noise(5*mib+7, 9)
			}
			f := build(t, opts, want)
			fsck(t, f)
			checkSparse(t, f, 8*mib)
			fsys := open(t, f)
			if fsys.Type() != v.want || fsys.Label() != opts.Label || fsys.VolumeID() != opts.VolumeID {
				t.Errorf("read back %v %q %x", fsys.Type(), fsys.Label(), fsys.VolumeID())
			}
			sameTree(t, fsys, want)
			out := t.TempDir()
			tool(t, "mcopy", "-s", "-n", "-m", "-i", f.Name(), "::*", out)
			sameTree(t, os.DirFS(out), want)
			if got := tool(t, "mdir", "-b", "-i", f.Name(), "::/EFI/debian"); !strings.Contains(got, "::/EFI/debian/grubx64.efi") {
				t.Errorf("mdir: %s", got)
			}
			if got := tool(t, "mtype", "-i", f.Name(), "::/user-data"); got != "#cloud-config\n" {
				t.Errorf("mtype: %q", got)
			}
			if got := tool(t, "minfo", "-i", f.Name(), "::"); !strings.Contains(got, fmt.Sprintf("disk type=\"%-8v\"", v.want)) {
				t.Errorf("minfo: %s", got)
			}
		})
	}
}

func checkSparse(t *testing.T, f *os.File, limit int64) {
	t.Helper()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if used := st.Sys().(*syscall.Stat_t).Blocks * 512; used > limit {
		t.Errorf("image of %d bytes takes %d on disk, want at most %d", st.Size(), used, limit)
	}
}

func TestESPStaysSparse(t *testing.T) {
	f := build(t, fat.Options{Size: 512 * mib}, tree{"zeros": make([]byte, 20*mib), "a": []byte("a")})
	checkSparse(t, f, 256<<10)
	fsck(t, f)
}

func TestSameInputSameBytes(t *testing.T) {
	for _, size := range []int64{2 * mib, 33 * mib, 512 * mib} {
		var sums [2][32]byte
		for i := range sums {
			f := build(t, fat.Options{Size: size, Label: "CIDATA", Epoch: epoch}, smallTree())
			h := sha256.New()
			if _, err := io.Copy(h, io.NewSectionReader(f, 0, size)); err != nil {
				t.Fatal(err)
			}
			sums[i] = [32]byte(h.Sum(nil))
		}
		if sums[0] != sums[1] {
			t.Errorf("size %d: two builds differ", size)
		}
	}
}

func TestReaderReadsMkfsAndMcopy(t *testing.T) {
	for _, args := range [][]string{
		{"-F", "12", "1M"}, {"-F", "12", "-r", "112", "-f", "1", "2M"}, {"-F", "16", "16M"}, {"-F", "32", "-s", "2", "80M"},
		{"512M"}, {"-S", "4096", "-F", "32", "300M"}, {"-S", "2048", "4M"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			f := newImage(t, 0)
			size := args[len(args)-1]
			tool(t, "truncate", "-s", size, f.Name())
			mkfs := append([]string{"-n", "kld seed", "-i", "1234abcd"}, args[:len(args)-1]...)
			tool(t, "mkfs.vfat", append(mkfs, f.Name())...)
			want := smallTree()
			src := t.TempDir()
			for p, content := range want {
				full := filepath.Join(src, p)
				if content == nil {
					full, content = filepath.Join(full, "made"), []byte{}
					want[p+"/made"] = content
				}
				if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o755), os.WriteFile(full, content, 0o644)); err != nil {
					t.Fatal(err)
				}
			}
			names, err := filepath.Glob(src + "/*")
			if err != nil {
				t.Fatal(err)
			}
			tool(t, "mcopy", slices.Concat([]string{"-s", "-i", f.Name()}, names, []string{"::"})...)
			fsys := open(t, f)
			sameTree(t, fsys, want)
			if fsys.Label() != "kld seed" || fsys.VolumeID() != 0x1234ABCD {
				t.Errorf("label %q, serial %x", fsys.Label(), fsys.VolumeID())
			}
		})
	}
}

func TestReaderIsAnFS(t *testing.T) {
	f := build(t, fat.Options{Size: 2 * mib, Epoch: epoch}, smallTree())
	fsys := open(t, f)
	if err := fstest.TestFS(fsys, "user-data", "EFI/BOOT/BOOTX64.EFI", "many", "empty"); err != nil {
		t.Error(err)
	}
	st, err := fs.Stat(fsys, "efi/boot/bootx64.efi")
	if err != nil {
		t.Fatal(err)
	}
	if st.Name() != "BOOTX64.EFI" || st.Size() != 70_000 || !st.ModTime().Equal(epoch.Add(time.Hour)) || st.Mode() != 0o644 {
		t.Errorf("stat: %v", fs.FormatFileInfo(st))
	}
	st, err = fs.Stat(fsys, "EFI")
	if err != nil || !st.ModTime().Equal(epoch) || !st.IsDir() {
		t.Errorf("stat EFI: %v, %v", st, err)
	}
	if _, err := fsys.ReadFile("absent"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent file: %v", err)
	}
	if fsys.Label() != "" {
		t.Errorf("label %q, want none", fsys.Label())
	}
}

func TestShortNames(t *testing.T) {
	f := build(t, fat.Options{Size: 2 * mib}, smallTree())
	out := tool(t, "mdir", "-a", "-i", f.Name(), "::")
	for _, want := range []string{"LONGNA~1 TXT", "LONGNA~2 TXT", "LONGNA~3 TXT", "USER-D~1 ", "EMPTY    ", "TWODOT~1 GZ", "A_B_C_~1 X", "HIDDEN~1 "} {
		if !strings.Contains(out, want) {
			t.Errorf("mdir shows no %q:\n%s", want, out)
		}
	}
}

func TestLargeDirectory(t *testing.T) {
	for _, c := range []struct {
		size int64
		n    int
	}{{34 * mib, 3000}, {512 * mib, 1500}} {
		want := tree{}
		for i := range c.n {
			want[fmt.Sprintf("number %05d in the root", i)] = []byte{1}
			want[fmt.Sprintf("sub/number %05d below", i)] = []byte{2}
		}
		f := build(t, fat.Options{Size: c.size, Type: fat.FAT32, Label: "L"}, want)
		fsck(t, f)
		sameTree(t, open(t, f), want)
	}
}

func TestNamesBeyondTheBasicPlane(t *testing.T) { // mtools shows these as __
	want := tree{"clef 𝄞/𝄞.txt": []byte("x"), strings.Repeat("𝄞", 127): []byte("254 units")}
	f := build(t, fat.Options{Size: mib}, want)
	fsck(t, f)
	sameTree(t, open(t, f), want)
}
