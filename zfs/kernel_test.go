package zfs

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
)

// testdata gives the content of a packed file.
func testdata(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d, err := zstd.NewReader(f, zstd.WithDecoderMaxWindow(1<<27))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	b, err := io.ReadAll(d)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// kernelPool was written by a Linux kernel: testdata/README.md.
func kernelPool(t testing.TB) image { return testdata(t, "kernel-2.3.2.img.zst") }

// seenFile is a file as a program saw it under that kernel.
type seenFile struct {
	Dataset, Path string
	Mode          uint32
	UID, GID      uint32
	Size          int64
	M, C          int64 // nanoseconds
	Nlink, Ino    uint64
	Maj, Min      uint32
	Link          string
	X             map[string]string // in hexadecimal
	Sum           string            // SHA-256 of a regular file
}

// see describes a file in the same way.
func see(f *FS, dataset, name string) (seenFile, error) {
	n, err := f.Node(name)
	if err != nil {
		return seenFile{}, err
	}
	s := seenFile{Dataset: dataset, Path: name, Mode: n.Mode, UID: n.UID, GID: n.GID, Size: n.Size, M: n.ModTime.UnixNano(),
		C: n.ChangeTime.UnixNano(), Nlink: n.Links, Ino: n.Ino, Maj: n.Major, Min: n.Minor, Link: n.Linkname}
	for k, v := range n.Xattrs {
		if s.X == nil {
			s.X = map[string]string{}
		}
		s.X[k] = hex.EncodeToString(v)
	}
	if n.Mode&modeType == modeRegular {
		b, err := fs.ReadFile(f, name)
		if err != nil {
			return seenFile{}, err
		}
		s.Sum = fmt.Sprintf("%x", sha256.Sum256(b))
	}
	return s, nil
}

func TestKernelFiles(t *testing.T) {
	p := kernelPool(t).open(t)
	open := map[string]*FS{}
	seen := 0
	for d := json.NewDecoder(strings.NewReader(string(testdata(t, "kernel-2.3.2.jsonl.zst")))); ; {
		var want seenFile
		if err := d.Decode(&want); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if want.Dataset == "kpool/zstd" && want.Path == "." { // a file was added behind the list's back
			continue
		}
		if open[want.Dataset] == nil {
			f, err := p.Dataset(want.Dataset)
			if err != nil {
				t.Fatal(err)
			}
			open[want.Dataset] = f
		}
		got, err := see(open[want.Dataset], want.Dataset, want.Path)
		if err != nil {
			t.Error(err)
			continue
		}
		if want.Path == "." { // programs see another number
			got.Ino = want.Ino
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s %s: (-kernel +here)\n%s", want.Dataset, want.Path, diff)
		}
		seen++
	}
	if seen < 200 {
		t.Errorf("%d files", seen)
	}
}

func TestKernelDatasets(t *testing.T) {
	p := kernelPool(t).open(t)
	all, err := p.Datasets()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range all {
		got = append(got, fmt.Sprintf("%s %s %s %d %v %v %q", d.Name, d.Type, d.Mountpoint, d.Referenced, d.Properties, d.Encrypted, d.Origin))
	}
	want := []string{
		`kpool filesystem /mnt 114688 map[acltype:posix compression:lz4 mountpoint:/mnt xattr:sa] false ""`,
		`kpool/clone filesystem /mnt/clone 163840 map[] false "kpool/lzjb@one"`,
		`kpool/gzip filesystem /mnt/gzip 225280 map[checksum:sha256 compression:gzip-9 xattr:dir] false ""`,
		`kpool/lzjb filesystem /mnt/lzjb 163840 map[checksum:fletcher2 compression:lzjb] false ""`,
		`kpool/secret filesystem /mnt/secret 200704 map[keylocation:prompt] true ""`,
		`kpool/vol volume none 57344 map[refreservation:3145728 volsize:1048576] false ""`,
		`kpool/zle filesystem /mnt/zle 286720 map[checksum:sha512 compression:zle recordsize:4096] false ""`,
		`kpool/zstd filesystem /mnt/zstd 196608 map[compression:zstd-fast copies:2 dnodesize:auto quota:20971520 user:note:hello] false ""`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if _, err := p.Dataset("kpool/secret"); !errors.Is(err, ErrEncrypted) {
		t.Errorf("opening an encrypted dataset gives %v", err)
	}
	if _, err := p.Dataset("kpool/vol"); err == nil {
		t.Error("opening a volume gives no error")
	}
}

// A pool that was not exported, with a log of space maps, an intent log, gang
// blocks and cloned ones.
func TestKernelCheck(t *testing.T) {
	p := kernelPool(t).open(t)
	for _, name := range []string{"com.delphix:log_spacemap", "com.fudosecurity:block_cloning"} {
		if !p.active(name) {
			t.Errorf("feature %q is not active", name)
		}
	}
	r := check(t, p)
	for _, x := range r.Problems {
		t.Error(x)
	}
	if r.Allocated != r.Referenced || r.Datasets != 8 || r.Snapshots != 5 {
		t.Errorf("%+v", r)
	}
	if want := []string{`files of "kpool/secret": the dataset is encrypted`}; !slices.Equal(r.Unverified, want) {
		t.Errorf("unverified: %q", r.Unverified)
	}
}
