package repack

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/kldload/kldload/internal/gpt"
	"github.com/kldload/kldload/zfs"
)

// set is a dataset of the test's pool and its files: content by name, a name
// that ends with a slash is a folder.
type set struct {
	name  string
	props map[string]string
	files []string
}

const content = "content of "

var sets = []set{
	{"tpool", map[string]string{"mountpoint": "none", "canmount": "off", "compression": "lz4", "xattr": "sa", "acltype": "posix", "dnodesize": "auto"}, nil},
	{"tpool/ROOT", map[string]string{"mountpoint": "none", "canmount": "off", "org.example:note": "kept"}, nil},
	{"tpool/ROOT/default", map[string]string{"mountpoint": "/", "canmount": "noauto"}, []string{
		"etc/", "etc/machine-id", "etc/hostname", "etc/fstab", "usr/", "usr/bin/", "usr/bin/tool", "home/", "home/hidden/", "home/hidden/.bash_history", "var/", "var/log/"}},
	{"tpool/ROOT/default/opt", map[string]string{"mountpoint": "/opt"}, []string{"app"}},
	{"tpool/ROOT/before-upgrade", map[string]string{"mountpoint": "/", "canmount": "noauto"}, []string{"etc/", "etc/" + deletedText, "usr/"}},
	{"tpool/home", map[string]string{"mountpoint": "/home", "quota": "64M", "recordsize": "1M"}, []string{"me/", "me/.bash_history", "me/kept"}},
	{"tpool/legacy", map[string]string{"mountpoint": "legacy"}, []string{"syslog"}},
	{"tpool/loose", map[string]string{"mountpoint": "none", "compression": "zstd-3"}, nil},
	{"tpool/oldlog", map[string]string{"mountpoint": "/var/log", "canmount": "noauto"}, []string{"auth.log", "sub/"}},
	{"tpool/var", map[string]string{"mountpoint": "/var", "canmount": "off", "copies": "2"}, []string{"under"}},
}

// zfsDisk is a disk with the pool of sets, snapshots of another name, and an
// ESP with entries of two environments.
func zfsDisk(t testing.TB, sets ...set) string {
	t.Helper()
	dir := t.TempDir()
	pool := filepath.Join(dir, "pool")
	f, err := os.Create(pool)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size = 128 * mib
	opts := zfs.Options{Size: size, Pool: "tpool", Seed: "test", Epoch: epoch, Snapshot: "before", Apart: true,
		Properties: map[string]string{"bootfs": "tpool/ROOT/default", "autotrim": "on", "comment": "a pool", "compatibility": "openzfs-2.1-linux"}}
	for _, s := range sets {
		opts.Datasets = append(opts.Datasets, zfs.Dataset{Name: s.name, Properties: s.props})
	}
	w, err := zfs.NewWriter(f, opts)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sets {
		fillSet(t, w, s)
	}
	if err := errorsOf(w.Close(), f.Truncate(size)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte(strings.Repeat(deletedText, 1000)), 100*mib); err != nil { // free space
		t.Fatal(err)
	}
	esp := filepath.Join(dir, "esp")
	run(t, "truncate", "-s", "34M", esp)
	run(t, "mkfs.vfat", "-F", "32", "-n", "ESP", "-i", "1234ABCD", esp)
	for name, text := range map[string]string{
		"shared-linux": "a kernel", "old-initrd": "an initramfs of " + deletedText, "loader.conf": "timeout 3\ndefault before-*\n",
		"new.conf": "title new\nlinux /k/shared-linux\noptions root=ZFS=tpool/ROOT/default quiet\n",
		"old.conf": "title old\nlinux /k/shared-linux\ninitrd /only/old-initrd\noptions root=ZFS=tpool/ROOT/before-upgrade\n",
	} {
		put(t, dir, name, text, 0o644)
	}
	run(t, "mmd", "-i", esp, "::loader", "::loader/entries", "::k", "::only")
	for from, to := range map[string]string{"shared-linux": "k/shared-linux", "old-initrd": "only/old-initrd", "loader.conf": "loader/loader.conf",
		"new.conf": "loader/entries/debian-6.1.conf", "old.conf": "loader/entries/before-6.1.conf"} {
		run(t, "mcopy", "-i", esp, dir+"/"+from, "::"+to)
	}
	return makeDisk(t, 170*mib, []layout{
		{gpt.Partition{Type: gpt.TypeESP, Name: "esp", Size: 34 * mib}, esp},
		{gpt.Partition{Type: gpt.TypeZFS, Name: "tpool", Size: size}, pool},
	})
}

