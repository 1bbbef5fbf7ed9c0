package verify

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/kldload/kldload/internal/seal"
	"github.com/kldload/kldload/internal/volume"
	"github.com/kldload/kldload/zfs"
)

// otherDatasets are mountpoint, canmount and the files of datasets.
var otherDatasets = []struct {
	name, mountpoint, canmount string
	files                      []string
}{
	{"tank", "none", "off", nil},
	{"tank/root", "/", "noauto", []string{"etc/", "etc/passwd", "etc/fstab", "home/", "var/", "data/"}},
	{"tank/root/clean", "/srv/clean/deep", "noauto", []string{"file"}},
	{"tank/empty", "/empty", "off", nil},
	{"tank/home", "/home", "on", []string{"ops/", "ops/notes"}},
	{"tank/oldhome", "/home/old", "noauto", []string{"x/", ".bash_history"}},
	{"tank/legacy", "legacy", "on", []string{"auth.log"}},
	{"tank/nowhere", "none", "on", []string{"file"}},
	{"tank/srv", "/srv/ops", "noauto", []string{".bash_history", "kept"}},
}

func otherImage(t *testing.T) *image {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "pool"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	o := zfs.Options{Size: zfs.MinSize, Pool: "tank", Seed: "others", Epoch: epoch, Snapshot: "golden", Apart: true, Properties: map[string]string{"bootfs": "tank/root"}}
	for _, d := range otherDatasets {
		o.Datasets = append(o.Datasets, zfs.Dataset{Name: d.name, Properties: map[string]string{"mountpoint": d.mountpoint, "canmount": d.canmount}})
	}
	w, err := zfs.NewWriter(f, o)
	if err != nil {
		t.Fatal(err)
	}
	text := map[string]string{"etc/passwd": "ops:x:1000:1000::/srv/ops:/bin/sh\n", "etc/fstab": "tank/legacy /var/log zfs defaults 0 0\n"}
	for _, d := range otherDatasets {
		set, err := w.Dataset(d.name)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range append([]string{"./"}, d.files...) {
			h := zfs.Header{Path: name, Mode: 0o100644, ModTime: epoch, Size: int64(len(text[name]))}
			if dir, ok := strings.CutSuffix(name, "/"); ok {
				h.Path, h.Mode = dir, 0o40755
			}
			if err := set.Create(h, strings.NewReader(text[name])); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	p, err := zfs.Open(f, zfs.MinSize)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := p.Tree("")
	if err != nil {
		t.Fatal(err)
	}
	v := &volume.Volume{Pool: p}
	return &image{root: tree, volume: &volume.Root{Files: tree, Volume: v, Dataset: "tank/root", Tree: tree}}
}

// TestOthers: what no boot mounts is judged as if one did, each state once.
func TestOthers(t *testing.T) {
	m := otherImage(t)
	var got []string
	c := m.otherRoots(seal.Options{})
	for _, v := range c.Violations {
		if !strings.HasPrefix(v.Path, "tank/root@golden:") { // it was never sealed
			got = append(got, v.Path+" "+v.Item)
		}
	}
	want := []string{"tank/legacy:/var/log/auth.log logs", "tank/nowhere:/ snapshots", "tank/oldhome:/home/old/.bash_history histories", "tank/srv:/srv/ops/.bash_history histories"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("violations (-want +got):\n%s", diff)
	}
}

// TestAloneSnapshots: of a pool that a kernel wrote, those snapshots are looked
// at that differ from what was.
func TestAloneSnapshots(t *testing.T) {
	f, err := os.Open("../../zfs/testdata/kernel-2.3.2.img.zst")
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
	p, err := zfs.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	m := otherImage(t)
	m.volume.Volume.Pool = p
	judged := map[string]bool{}
	list, err := p.Datasets()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		judged[d.Name] = true
	}
	alone, err := m.alone(judged)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range alone {
		got = append(got, a.name)
	}
	want := []string{"kpool@one", "kpool/gzip@one", "kpool/lzjb@one", "kpool/zle@one", "kpool/zstd@one"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("snapshots that are looked at (-want +got):\n%s", diff)
	}
}
