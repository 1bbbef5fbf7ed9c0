package scan

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/kldload/kldload/internal/volume"
	"github.com/kldload/kldload/zfs"
)

const mib = 1 << 20

// tool runs a foreign tool.
func tool(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v\n%s", args, err, out)
	}
	return string(out)
}

// planted are secrets that were put somewhere, by the place where a scan should
// find them.
type planted struct {
	t    *testing.T
	m    maker
	keys map[string]string // place by key
}

func newPlanted(t *testing.T) *planted { return &planted{t, newMaker(t), map[string]string{}} }

// key makes the access key of a cloud, for a place: "volume|dataset|path|where".
func (p *planted) key(place string) string {
	k := "AKIA" + p.m.chars(upper, 16)
	p.keys[k] = place
	return k
}

// sparse makes a file of zeros.
func sparse(t *testing.T, name string, size int64) string {
	t.Helper()
	if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Truncate(name, size)); err != nil {
		t.Fatal(err)
	}
	return name
}

func write(t *testing.T, name, body string) string {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(body), 0o600)); err != nil {
		t.Fatal(err)
	}
	return name
}

// patch writes bytes into a file.
func patch(t *testing.T, name, body string, at int64) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte(body), at)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// scannedImage looks at an image with an engine.
func scannedImage(t *testing.T, name string, opts Options) *Engine {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	d, err := volume.Open(f, st.Size())
	if err != nil {
		t.Fatal(err)
	}
	e, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := Image(t.Context(), e, d, ImageOptions{}); err != nil {
		t.Fatal(err)
	}
	return e
}

// compare holds the places of what was found against the plan. A journal may hold what
// other places do, too.
func (p *planted) compare(e *Engine) {
	p.t.Helper()
	got := map[string]string{}
	for _, c := range e.found {
		l := c.loc
		place := strings.Join([]string{l.Volume, l.Dataset, l.Path, l.Where}, "|")
		if old := got[c.secret]; old != "" && l.Where == "journal" || old == place {
			continue
		} else if old != "" && !strings.HasSuffix(old, "|journal") {
			place = old + " and " + place
		}
		got[c.secret] = place
	}
	if diff := cmp.Diff(p.keys, got); diff != "" {
		p.t.Errorf("(-planted +found)\n%s", diff)
	}
	for _, n := range e.Report().Notes {
		p.t.Errorf("%+v", n)
	}
}

