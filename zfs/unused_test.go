package zfs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/kldload/kldload/zfs/internal/ondisk"
)

// deletedPool was written by a Linux kernel: testdata/README.md.
func deletedPool(t testing.TB) image { return testdata(t, "deleted-2.1.11.img.zst") }

// region is what Unused gives.
type region struct {
	kind      string
	off, size int64
}

func unused(t testing.TB, p *Pool) []region {
	t.Helper()
	var all []region
	if err := p.Unused(func(kind string, off, size int64) error {
		all = append(all, region{kind, off, size})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

var allocatedLine = regexp.MustCompile(`bp allocated: +(\d+)`)

// What is not free is what zdb finds in use, which it says is what the space
// maps have as allocated.
func TestFreeAsZdb(t *testing.T) {
	for what, m := range map[string]image{"kernel": deletedPool(t), "own": writePool(t, fuzzOptions(), fuzzTree())} {
		p := m.open(t)
		dir := t.TempDir()
		if err := os.WriteFile(dir+"/disk", m, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("zdb", "-e", "-p", dir, "-bb", "-P", p.Name()).CombinedOutput()
		used := allocatedLine.FindSubmatch(out)
		if err != nil || used == nil || !bytes.Contains(out, []byte("No leaks")) {
			t.Fatalf("%s: zdb: %v\n%s", what, err, out)
		}
		free := int64(0)
		for _, r := range unused(t, p) {
			if r.kind == FreeSpace {
				free += r.size
			}
		}
		sectors := int64(p.vdev.asize >> p.vdev.ashift << p.vdev.ashift)
		if got := fmt.Sprint(sectors - free); got != string(used[1]) {
			t.Errorf("%s: %s bytes are not free, zdb finds %s in use", what, got, used[1])
		}
	}
}

// Unused space and space in use are all there is.
func TestUnusedIsTheRest(t *testing.T) {
	for what, m := range map[string]image{"2.1.11": deletedPool(t), "2.3.2": kernelPool(t)} {
		p := m.open(t)
		sum := map[string]int64{}
		for _, r := range unused(t, p) {
			sum[r.kind] += r.size
		}
		r := check(t, p)
		if got := sum[LabelArea] + sum[FreeSpace] + r.Allocated; got < int64(len(m)) || got > int64(len(m))+128<<10 {
			t.Errorf("%s: %v and %d allocated are %d of %d bytes", what, sum, r.Allocated, got, len(m))
		}
	}
}

// remnants puts what is found into one text for each form.
func remnants(t testing.TB, p *Pool) map[string]string {
	t.Helper()
	all := map[string]*strings.Builder{}
	for _, r := range unused(t, p) {
		err := p.Remnants(t.Context(), r.off, r.size, func(x Remnant) error {
			if all[x.Form] == nil {
				all[x.Form] = &strings.Builder{}
			}
			all[x.Form].Write(x.Data)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	out := map[string]string{}
	for form, b := range all {
		out[form] = b.String()
	}
	return out
}

func TestDeletedFilesAreFound(t *testing.T) {
	m := deletedPool(t)
	p := m.open(t)
	found := remnants(t, p)
	for _, form := range []string{"lz4", "zstd", "gzip"} {
		for _, n := range []int{0, 1, 2500, 3999} {
			if line := fmt.Sprintf("line %d of the deleted file of %s\n", n, form); !strings.Contains(found[form], line) {
				t.Errorf("%q is not found", line)
			}
			if line := fmt.Sprintf("line %d of the deleted file of %s\n", n, form); n > 0 && bytes.Contains(m, []byte(line)) {
				t.Errorf("%q is not packed: it tests nothing", line)
			}
		}
		if tiny := "tiny and deleted with " + form; !strings.Contains(found["embedded"], tiny) {
			t.Errorf("%q is not found", tiny)
		}
	}
}

// A block of which the rest was written over is found as far as it goes.
func TestPartsOfBlocks(t *testing.T) {
	m := deletedPool(t)
	p := m.open(t)
	hits := 0
	for _, r := range unused(t, p) {
		err := p.Remnants(t.Context(), r.off, r.size, func(x Remnant) error {
			if x.Form == "embedded" || x.Partial || !bytes.Contains(x.Data, []byte("of the deleted file of")) {
				return nil
			}
			hits++
			whole := bytes.Clone(x.Data)
			cut := bytes.Clone(m[:x.Offset+8192])
			rand.New(rand.NewSource(1)).Read(cut[x.Offset+4096:])
			cutPool := *p
			cutPool.r = bytes.NewReader(cut)
			var got []byte
			err := cutPool.Remnants(t.Context(), x.Offset, 8192, func(y Remnant) error {
				if y.Offset == x.Offset && y.Form == x.Form {
					got = bytes.Clone(y.Data)
				}
				return nil
			})
			same := 0
			for same < min(len(got), len(whole)) && got[same] == whole[same] {
				same++
			}
			if same < 4096 {
				t.Errorf("%s at %d: %d bytes of %d are right", x.Form, x.Offset, same, len(whole))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if hits < 3 {
		t.Errorf("%d blocks", hits)
	}
}

func TestIdentity(t *testing.T) {
	p := deletedPool(t).open(t)
	identity := func(dataset, name string) Identity {
		t.Helper()
		f, err := p.Dataset(dataset)
		if err != nil {
			t.Fatal(err)
		}
		info, err := f.Lstat(name)
		if err != nil {
			t.Fatal(err)
		}
		id, ok := IdentityOf(info)
		if !ok {
			t.Fatalf("%s has none", name)
		}
		return id
	}
	if identity("dpool/snap", "same") != identity("dpool/snap@one", "same") {
		t.Error("a file that was not touched has another identity in the snapshot")
	}
	if a, b := identity("dpool/snap", "changed"), identity("dpool/snap@one", "changed"); a.Content == b.Content || a.Attributes == b.Attributes {
		t.Error("a file that was written has the identity of before")
	}
	if p.Unchanged("dpool/snap", "dpool/snap@one") || !p.Unchanged("dpool/snap@one", "dpool/snap@one") || p.Unchanged("dpool", "none") {
		t.Error("datasets that differ are unchanged, or the other way round")
	}
}

func FuzzRemnants(f *testing.F) {
	m := deletedPool(f)
	p := m.open(f)
	seeds := 0
	for _, r := range unused(f, p) {
		err := p.Remnants(f.Context(), r.off, r.size, func(x Remnant) error {
			if seeds++; seeds%8 == 0 {
				f.Add([]byte(m[x.Offset : x.Offset+4096]))
			}
			return nil
		})
		if err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		q := *p
		q.r, q.size = bytes.NewReader(data), int64(len(data))
		err := q.Remnants(context.Background(), 0, int64(len(data)), func(x Remnant) error {
			if x.Offset < 0 || x.Offset >= int64(len(data)) || len(x.Data) > ondisk.MaxBlockSize {
				t.Errorf("%+v", x)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

func TestVolume(t *testing.T) {
	p := kernelPool(t).open(t)
	f, err := p.Volume("kpool/vol")
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f) // nothing was written to it
	if _, _, hole := f.NextData(0); err != nil || hole != io.EOF || f.Size() != 1<<20 || len(b) != 1<<20 || !allZero(b) {
		t.Errorf("%d bytes of %d: %v, %v", len(b), f.Size(), err, hole)
	}
	for _, name := range []string{"kpool", "kpool/secret", "none"} {
		if _, err := p.Volume(name); err == nil {
			t.Errorf("%s is a volume", name)
		}
	}
}
