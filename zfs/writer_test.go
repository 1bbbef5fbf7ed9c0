package zfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kldload/kldload/zfs/internal/judge"
)

var epoch = time.Unix(1700000000, 123456789)

// entry is one call of Create or, with link set, of Link.
type entry struct {
	Header
	body io.Reader
	link string
}

func dir(path string) entry { return entry{Header: Header{Path: path, Mode: modeDir | 0o755}} }

func file(path string, content []byte) entry {
	return entry{Header: Header{Path: path, Mode: modeRegular | 0o644, Size: int64(len(content))}, body: bytes.NewReader(content)}
}

// testOptions are a small pool's, as an image has it.
func testOptions(size int64) Options {
	return Options{
		Size: size, Pool: "rpool", Seed: "test", Epoch: epoch, Snapshot: "golden",
		Properties: map[string]string{"bootfs": "rpool/ROOT/default", "autotrim": "on", "comment": "a test"},
		Datasets: []Dataset{
			{Name: "rpool", Properties: map[string]string{"compression": "lz4", "acltype": "posix", "xattr": "sa", "dnodesize": "auto", "mountpoint": "none", "canmount": "off"}},
			{Name: "rpool/ROOT", Properties: map[string]string{"canmount": "off"}},
			{Name: "rpool/ROOT/default", Properties: map[string]string{"mountpoint": "/", "canmount": "noauto", "org.test:why": "a test"}},
			{Name: "rpool/home", Properties: map[string]string{"mountpoint": "/home", "quota": "1G", "compression": "off"}},
			{Name: "rpool/var", Properties: map[string]string{"mountpoint": "/var", "canmount": "off"}},
			{Name: "rpool/var/log", Properties: map[string]string{"compression": "zstd-3"}},
			{Name: "rpool/big", Properties: map[string]string{"mountpoint": "/big", "recordsize": "1M", "compression": "zstd", "copies": "2"}},
		},
	}
}

// grubOptions are a pool's that GRUB reads.
func grubOptions(size int64) Options {
	o := testOptions(size)
	o.Properties = map[string]string{"compatibility": "grub2", "bootfs": "rpool/ROOT/default"}
	o.Datasets = o.Datasets[:3]
	o.Datasets[0].Properties = map[string]string{"compression": "lz4", "xattr": "sa", "acltype": "posix", "mountpoint": "none", "canmount": "off"}
	return o
}

// build writes a pool into a file of its own folder, as zdb wants it.
func build(t testing.TB, o Options, entries []entry) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "pool.img")
	if err := buildFile(name, o, entries); err != nil {
		t.Fatal(err)
	}
	return name
}

func buildFile(name string, o Options, entries []entry) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(o.Size); err != nil {
		return err
	}
	w, err := NewWriter(f, o)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.link != "" {
			err = w.Link(e.Path, e.link)
		} else {
			err = w.Create(e.Header, e.body)
		}
		if err != nil {
			break
		}
	}
	return errors.Join(err, w.Close())
}

func random(seed int64, n int) []byte {
	b := make([]byte, n)
	rand.New(rand.NewSource(seed)).Read(b)
	return b
}

func text(n int) []byte { return bytes.Repeat([]byte("compressible text, line by line\n"), n/32+1)[:n] }

// sparse gives its data at an offset of a hole.
type sparse struct {
	hole, at int64
	data     []byte
}

func (s *sparse) SkipHole() (int64, error) {
	if s.at < s.hole {
		n := s.hole - s.at
		s.at = s.hole
		return n, nil
	}
	return 0, nil
}

func (s *sparse) Read(p []byte) (int, error) {
	if s.at < s.hole {
		n := min(int64(len(p)), s.hole-s.at)
		clear(p[:n])
		s.at += n
		return int(n), nil
	}
	if len(s.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.data)
	s.data = s.data[n:]
	return n, nil
}