// ext4Root makes a root file system with secrets in all places that one has.
func (p *planted) ext4Root(dir, volume string) string {
	t := p.t
	at := func(path, where string) string { return p.key(volume + "||" + path + "|" + where) }
	src := filepath.Join(dir, "src")
	write(t, src+"/etc/app.env", "AWS_ACCESS_KEY_ID="+at("/etc/app.env", "")+"\n")
	write(t, src+"/etc/plain", "nothing\n")
	write(t, src+"/usr/tail", strings.Repeat("x", 5000))
	name := at("/usr", "file names")
	write(t, src+"/usr/"+name, "")
	if err := os.Symlink("/gone/"+at("/usr/link", "link target"), src+"/usr/link"); err != nil {
		t.Fatal(err)
	}
	img := sparse(t, filepath.Join(dir, "root"), 40*mib)
	tool(t, "mke2fs", "-q", "-t", "ext4", "-b", "4096", "-E", "lazy_itable_init=0", "-d", src, img)
	mnt := filepath.Join(dir, "mnt")
	if err := os.Mkdir(mnt, 0o755); err != nil {
		t.Fatal(err)
	}
	tool(t, "mount", "-o", "loop", img, mnt)
	unmount := func() {
		tool(t, "mount", "-o", "remount,ro", mnt) // done with the journal, whoever else sees the mount
		tool(t, "umount", mnt)
	}
	mounted := true
	defer func() {
		if mounted {
			unmount()
		}
	}()
	tool(t, "setfattr", "-n", "user.note", "-v", at("/etc/plain", "xattr user.note"), mnt+"/etc/plain")
	write(t, mnt+"/etc/deleted", strings.Repeat("not secret ", 100)+at("", "free space")+"\n")
	write(t, mnt+"/etc/"+at("", "journal"), "")
	tool(t, "sync", "-f", mnt)
	for _, gone := range []string{"deleted", "AKIA*"} {
		list, err := filepath.Glob(mnt + "/etc/" + gone)
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		if err := os.Remove(list[0]); err != nil {
			t.Fatal(err)
		}
	}
	unmount()
	mounted = false
	block, err := strconv.ParseInt(strings.TrimSpace(lastLine(tool(t, "debugfs", "-R", "bmap /usr/tail 1", img))), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	patch(t, img, at("/usr/tail", "slack"), block*4096+3000)
	left := at("/usr", "directory slack")
	for _, cmd := range []string{"write /dev/null usr/" + left, "write /dev/null usr/stays", "rm usr/" + left} {
		tool(t, "debugfs", "-w", "-R", cmd, img)
	}
	return img
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// esp makes an EFI system partition with a deleted file.
func (p *planted) esp(dir, volume string) string {
	t := p.t
	img := sparse(t, filepath.Join(dir, "esp"), 16*mib)
	tool(t, "mkfs.vfat", img)
	tool(t, "mcopy", "-i", img, write(t, dir+"/kept", "key="+p.key(volume+"||/kept.cfg|")+"\n"), "::kept.cfg")
	tool(t, "mcopy", "-i", img, write(t, dir+"/gone", "key="+p.key(volume+"|||free space")+"\n"), "::gone.cfg")
	tool(t, "mdel", "-i", img, "::gone.cfg")
	return img
}

func TestImageOfPartitions(t *testing.T) {
	p, dir := newPlanted(t), t.TempDir()
	disk := sparse(t, filepath.Join(dir, "disk"), 80*mib)
	cmd := exec.Command("sfdisk", "-q", disk)
	cmd.Stdin = strings.NewReader("label: gpt\nstart=1MiB,size=16MiB,type=U\nstart=20MiB,size=40MiB\nstart=61MiB,size=4MiB\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v\n%s", err, out)
	}
	for img, at := range map[string]int{p.esp(dir, "partition 1 (fat)"): 1, p.ext4Root(dir, "partition 2 (ext4)"): 20} {
		tool(t, "dd", "if="+img, "of="+disk, "bs=1M", fmt.Sprint("seek=", at), "conv=notrunc,sparse", "status=none")
	}
	patch(t, disk, "\n"+p.key("the disk|||outside of partitions")+"\n", 18*mib)
	patch(t, disk, "\n"+p.key("the disk|||outside of partitions")+"\n", 446-64) // in boot code
	patch(t, disk, "\n"+p.key("partition 3 (unknown content)|||bytes of the volume")+"\n", 63*mib)
	p.compare(scannedImage(t, disk, Options{}))
}

// zfsPool makes a pool of the writer's, with secrets in datasets that no system
// mounts by itself and in free space.
func (p *planted) zfsPool(dir string) string {
	t := p.t
	name := filepath.Join(dir, "pool")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := zfs.NewWriter(f, zfs.Options{
		Size: 64 * mib, Pool: "tank", Seed: "scan", Epoch: time.Unix(1700000000, 0), Snapshot: "golden",
		Datasets: []zfs.Dataset{{Name: "tank", Properties: map[string]string{"mountpoint": "/", "compression": "zstd"}},
			{Name: "tank/away", Properties: map[string]string{"mountpoint": "/srv/away", "canmount": "noauto"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	const vol = "the disk (zfs)|"
	file := func(path, body string, attrs map[string][]byte) {
		h := zfs.Header{Path: path, Mode: 0o100600, Size: int64(len(body)), Xattrs: attrs}
		if err := w.Create(h, strings.NewReader(body)); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"srv", "srv/away"} {
		if err := w.Create(zfs.Header{Path: d, Mode: 0o40755}, nil); err != nil {
			t.Fatal(err)
		}
	}
	file("top", "key="+p.key(vol+"tank|/top|")+"\n", map[string][]byte{"user.t": []byte(p.key(vol + "tank|/top|xattr user.t"))})
	file("srv/away/file", "key="+p.key(vol+"tank/away|/srv/away/file|")+"\n", nil)
	if err := errors.Join(w.Link("top-again", "top"), w.Close()); err != nil {
		t.Fatal(err)
	}
	// As if a file had been deleted: a packed block in the middle of free space.
	body := strings.Repeat("# a configuration of many lines\n", 500) + "key=" + p.key(vol+"||free space > deleted block (lz4)") + "\n"
	body += strings.Repeat(" ", 32768-len(body))
	packed := make([]byte, 32768)
	n, err := lz4.CompressBlock([]byte(body), packed[4:], nil)
	if err != nil {
		t.Fatal(err)
	}
	packed[2], packed[3] = byte(n>>8), byte(n)
	patch(t, name, string(packed[:4+n]), freeAt(t, name))
	return name
}

// freeAt is the middle of the largest free space of a pool.
func freeAt(t *testing.T, name string) (at int64) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	pool, err := zfs.Open(f, 64*mib)
	if err != nil {
		t.Fatal(err)
	}
	most := int64(0)
	err = pool.Unused(func(kind string, off, size int64) error {
		if kind == zfs.FreeSpace && size > most {
			most, at = size, off+size/8192*4096
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestImageOfPool(t *testing.T) {
	p := newPlanted(t)
	e := scannedImage(t, p.zfsPool(t.TempDir()), Options{})
	// The text of the block stands between the matches of its packed form.
	e.found = slices.DeleteFunc(e.found, func(c candidate) bool { return c.loc.Where == "free space" })
	p.compare(e)
	if n := e.Report().Files; n != 2 {
		t.Errorf("%d files: want each once, whatever its names and snapshots", n)
	}
}

// kernelPool is a pool with deleted files that a kernel wrote: zfs/testdata.
func kernelPool(t *testing.T) string {
	t.Helper()
	f, err := os.Open("../../zfs/testdata/deleted-2.1.11.img.zst")
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
	return write(t, filepath.Join(t.TempDir(), "disk"), string(b))
}

// Of what a kernel deleted, and of what a snapshot has and the dataset has not,
// the place is told.
func TestImageOfKernelPool(t *testing.T) {
	wants := map[string]string{ // a text and where it is
		"tiny and deleted with lz4":            "||free space > deleted block (embedded)",
		"tiny and deleted with zstd":           "||free space > deleted block (embedded)",
		"line 2500 of the deleted file of off": "||free space",
		"line 3001 of the deleted file of gzi": "||free space > deleted block (gzip)",
		"line 3001 of the deleted file of lz4": "||free space > deleted block (lz4)",
		"line 3001 of the deleted file of zst": "||free space > deleted block (zstd)",
		"line 2500 of what the snapshot has":   "dpool/snap|/mnt/snap/only|snapshot @one",
		"attribute that stays":                 "dpool/off|/mnt/off/stays|xattr user.note",
	}
	var opts Options
	for text := range wants {
		opts.Literals = append(opts.Literals, Literal{Name: text, Value: text})
	}
	e := scannedImage(t, kernelPool(t), opts)
	found := map[string]bool{}
	for _, c := range e.found {
		found[c.secret+"|"+c.loc.Dataset+"|"+c.loc.Path+"|"+c.loc.Where] = true
	}
	for text, place := range wants {
		if !found[text+"|"+place] {
			t.Errorf("%q is not found in %q", text, place)
		}
	}
	// Four that stay, two in the dataset, and of its snapshot what differs.
	if r := e.Report(); r.Files != 4+2+2 || len(r.Notes) > 0 {
		t.Errorf("%d files, notes %v", r.Files, r.Notes)
	}
}

// What is not read is said, and its bytes are looked at.
func TestImageOfOtherKinds(t *testing.T) {
	p, dir := newPlanted(t), t.TempDir()
	for name, c := range map[string]struct{ body, volume, note string }{
		"xfs":  {"XFSB", "the disk (xfs)", "the files of xfs are not read, its bytes are looked at as they are"},
		"luks": {"LUKS\xba\xbe", "the disk (luks)", "not looked into: it is encrypted"},
		"ext4": {"", "the disk (ext4)", "its files are not read, its bytes are looked at as they are: ext4: superblock at 1024: checksum"},
	} {
		img := sparse(t, filepath.Join(dir, name), 8*mib)
		if name == "ext4" {
			tool(t, "mke2fs", "-q", "-t", "ext4", img)
			patch(t, img, "damage", 1024+0x78)
		}
		patch(t, img, c.body, 0)
		clear(p.keys)
		patch(t, img, "\n"+p.key(c.volume+"|||bytes of the volume")+"\n", 7*mib)
		e := scannedImage(t, img, Options{})
		notes := e.Report().Notes
		if len(notes) != 1 || !strings.HasPrefix(notes[0].Text, c.note) {
			t.Errorf("%s: notes %v", name, notes)
		}
		if unread := len(e.Report().Unread()) > 0; unread != (name == "ext4") {
			t.Errorf("%s: unread is %v", name, unread)
		}
		e.notes = nil
		p.compare(e)
	}
}

// The same disk gives the same report, however many look at it.
func TestImageReportIsStable(t *testing.T) {
	p := newPlanted(t)
	img := p.zfsPool(t.TempDir())
	first, second := scannedImage(t, img, Options{}).Report(), scannedImage(t, img, Options{}).Report()
	if diff := cmp.Diff(first, second); diff != "" || len(first.Findings) == 0 {
		t.Errorf("(-first +second)\n%s", diff)
	}
}

// A key that lies on the border of two pieces of work is told once.
func TestImageBorders(t *testing.T) {
	p, dir := newPlanted(t), t.TempDir()
	img := sparse(t, filepath.Join(dir, "disk"), 3*workSize)
	body := bytes.Repeat([]byte("plain text, nothing else. "), 2*workSize/26)
	place := "the disk (unknown content)|||bytes of the volume"
	for _, at := range []int{100, chunkSize - 10, workSize - 10, workSize + margin - 10} {
		copy(body[at:], " "+p.key(place)+" ")
	}
	patch(t, img, string(body), 0)
	e := scannedImage(t, img, Options{})
	p.compare(e)
	if n := len(e.Report().Findings); n != 4 {
		t.Errorf("%d findings, want 4", n)
	}
}
