package zfs

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"math/rand"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// image is a pool in memory.
type image []byte

func (m image) WriteAt(p []byte, off int64) (int, error) { return copy(m[off:], p), nil }

func (m image) open(t testing.TB) *Pool {
	t.Helper()
	p, err := Open(bytes.NewReader(m), int64(len(m)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var readEpoch = time.Date(2025, 3, 4, 5, 6, 7, 0, time.UTC)

type treeFile struct {
	h    Header
	body []byte
	link string // another name of that file
}

// sampleOptions are a root with a data set below it, one that nothing mounts,
// and a compressed one.
func sampleOptions() Options {
	return Options{
		Size: MinSize, Pool: "rpool", Seed: "reader", Epoch: readEpoch, Snapshot: "golden",
		Properties: map[string]string{"bootfs": "rpool/ROOT/default", "autoexpand": "on"},
		Datasets: []Dataset{
			{Name: "rpool", Properties: map[string]string{"mountpoint": "none", "canmount": "off", "compression": "lz4"}},
			{Name: "rpool/ROOT", Properties: map[string]string{"mountpoint": "none", "canmount": "off"}},
			{Name: "rpool/ROOT/default", Properties: map[string]string{"mountpoint": "/", "canmount": "noauto"}},
			{Name: "rpool/home", Properties: map[string]string{"mountpoint": "/home", "compression": "zstd-3", "quota": "10M", "my:note": "hi"}},
			{Name: "rpool/home/big", Properties: map[string]string{"recordsize": "1M", "dnodesize": "auto"}},
		},
	}
}

func noise(n int) []byte {
	b := make([]byte, n)
	rand.New(rand.NewSource(int64(n))).Read(b)
	return b
}

// sampleTree has all kinds of files.
func sampleTree() []treeFile {
	dir := func(p string) treeFile { return treeFile{h: Header{Path: p, Mode: modeDir | 0o755}} }
	reg := func(p string, b []byte) treeFile {
		return treeFile{h: Header{Path: p, Mode: modeRegular | 0o644, Size: int64(len(b)), UID: 1000, GID: 70000,
			ModTime: time.Unix(1234567890, 123456789).UTC()}, body: b}
	}
	sparse := make([]byte, 3<<20)
	copy(sparse[1<<20:], noise(1000))
	attrs := reg("etc/attrs", []byte("x"))
	attrs.h.Xattrs = map[string][]byte{"user.a": []byte("1"), "trusted.big": bytes.Repeat([]byte("big "), 700), "user.none": {}}
	attrs.h.Mode |= 0o4000
	list := []treeFile{
		dir("etc"), dir("home"), dir("dev"), dir("many"), dir("home/user"), dir("home/big"),
		reg("etc/hello", []byte("hello\n")), reg("etc/empty", nil), reg("etc/embedded", bytes.Repeat([]byte("a"), 3000)),
		reg("etc/noise", noise(300000)), reg("etc/text", []byte(strings.Repeat("some text\n", 40000))), attrs,
		reg("etc/sparse", sparse), reg("home/user/doc", []byte(strings.Repeat("zstd text\n", 40000))), reg("home/big/file", noise(2500000)),
		{h: Header{Path: "etc/link", Mode: modeSymlink | 0o777, Linkname: "../home/user"}},
		{h: Header{Path: "etc/long", Mode: modeSymlink | 0o777, Linkname: strings.Repeat("long/", 600)}},
		{h: Header{Path: "dev/null", Mode: modeChar | 0o666, Major: 1, Minor: 3}},
		{h: Header{Path: "dev/disk", Mode: modeBlock | 0o660, Major: 259, Minor: 70000}},
		{h: Header{Path: "dev/fifo", Mode: modeFIFO | 0o600}},
		{h: Header{Path: "dev/sock", Mode: modeSocket | 0o700}},
		{h: Header{Path: "etc/hard"}, link: "etc/hello"},
	}
	for i := range 3000 {
		list = append(list, reg(fmt.Sprintf("many/a name of more than fifty bytes, to be sure of it, number %d", i), nil))
	}
	return list
}

func writePool(t testing.TB, o Options, tree []treeFile) image {
	t.Helper()
	m := make(image, o.Size)
	w, err := NewWriter(m, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range tree {
		if f.link != "" {
			err = w.Link(f.h.Path, f.link)
		} else {
			err = w.Create(f.h, bytes.NewReader(f.body))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return m
}

func samplePool(t testing.TB) image { return writePool(t, sampleOptions(), sampleTree()) }

// nodeFS is what FS and Tree have in common.
type nodeFS interface {
	fs.ReadDirFS
	Node(name string) (*Node, error)
	Resolve(name string) (string, error)
}

// compareFile holds a file against what was written.
func compareFile(t *testing.T, f nodeFS, name string, want treeFile) {
	t.Helper()
	n, err := f.Node(name)
	if err != nil {
		t.Error(err)
		return
	}
	got, h := n.Header, want.h
	got.Path = h.Path
	if h.ModTime.IsZero() {
		h.ModTime = readEpoch
	}
	h.AccessTime, h.ChangeTime = h.ModTime, h.ModTime
	if h.Mode&modeType != modeRegular {
		got.Size, h.Size = 0, 0
	}
	if diff := cmp.Diff(h, got); diff != "" {
		t.Errorf("%s: (-want +got)\n%s", name, diff)
	}
	if h.Mode&modeType != modeRegular {
		return
	}
	b, err := fs.ReadFile(f, name)
	if err != nil || !bytes.Equal(b, want.body) {
		t.Errorf("%s: %d bytes, %v: want %d others", name, len(b), err, len(want.body))
	}
}

func TestReadBack(t *testing.T) {
	p := samplePool(t).open(t)
	mounts := map[string]string{"": "rpool/ROOT/default", "home/": "rpool/home", "home/big/": "rpool/home/big"}
	for at, name := range mounts {
		for _, snap := range []string{"", "@golden"} {
			f, err := p.Dataset(name + snap)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range sampleTree() {
				rest, ok := strings.CutPrefix(want.h.Path, at)
				if !ok || want.link != "" || at != "home/big/" && strings.HasPrefix(want.h.Path, "home/big") || at == "" && strings.HasPrefix(want.h.Path, "home") {
					continue
				}
				compareFile(t, f, rest, want)
			}
		}
	}
}

// TestFS knows no links and devices.
func TestFSContract(t *testing.T) {
	tree := []treeFile{{h: Header{Path: "a", Mode: modeDir | 0o755}}, {h: Header{Path: "a/b", Mode: modeDir | 0o700}},
		{h: Header{Path: "a/c", Mode: modeRegular | 0o600, Size: 5}, body: []byte("five\n")}, {h: Header{Path: "home", Mode: modeDir}}}
	p := writePool(t, sampleOptions(), tree).open(t)
	f, err := p.Dataset("rpool/ROOT/default")
	if err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(f, "a/b", "a/c"); err != nil {
		t.Error(err)
	}
}

func TestNames(t *testing.T) {
	p := samplePool(t).open(t)
	f, err := p.Dataset("rpool/ROOT/default")
	if err != nil {
		t.Fatal(err)
	}
	n, err := f.Node("etc/hard")
	if err != nil || n.Links != 2 {
		t.Errorf("Node gives %+v, %v: want 2 links", n, err)
	}
	if got, err := f.Resolve("etc/link/../../etc/./hello"); err == nil {
		t.Errorf("Resolve through a link to nowhere gives %q", got)
	}
	if got, err := f.Resolve("/etc/../../dev/null"); got != "dev/null" || err != nil {
		t.Errorf("Resolve gives %q, %v", got, err)
	}
	for _, bad := range []string{"nothing", "etc/hello/below", "/etc", "etc/", "", "../etc"} {
		if _, err := f.Lstat(bad); err == nil {
			t.Errorf("Lstat(%q) gives no error", bad)
		}
	}
	for _, name := range []string{"dev/null", "etc/link"} {
		if _, err := f.Open(name); err == nil {
			t.Errorf("Open(%q) gives no error", name)
		}
	}
}

func TestNextData(t *testing.T) {
	p := samplePool(t).open(t)
	f, err := p.Dataset("rpool/ROOT/default")
	if err != nil {
		t.Fatal(err)
	}
	o, err := f.Open("etc/sparse")
	if err != nil {
		t.Fatal(err)
	}
	file := o.(*File)
	for _, c := range []struct{ off, start, end int64 }{{0, 1 << 20, 1<<20 + 128<<10}, {1<<20 + 5, 1<<20 + 5, 1<<20 + 128<<10}} {
		if start, end, err := file.NextData(c.off); start != c.start || end != c.end || err != nil {
			t.Errorf("NextData(%d) gives %d to %d, %v: want %d to %d", c.off, start, end, err, c.start, c.end)
		}
	}
	if _, _, err := file.NextData(2 << 20); err != io.EOF {
		t.Errorf("NextData in the last hole gives %v: want EOF", err)
	}
}

func TestDatasets(t *testing.T) {
	p := samplePool(t).open(t)
	all, err := p.Datasets()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range all {
		got = append(got, fmt.Sprintf("%s %s %s %s %v %d", d.Name, d.Type, d.Mountpoint, d.CanMount, d.Properties, len(d.Snapshots)))
		if d.Used != d.UsedByDataset+d.UsedBySnapshots+d.UsedByChildren+d.UsedByRefReservation || d.Referenced == 0 || d.GUID == 0 || !d.Created.Equal(readEpoch) {
			t.Errorf("%+v", d)
		}
	}
	want := []string{
		"rpool filesystem none off map[canmount:off compression:lz4 mountpoint:none] 1",
		"rpool/ROOT filesystem none off map[canmount:off mountpoint:none] 1",
		"rpool/ROOT/default filesystem / noauto map[canmount:noauto mountpoint:/] 1",
		"rpool/home filesystem /home on map[compression:zstd-3 mountpoint:/home my:note:hi quota:10485760] 1",
		"rpool/home/big filesystem /home/big on map[dnodesize:auto recordsize:1048576] 1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if p.Name() != "rpool" || p.Properties()["bootfs"] != "rpool/ROOT/default" || p.Properties()["autoexpand"] != "on" {
		t.Errorf("pool %q with %v", p.Name(), p.Properties())
	}
}