func fillSet(t testing.TB, w *zfs.Writer, s set) {
	t.Helper()
	d, err := w.Dataset(s.name)
	if err != nil {
		t.Fatal(err)
	}
	create := func(h zfs.Header, body string) {
		t.Helper()
		h.ModTime, h.AccessTime, h.ChangeTime = epoch.Add(time.Nanosecond), epoch.Add(time.Hour), epoch.Add(2*time.Hour)
		h.Size = int64(len(body))
		if err := d.Create(h, strings.NewReader(body)); err != nil {
			t.Fatal(err)
		}
	}
	create(zfs.Header{Path: ".", Mode: 0o40750, UID: 3}, "")
	for i, name := range s.files {
		if dir, ok := strings.CutSuffix(name, "/"); ok {
			create(zfs.Header{Path: dir, Mode: 0o41777, GID: uint32(i)}, "")
			continue
		}
		body := content + s.name + name
		if name == "etc/fstab" {
			body = "tpool/legacy /srv/legacy zfs defaults 0 0\n"
		}
		create(zfs.Header{Path: name, Mode: 0o100600 | uint32(i), UID: 5, Xattrs: map[string][]byte{"user.x": []byte(name), "user.big": bytes.Repeat([]byte("b"), 9000)}}, body)
	}
	if s.name != "tpool/home" {
		return
	}
	create(zfs.Header{Path: "device", Mode: 0o60600, Major: 8, Minor: 3}, "")
	create(zfs.Header{Path: "link", Mode: 0o120777, Linkname: "me/kept"}, "")
	create(zfs.Header{Path: "large", Mode: 0o100644}, strings.Repeat("large", mib)+strings.Repeat("\x00", 3*mib)+"end")
	if err := errorsOf(d.Link("second", "large"), d.Link("me/third", "large")); err != nil {
		t.Fatal(err)
	}
}