// everyKind is a tree with every kind of file.
func everyKind() []entry {
	list := []entry{
		dir("."), dir("etc"), dir("bin"), dir("dev"), dir("home"), dir("home/u"), dir("var"), dir("var/log"), dir("var/lib"), dir("big"),
		file("etc/hello", []byte("hello\n")), file("etc/empty", nil), file("etc/embedded", bytes.Repeat([]byte("a"), 100)),
		file("etc/zeros", make([]byte, 1<<20)), file("etc/text", text(900000)), file("bin/random", random(1, 3<<20)),
		file("home/u/plain", text(300000)), file("var/log/syslog", text(500000)), file("big/random", random(2, 5<<20)), file("big/text", text(5<<20)),
	}
	for n, size := range []int{1, 511, 512, 513, 4095, 4096, 4097, 5000, 131071, 131072, 131073} {
		list = append(list, file(fmt.Sprintf("etc/size%02d", n), random(int64(size), size)))
	}
	special := func(path string, mode uint32, change func(h *Header)) {
		e := entry{Header: Header{Path: path, Mode: mode}}
		if change != nil {
			change(&e.Header)
		}
		list = append(list, e)
	}
	for n, length := range []int{1, 100, 144, 145, 300, 4095} {
		special(fmt.Sprintf("etc/link%d", n), modeSymlink|0o777, func(h *Header) { h.Linkname = strings.Repeat("L", length) })
	}
	special("dev/null", modeChar|0o666, func(h *Header) { h.Major, h.Minor = 1, 3 })
	special("dev/bigminor", modeBlock|0o660, func(h *Header) { h.Major, h.Minor = 259, 70000 })
	special("dev/fifo", modeFIFO|0o600, nil)
	special("dev/socket", modeSocket|0o755, nil)
	special("bin/setuid", modeRegular|0o4755, func(h *Header) {
		h.UID, h.GID = 4000000000, 4000000001
		h.ModTime = time.Unix(-5, 999999999)
	})
	for n, size := range []int{1, 100, 600, 3000, 40000, 65536} {
		special(fmt.Sprintf("etc/xattr%d", n), modeRegular|0o600, func(h *Header) {
			h.Xattrs = map[string][]byte{"user.a": text(size), "security.b": random(int64(n), size/2), "user.empty": {}}
		})
	}
	acl := []byte("\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x07\x00\xe8\x03\x00\x00\x04\x00\x05\x00\xff\xff\xff\xff\x10\x00\x07\x00\xff\xff\xff\xff\x20\x00\x05\x00\xff\xff\xff\xff")
	special("home/acl", modeDir|0o775, func(h *Header) {
		h.Xattrs = map[string][]byte{"system.posix_acl_access": acl, "system.posix_acl_default": acl}
	})
	special("var/lib/labelled", modeDir|0o700, func(h *Header) {
		h.Xattrs = map[string][]byte{"user.small": []byte("s"), "user.large": text(50000)}
	})
	list = append(list, entry{Header: Header{Path: "etc/hardlink"}, link: "etc/hello"}, entry{Header: Header{Path: "var/lib/hello"}, link: "etc/hello"})
	list = append(list, file("etc/"+strings.Repeat("n", 255), []byte("long")), file("etc/日本 \xff\xfe", []byte("odd")))
	return append(list, entry{
		Header: Header{Path: "etc/sparse", Mode: modeRegular | 0o644, Size: 1<<40 + 5}, body: &sparse{hole: 1<<40 - 300000, data: random(3, 300005)},
	})
}

func TestZDBAcceptsEveryKindOfFile(t *testing.T) {
	img := build(t, testOptions(256<<20), everyKind())
	judge.ZDB(t, img, "rpool")
	got := judge.Objects(t, img, "rpool/ROOT/default@golden")
	for path, want := range map[string]judge.Object{
		"/":                {Mode: modeDir | 0o755, Links: 2 + 6, Size: 2 + 6},
		"/etc/hello":       {Mode: modeRegular | 0o644, Links: 3, Size: 6},
		"/var/lib/hello":   {Mode: modeRegular | 0o644, Links: 3, Size: 6},
		"/bin/setuid":      {Mode: modeRegular | 0o4755, UID: 4000000000, GID: 4000000001, Links: 1},
		"/dev/bigminor":    {Mode: modeBlock | 0o660, Links: 1, Rdev: 259<<20 | 70000},
		"/etc/sparse":      {Mode: modeRegular | 0o644, Links: 1, Size: 1<<40 + 5},
		"/etc/link1":       {Mode: modeSymlink | 0o777, Links: 1, Size: 100, Target: strings.Repeat("L", 100)},
		"/home":            {Mode: modeDir | 0o755, Links: 2, Size: 2},
		"/etc/xattr1":      {Mode: modeRegular | 0o600, Links: 1},
		"/dev/fifo":        {Mode: modeFIFO | 0o600, Links: 1},
		"/dev/socket":      {Mode: modeSocket | 0o755, Links: 1},
		"/etc/size10":      {Mode: modeRegular | 0o644, Links: 1, Size: 131073},
		"/etc/embedded":    {Mode: modeRegular | 0o644, Links: 1, Size: 100},
		"/etc/zeros":       {Mode: modeRegular | 0o644, Links: 1, Size: 1 << 20},
		"/etc/日本 \xff\xfe": {Mode: modeRegular | 0o644, Links: 1, Size: 3},
	} {
		have, ok := got[path]
		if !ok {
			t.Errorf("zdb does not list %q", path)
			continue
		}
		brief := judge.Object{Mode: have.Mode, UID: have.UID, GID: have.GID, Size: have.Size, Links: have.Links, Rdev: have.Rdev, Target: have.Target}
		if diff := cmp.Diff(want, brief); diff != "" {
			t.Errorf("%q as zdb sees it (-want +got):\n%s", path, diff)
		}
	}
	if x := got["/etc/xattr0"].Xattrs["user.a"]; x != "c" {
		t.Errorf("zdb reads user.a as %q", x)
	}
}

