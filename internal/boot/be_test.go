package boot

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// rig is a machine with the environment "default" and a snapshot of it.
type rig struct {
	t               *testing.T
	sys, state, bin string
	root, avail     string
}

const entryDefault = "title      Debian\nversion    6.1.0-1-amd64\nsort-key   debian\noptions    root=ZFS=rpool/ROOT/default quiet\n" +
	"linux      /debian/6.1.0-1-amd64/linux\ninitrd     /debian/6.1.0-1-amd64/initrd.img-6.1.0-1-amd64\n"

func newRig(t *testing.T) *rig {
	t.Helper()
	dir := t.TempDir()
	r := &rig{t: t, sys: filepath.Join(dir, "sys"), state: filepath.Join(dir, "state"), bin: filepath.Join(dir, "bin"),
		root: "zfs rpool/ROOT/default", avail: "500000000"}
	for _, d := range []string{"boot/efi/loader/entries", "run", "dev", "etc/kldload", "proc"} {
		r.mkdir(filepath.Join(r.sys, d))
	}
	r.mkdir(r.state)
	r.mkdir(r.bin)
	r.write("dev/zfs", "")
	r.write("etc/hostid", "\x01\x02\x03\x04")
	r.write("etc/machine-id", "0123456789abcdef0123456789abcdef\n")
	r.write("boot/efi/loader/loader.conf", "timeout 3\ndefault debian-*\n")
	r.write("boot/efi/loader/entries/debian-6.1.0-1-amd64.conf", entryDefault)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name := range fakes {
		if err := os.Symlink(self, filepath.Join(r.bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	r.tree("rpool/ROOT/default", "6.1.0-1-amd64")
	p := &pool{Names: []string{"rpool/ROOT", "rpool/ROOT/default"}, Origin: map[string]string{},
		Local: map[string][]string{"rpool/ROOT/default": {"mountpoint\t/", "canmount\tnoauto", "compression\tzstd-3", "org.example:note\ttwo words"}}}
	t.Setenv("FAKE_STATE", r.state)
	if err := p.save(); err != nil {
		t.Fatal(err)
	}
	r.ok("snapshot", "golden")
	return r
}

func (r *rig) mkdir(dir string) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) write(name, text string) {
	if err := os.WriteFile(filepath.Join(r.sys, name), []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// tree makes a dataset's files: a kernel and what decides its entries.
func (r *rig) tree(dataset, version string) {
	r.t.Helper()
	at := treeOfIn(r.state, dataset)
	for name, text := range map[string]string{
		"boot/vmlinuz-" + version: "kernel " + version, "boot/initrd.img-" + version: "initramfs " + version,
		"etc/kernel/cmdline": "root=ZFS=rpool/ROOT/default quiet\n", "etc/kernel/entry-token": "debian\n", "etc/machine-id": "",
		"usr/lib/os-release": "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\n",
	} {
		r.mkdir(filepath.Dir(filepath.Join(at, name)))
		if err := os.WriteFile(filepath.Join(at, name), []byte(text), 0o644); err != nil {
			r.t.Fatal(err)
		}
	}
}

func treeOfIn(state, name string) string {
	return filepath.Join(state, strings.ReplaceAll(name, "/", "%"))
}

func (r *rig) run(args ...string) (string, error) {
	cmd := exec.Command("sh", append([]string{"files/kldload-be"}, args...)...)
	cmd.Env = append(os.Environ(), "PATH="+r.bin+":"+os.Getenv("PATH"), "KLDLOAD_BE_SYSROOT="+r.sys,
		"FAKE_STATE="+r.state, "FAKE_ROOT="+r.root, "FAKE_AVAIL="+r.avail)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (r *rig) ok(args ...string) string {
	r.t.Helper()
	out, err := r.run(args...)
	if err != nil {
		r.t.Fatalf("kldload-be %q: %v\n%s", args, err, out)
	}
	return out
}

func (r *rig) fails(want string, args ...string) {
	r.t.Helper()
	if out, err := r.run(args...); err == nil || !strings.Contains(out, want) {
		r.t.Errorf("kldload-be %q: %v, want an error with %q:\n%s", args, err, want, out)
	}
}

func (r *rig) read(name string) string {
	r.t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(b)
}

func (r *rig) esp(name string) string { return filepath.Join(r.sys, "boot/efi", name) }

func (r *rig) names() []string {
	r.t.Helper()
	var p pool
	if err := json.Unmarshal([]byte(r.read(filepath.Join(r.state, "pool"))), &p); err != nil {
		r.t.Fatal(err)
	}
	return p.Names
}

func (r *rig) stored() []string {
	list, err := filepath.Glob(r.esp("kldload/*"))
	if err != nil {
		r.t.Fatal(err)
	}
	return list
}

func TestBECreateMakesAnEnvironmentOfItsOwn(t *testing.T) {
	r := newRig(t)
	r.ok("create", "test")
	entry, err := ParseEntry("x", []byte(r.read(r.esp("loader/entries/be-test@root-6.1.0-1-amd64.conf"))))
	if err != nil {
		t.Fatal(err)
	}
	if entry.Options != "root=ZFS=rpool/ROOT/test quiet" || r.read(r.esp(entry.Linux)) != "kernel 6.1.0-1-amd64" ||
		r.read(r.esp(entry.Initrd[0])) != "initramfs 6.1.0-1-amd64" {
		t.Errorf("entry %+v", entry)
	}
	tree := treeOfIn(r.state, "rpool/ROOT/test")
	for name, want := range map[string]string{"etc/kernel/cmdline": entry.Options + "\n", "etc/kernel/entry-token": "be-test@root\n",
		"etc/hostid": "\x01\x02\x03\x04", "etc/machine-id": "0123456789abcdef0123456789abcdef\n"} {
		if got := r.read(filepath.Join(tree, name)); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	var p pool
	if err := json.Unmarshal([]byte(r.read(filepath.Join(r.state, "pool"))), &p); err != nil {
		t.Fatal(err)
	}
	want := []string{"canmount\tnoauto", "mountpoint\t/", "compression\tzstd-3", "org.example:note\ttwo words"}
	if got := p.Local["rpool/ROOT/test"]; !slices.Equal(got, want) {
		t.Errorf("properties %q, want %q", got, want)
	}
	r.fails(`environment "test" exists`, "create", "test")
}

func TestBEKernelsAreSharedAndSwept(t *testing.T) {
	r := newRig(t)
	r.ok("create", "one")
	r.ok("create", "two")
	if got := r.stored(); len(got) != 2 {
		t.Errorf("two environments of the same kernel store %v", got)
	}
	r.tree("rpool/ROOT/one", "6.1.0-2-amd64")
	r.ok("create", "-e", "one", "three") // has both kernels
	if got := r.stored(); len(got) != 4 {
		t.Errorf("two kernels: stored %v", got)
	}
	r.ok("destroy", "-y", "three")
	r.ok("destroy", "-y", "one")
	if got := r.stored(); len(got) != 2 {
		t.Errorf("two is left with %v", got)
	}
	r.ok("destroy", "-y", "two")
	if left := r.stored(); len(left) != 0 || len(r.names()) != 3 {
		t.Errorf("left: %v, %v", left, r.names())
	}
}

func TestBEActivateAndRollback(t *testing.T) {
	r := newRig(t)
	r.ok("create", "test")
	r.ok("activate", "test")
	if got := r.read(r.esp("loader/loader.conf")); got != "timeout 3\ndefault be-test@root-*\n" {
		t.Errorf("loader.conf %q", got)
	}
	if log := r.read(filepath.Join(r.state, "log")); !strings.Contains(log, "zpool set bootfs=rpool/ROOT/test rpool\n") {
		t.Errorf("log %s", log)
	}
	if out := r.ok("list"); !regexp.MustCompile(`default +N .*\n *test +R `).MatchString(out) {
		t.Errorf("list:\n%s", out)
	}
	r.fails(`"test" is what boots next`, "destroy", "-y", "test")
	r.ok("create", "test-6") // loader.conf's pattern for "test" is not its
	if out := r.ok("list"); len(regexp.MustCompile(`(?m)^\S+ +\S*R\S* `).FindAllString(out, -1)) != 1 {
		t.Errorf("list:\n%s", out)
	}
	r.ok("destroy", "-y", "test-6")
	r.ok("rollback", "default")
	r.ok("activate", "-t", "test")
	r.mkdir(filepath.Join(r.sys, "sys/firmware/efi/efivars"))
	r.write("sys/firmware/efi/efivars/LoaderEntryOneShot-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f",
		"\x07\x00\x00\x00"+strings.Join(strings.Split("be-test@root-6.1.0-1-amd64.conf", ""), "\x00")+"\x00\x00\x00")
	if out := r.ok("list"); !regexp.MustCompile(`(?m)^test +T `).MatchString(out) {
		t.Errorf("list:\n%s", out)
	}
	if log := r.read(filepath.Join(r.state, "log")); !strings.Contains(log, "bootctl set-oneshot be-test@root-6.1.0-1-amd64.conf\n") {
		t.Errorf("log %s", log)
	}
	r.fails(`"default" is running`, "destroy", "-y", "default")
}

func TestBERollbackToTheLastPackageSnapshot(t *testing.T) {
	r := newRig(t)
	r.fails("no snapshot from before a package change", "rollback")
	r.ok("snapshot", "--hook", "apt")
	r.tree("rpool/ROOT/default", "6.1.0-9-amd64") // an upgrade
	out := r.ok("rollback")
	name := regexp.MustCompile(`apt-\d{8}-\d{6}`).FindString(out)
	if !strings.Contains(r.read(r.esp("loader/loader.conf")), "default be-"+name+"@root-*\n") {
		t.Errorf("loader.conf: %s", r.read(r.esp("loader/loader.conf")))
	}
	if entries, _ := filepath.Glob(r.esp("loader/entries/be-*")); len(entries) != 1 || !strings.HasSuffix(entries[0], name+"@root-6.1.0-1-amd64.conf") {
		t.Errorf("entries %v: want the old kernel's alone", entries)
	}
	r.fails(`no snapshot "@nope"`, "rollback", "@nope")
}

func TestBESnapshotsArePruned(t *testing.T) {
	r := newRig(t)
	r.write("etc/kldload/be.conf", "KEEP_SNAPSHOTS=2\n")
	p := pool{}
	if err := json.Unmarshal([]byte(r.read(filepath.Join(r.state, "pool"))), &p); err != nil {
		t.Fatal(err)
	}
	p.Names = append(p.Names, "rpool/ROOT/default@apt-20250101-000000", "rpool/ROOT/default@apt-20250102-000000", "rpool/ROOT/default@apt-mine")
	if err := p.save(); err != nil {
		t.Fatal(err)
	}
	r.ok("snapshot", "--hook", "apt")
	if got := r.names(); slices.Contains(got, "rpool/ROOT/default@apt-20250101-000000") || len(got) != 6 {
		t.Errorf("left: %q", got)
	}
	r.write("etc/kldload/be.conf", "KEEP_SNAPSHOTS=many\n")
	r.fails(`KEEP_SNAPSHOTS="many": want a number`, "snapshot")
}

func TestBEHookIsSilentWhereTheRootIsNotZFS(t *testing.T) {
	for _, root := range []string{"ext4 /dev/vda2", "zfs tank/containers/x"} {
		r := newRig(t)
		r.root = root
		if out := r.ok("snapshot", "--hook", "apt"); out != "" {
			t.Errorf("root %s: says %q", root, out)
		}
		r.fails("boot environments need one on ZFS", "list")
	}
}

func TestBEFailsBeforeItWrites(t *testing.T) {
	r := newRig(t)
	before := r.names()
	r.avail = "1048590"
	r.fails("the EFI system partition has 1 MiB free", "create", "test")
	if got := r.names(); !slices.Equal(got, before) || len(r.stored()) != 0 {
		t.Errorf("left: %v, %v", got, r.stored())
	}
	if left, _ := filepath.Glob(filepath.Join(r.sys, "run/kldload-be.*")); len(left) != 1 { // the lock
		t.Errorf("left in /run: %v", left)
	}
}

func TestBEMisuse(t *testing.T) {
	r := newRig(t)
	for want, args := range map[string][]string{
		`unknown command "crate"`:                      {"crate"},
		`want one NAME, got 0`:                         {"create"},
		`environment name "Test": want lower-case`:     {"create", "Test"},
		`environment name "a/b"`:                       {"create", "a/b"},
		`no environment "nope" (have default`:          {"activate", "nope"},
		`no snapshot "default@nope"`:                   {"create", "-e", "default@nope", "x"},
		`list: want [-s] [--json], got "-x"`:           {"list", "-x"},
		`destroying "other": want a yes`:               {"destroy", "other"},
		`"default" is running: it is at /`:             {"mount", "default"},
		`rollback: want one SNAPSHOT or NAME`:          {"rollback", "a", "b"},
		`environment name "` + strings.Repeat("x", 65): {"create", strings.Repeat("x", 65)},
	} {
		if args[len(args)-1] == "other" {
			r.ok("create", "other")
		}
		r.fails(want, args...)
	}
	if out := r.ok("--help"); !strings.Contains(out, "Examples:") {
		t.Error(out)
	}
}

func TestBEListJSON(t *testing.T) {
	r := newRig(t)
	r.ok("create", "test")
	var list []struct {
		Name                string
		Running, Next, Once bool
		Created, Used       int64
		Kernels, Snapshots  []string
	}
	if err := json.Unmarshal([]byte(r.ok("list", "--json")), &list); err != nil {
		t.Fatal(err)
	}
	if len(list) != 2 || !list[0].Running || !list[0].Next || list[1].Running || !slices.Equal(list[1].Kernels, []string{"6.1.0-1-amd64"}) || len(list[0].Snapshots) != 2 {
		t.Errorf("%+v", list)
	}
}