// openPool opens the pool of a disk.
func openPool(t testing.TB, disk string, number int) *zfs.Pool {
	t.Helper()
	part := partition(t, disk, number)
	f, err := os.Open(part)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	st, _ := f.Stat()
	p, err := zfs.Open(f, st.Size())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// describePool tells all of a pool that a re-pack keeps, and the files of each
// dataset.
func describePool(t testing.TB, p *zfs.Pool) (files map[string]string, props map[string]map[string]string) {
	t.Helper()
	files, props = map[string]string{}, map[string]map[string]string{"": p.Properties()}
	list, err := p.Datasets()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		props[d.Name] = d.Properties
		set, err := p.Dataset(d.Name)
		if err != nil {
			t.Fatal(err)
		}
		err = fs.WalkDir(set, ".", func(name string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			n, err := set.Node(name)
			if err != nil {
				return err
			}
			text := fmt.Sprintf("%o %d:%d %d links %s %s %s dev %d:%d -> %q x %q", n.Mode, n.UID, n.GID, n.Links, n.ModTime, n.AccessTime, n.ChangeTime, n.Major, n.Minor, n.Linkname, n.Xattrs)
			if e.Type().IsRegular() {
				b, err := fs.ReadFile(set, name)
				if err != nil {
					return err
				}
				text += fmt.Sprintf(" %d %q", len(b), b[:min(len(b), 200)])
			}
			files[d.Name+":"+name] = text
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return files, props
}

func TestZFS(t *testing.T) {
	in := zfsDisk(t, sets...)
	out, report := mustRepack(t, in)
	judgePool(t, partition(t, out, 2), "tpool")
	run(t, "fsck.vfat", "-n", partition(t, out, 1))
	before, after := openPool(t, in, 2), openPool(t, out, 2)
	if before.GUID() == after.GUID() {
		t.Error("both pools have one GUID")
	}
	oldFiles, oldProps := describePool(t, before)
	newFiles, newProps := describePool(t, after)
	for name := range oldProps {
		if strings.HasPrefix(name, "tpool/ROOT/before-upgrade") {
			delete(oldProps, name)
		}
	}
	if diff := cmp.Diff(oldProps, newProps); diff != "" {
		t.Errorf("properties differ (-was +is):\n%s", diff)
	}
	if c, _ := after.Config()["comment"].(string); c != "a pool" {
		t.Errorf("the pool's comment is %q", c)
	}
	checkZFSFiles(t, oldFiles, maps.Clone(newFiles))
	checkSnapshots(t, after)
	checkESP(t, partition(t, out, 1))
	if holds(t, out, deletedText) || !holds(t, in, deletedText) {
		t.Error("want what was deleted on the input alone")
	}
	said := strings.Join(append(report.LeftOut, report.Notes...), "\n")
	for _, want := range []string{"boot environment tpool/ROOT/before-upgrade", "snapshot tpool/home@before", "ESP loader/entries/before-6.1.conf"} {
		if !strings.Contains(said, want) {
			t.Errorf("the report lacks %q:\n%s", want, said)
		}
	}
	next, second := mustRepack(t, out)
	if second.Changed() != 0 {
		t.Errorf("sealing a sealed disk: %d items changed", second.Changed())
	}
	againFiles, _ := describePool(t, openPool(t, next, 2))
	if diff := cmp.Diff(newFiles, againFiles); diff != "" {
		t.Errorf("a sealed disk re-packed is another one:\n%s", diff)
	}
	third, _ := mustRepack(t, in)
	if digest(t, third) != digest(t, out) {
		t.Error("the same input gave other bytes")
	}
}

// TestMountedNowhere: files that have no place cannot be sealed.
func TestMountedNowhere(t *testing.T) {
	for _, mountpoint := range []string{"none", "legacy"} {
		lost := set{"tpool/lost", map[string]string{"mountpoint": mountpoint}, []string{"etc/", "etc/machine-id"}}
		_, _, err := repackFile(t, zfsDisk(t, append(slices.Clone(sets), lost)...), Options{})
		if err == nil || !strings.Contains(err.Error(), `sealing tpool/lost: it holds "etc" and is mounted nowhere`) || !strings.Contains(err.Error(), "hint: in the running machine, zfs set mountpoint=") {
			t.Errorf("mountpoint=%s: %v", mountpoint, err)
		}
	}
}

// checkZFSFiles wants the files that were there, without those that the seal
// takes, in whatever dataset.
func checkZFSFiles(t *testing.T, old, now map[string]string) {
	t.Helper()
	const root = "tpool/ROOT/default:"
	for _, gone := range []string{root + "etc/hostname", root + "home/hidden/.bash_history", "tpool/home:me/.bash_history", "tpool/oldlog:auth.log"} {
		if old[gone] == "" || now[gone] != "" {
			t.Errorf("%s: was %q, is %q: want it gone", gone, old[gone], now[gone])
		}
		delete(old, gone)
	}
	for name := range old {
		if strings.HasPrefix(name, "tpool/ROOT/before-upgrade:") {
			delete(old, name)
		}
	}
	for _, made := range []string{"etc/kldload", "etc/kldload/sealed", "etc/cloud", "etc/cloud/cloud.cfg.d", "etc/cloud/cloud.cfg.d/99-datasource.cfg"} {
		if now[root+made] == "" {
			t.Errorf("%s is not there", made)
		}
		delete(now, root+made)
	}
	if text := now[root+"etc/machine-id"]; !strings.Contains(text, ` 0 ""`) {
		t.Errorf("etc/machine-id: %q", text)
	}
	for _, m := range []map[string]string{old, now} {
		delete(m, root+"etc") // has two folders more
		delete(m, root+"etc/machine-id")
	}
	if diff := cmp.Diff(old, now); diff != "" {
		t.Errorf("files differ (-was +is):\n%s", diff)
	}
}

func checkSnapshots(t *testing.T, p *zfs.Pool) {
	t.Helper()
	list, err := p.Datasets()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		if len(d.Snapshots) != 1 || d.Snapshots[0].Name != d.Name+"@golden" {
			t.Errorf("%s has the snapshots %v: want @golden", d.Name, d.Snapshots)
		}
	}
}

func checkESP(t *testing.T, esp string) {
	t.Helper()
	list := run(t, "mdir", "-/", "-b", "-i", esp, "::")
	for name, want := range map[string]bool{"debian-6.1.conf": true, "before-6.1.conf": false, "shared-linux": true, "old-initrd": false, "only": false} {
		if strings.Contains(list, name) != want {
			t.Errorf("ESP, %s is there: %v; want %v:\n%s", name, !want, want, list)
		}
	}
	if conf := run(t, "mtype", "-i", esp, "::loader/loader.conf"); conf != "timeout 3\n" {
		t.Errorf("loader.conf is %q: want no default that is gone", conf)
	}
}

// judgePool has zdb go through a pool in a file that is a vdev.
func judgePool(t testing.TB, vdev, pool string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Rename(vdev, filepath.Join(dir, "vdev")); err != nil {
		t.Fatal(err)
	}
	out := run(t, "zdb", "-e", "-p", dir, "-bcc", pool)
	if !strings.Contains(out, "No leaks") || regexp.MustCompile(`Got error|errno`).MatchString(out) {
		t.Errorf("zdb -bcc: want no leaks and no errors:\n%s", out)
	}
}

// The kernel's pool has a volume, an encrypted dataset and gzip.
func TestUnsupportedDatasets(t *testing.T) {
	f, err := os.Open("../../zfs/testdata/kernel-2.3.2.img.zst")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d, err := zstd.NewReader(f, zstd.WithDecoderMaxWindow(1<<27))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(d)
	if err != nil {
		t.Fatal(err)
	}
	pool, err := zfs.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	list, err := pool.Datasets()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		err := supported(d)
		want := map[string]string{"kpool/vol": "volumes are not re-packed", "kpool/secret": "encrypted datasets are not re-packed"}[d.Name]
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "hint: ")) {
			t.Errorf("%s: %v; want %q", d.Name, err, want)
		}
	}
	j := &job{report: &Report{}}
	kept := map[string]string{}
	j.keepProperties(kept, zfs.DatasetProperty, "dataset kpool/gzip: property", map[string]string{"compression": "gzip-9", "atime": "off", "utf8only": "off"})
	if diff := cmp.Diff(map[string]string{"atime": "off"}, kept); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"dataset kpool/gzip: property compression=gzip-9"}, j.report.LeftOut); diff != "" {
		t.Error(diff)
	}
}