func TestGRUBReadsThePool(t *testing.T) {
	entries := []entry{dir("etc"), file("etc/embedded", bytes.Repeat([]byte("b"), 100)), file("etc/text", text(900000)), file("etc/random", random(4, 1<<20))}
	var names []string
	for i := range 3000 {
		names = append(names, fmt.Sprintf("etc/a name of more than fifty characters makes it a fat ZAP %d", i))
		entries = append(entries, file(names[i], []byte(names[i])))
	}
	img := build(t, grubOptions(128<<20), entries)
	judge.ZDB(t, img, "rpool")
	for path, want := range map[string][]byte{
		"/etc/embedded": bytes.Repeat([]byte("b"), 100), "/etc/text": text(900000), "/etc/random": random(4, 1<<20), "/" + names[2999]: []byte(names[2999]),
	} {
		if got := judge.GRUBRead(t, img, "ROOT/default@golden", path); !bytes.Equal(got, want) {
			t.Errorf("GRUB reads %d bytes of %s, not the %d written", len(got), path, len(want))
		}
	}
}

// Copies and metadata of a pool with three metaslabs, filled to the brim.
func TestZDBAcceptsAFullPool(t *testing.T) {
	o := testOptions(MinSize)
	img := filepath.Join(t.TempDir(), "pool.img")
	var full *NoSpaceError
	size := 28 << 20
	for {
		err := buildFile(img, o, []entry{dir("big"), file("full", random(5, size)), file("big/two", random(6, 1<<20))})
		if err == nil {
			break
		}
		if !errors.As(err, &full) {
			t.Fatal(err)
		}
		size -= 1 << 20
	}
	if full == nil {
		t.Fatal("the pool was never full")
	}
	if full.Path != "full" && full.Path != "big/two" && full.Path != "" || full.Size != MinSize {
		t.Errorf("got %+v", full)
	}
	judge.ZDB(t, img, "rpool")
}

func TestSameInputsSameBytes(t *testing.T) {
	o := testOptions(128 << 20)
	o.Workers = 1
	one := build(t, o, everyKind())
	o.Workers = 7
	seven := build(t, o, everyKind())
	o.Seed = "another"
	other := build(t, o, everyKind())
	a, b, c := digest(t, one), digest(t, seven), digest(t, other)
	if a != b {
		t.Error("the number of workers changes the image")
	}
	if a == c {
		t.Error("another seed gives the same GUIDs")
	}
}

func digest(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256Sum(b))
}

// More names than a pointer table in the ZAP's header leads to, more objects
// than one indirect block of dnodes. Most names are links, and there is no
// snapshot: zdb takes its time for each object.
func TestDirectoryOf200000(t *testing.T) {
	const names, files = 200000, 40000
	entries := []entry{dir("many")}
	for i := range names {
		e := file(fmt.Sprintf("many/%06d", i), nil)
		if i >= files {
			e.link = "many/000000"
		}
		entries = append(entries, e)
	}
	o := testOptions(256 << 20)
	o.Snapshot = ""
	img := build(t, o, entries)
	judge.ZDB(t, img, "rpool")
	objects := judge.Objects(t, img, "rpool/ROOT/default")
	if got := len(objects["/many"].Entries); got != names {
		t.Errorf("zdb lists %d entries", got)
	}
	if got := objects["/many/000000"].Links; got != 1+names-files {
		t.Errorf("the first file has %d links", got)
	}
}
