package liveseal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kldload/kldload/internal/sandbox"
	"github.com/kldload/kldload/internal/seal"
)

// inside is a file of the trees that the tests seal: their root is "/" there,
// and no other root may be sealed by a test.
const inside = "/only-a-test"

func TestMain(m *testing.M) {
	sandbox.Main(nil)
	if _, err := os.Lstat(inside); err == nil {
		if err := sealInside(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// sealInside runs in the sandbox, by the name that says how.
func sealInside() error {
	opts := Options{Seal: seal.Options{Hostname: "golden"}, FilesOnly: true}
	switch os.Args[1] {
	case "dry-run":
		opts.DryRun = true
	case "power-off":
		opts = Options{Poweroff: true}
	}
	r, err := Run(context.Background(), opts)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// box is a small tree with this test's program in it.
type box struct {
	*testing.T
	root  string
	binds []sandbox.Bind
}

func newBox(t *testing.T) *box {
	t.Helper()
	b := &box{T: t, root: filepath.Join(t.TempDir(), "root")}
	for _, dir := range []string{"dev", "proc", "sys", "run", "tmp", "etc", "var/log", "root", "home/ops", "mnt"} {
		if err := os.MkdirAll(filepath.Join(b.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	b.write(inside, "")
	b.write("/etc/machine-id", "0123456789abcdef0123456789abcdef\n")
	b.write("/etc/ssh/ssh_host_ed25519_key", "k")
	b.write("/etc/shadow", "root:$6$salt$hash:20000:0:99999:7:::\n")
	b.write("/var/log/syslog", "l")
	b.write("/run/hidden", "below what is mounted there")
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	to, err := os.OpenFile(filepath.Join(b.root, "test"), os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(to, self)
	if err := errors.Join(err, to.Close()); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *box) write(name, text string) {
	b.Helper()
	full := filepath.Join(b.root, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o755), os.WriteFile(full, []byte(text), 0o644)); err != nil {
		b.Fatal(err)
	}
}

// run seals the tree from inside.
func (b *box) run(how string) (*Report, error) {
	b.Helper()
	var out, stderr bytes.Buffer
	binds := slices.Clone(b.binds)
	for _, lib := range []string{"/lib", "/lib64", "/usr/lib"} { // for a test that was not linked statically
		if _, err := os.Stat(lib); err == nil {
			binds = append(binds, sandbox.Bind{Source: lib, Target: lib})
		}
	}
	err := sandbox.Run(b.Context(), sandbox.Job{Doing: "sealing a tree", Root: b.root, Command: []string{"/test", how}, Binds: binds, Stdout: &out, Stderr: &stderr})
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, stderr.String())
	}
	var r Report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		b.Fatalf("%v in %q", err, out.String())
	}
	return &r, nil
}

func (b *box) mustRun(how string) *Report {
	b.Helper()
	r, err := b.run(how)
	if err != nil {
		b.Fatal(err)
	}
	return r
}

func (b *box) violations() []string {
	b.Helper()
	root, err := os.OpenRoot(b.root)
	if err != nil {
		b.Fatal(err)
	}
	defer root.Close()
	reports, err := seal.Check(root.FS().(seal.FS), seal.Options{Hostname: "golden"})
	if err != nil {
		b.Fatal(err)
	}
	var out []string
	for _, r := range reports {
		for _, v := range r.Violations {
			out = append(out, v.String())
		}
	}
	return out
}

func TestSealsWhatIsOnTheDiskAlone(t *testing.T) {
	b := newBox(t)
	other := t.TempDir() // somebody else's files, mounted on a home folder
	history := filepath.Join(other, ".bash_history")
	if err := os.WriteFile(history, []byte("theirs"), 0o644); err != nil {
		t.Fatal(err)
	}
	b.write("/home/ops/.bash_history", "hidden below the mount")
	b.binds = []sandbox.Bind{{Source: other, Target: "/home/ops", Write: true}}

	before := b.violations()
	dry := b.mustRun("dry-run")
	if dry.Count(Pending) < 5 || dry.Count(Done) > 0 {
		t.Errorf("dry run: %+v", dry)
	}
	if diff := cmp.Diff(before, b.violations()); diff != "" {
		t.Errorf("the dry run changed files:\n%s", diff)
	}
	r := b.mustRun("seal")
	if r.Running || r.Count(Done) < 5 || r.Count(Clean) < 2 {
		t.Errorf("report %+v", r)
	}
	if left := b.violations(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	for _, name := range []string{"run/hidden", "home/ops/.bash_history", "etc/ssh/ssh_host_ed25519_key"} {
		if _, err := os.Lstat(filepath.Join(b.root, name)); err == nil {
			t.Errorf("%s is still there", name)
		}
	}
	if _, err := os.Lstat(history); err != nil {
		t.Errorf("what was mounted was sealed: %v", err)
	}
	if again := b.mustRun("seal"); again.Count(Done) > 0 {
		t.Errorf("the second time: %+v", again)
	}
}

func TestNothingToPowerOffInAContainer(t *testing.T) {
	b := newBox(t)
	before := b.violations()
	if _, err := b.run("power-off"); err == nil || !strings.Contains(err.Error(), "\nhint: leave out --poweroff") {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff(before, b.violations()); diff != "" {
		t.Errorf("files changed:\n%s", diff)
	}
}

func TestRefusesWhereADiskIsMountedInWhatGoes(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"tmp/usb", "home/ops"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var r Report
	err := r.plan(dir, []string{"/home", "/tmp", "/tmp/usb"}, seal.Options{})
	if err == nil || !strings.Contains(err.Error(), "\"/tmp/usb\"") || !strings.Contains(err.Error(), "\nhint: umount /tmp/usb") {
		t.Errorf("got %v", err)
	}
	if err := r.plan(dir, []string{"/home", "/tmp"}, seal.Options{}); err != nil {
		t.Errorf("mount points that stay: %v", err)
	}
}

func TestTemplate(t *testing.T) {
	root := t.TempDir()
	env := map[string]string{}
	getenv := func(name string) string { return env[name] }
	err := CheckTemplate(root, getenv)
	if err == nil || !strings.Contains(err.Error(), "not an image template") || !strings.Contains(err.Error(), "--yes") {
		t.Errorf("got %v", err)
	}
	env["PACKER_BUILD_NAME"] = "golden"
	if err := CheckTemplate(root, getenv); err != nil {
		t.Errorf("below Packer: %v", err)
	}
	env["PACKER_BUILD_NAME"] = ""
	for _, name := range []string{TemplateFile, "run/kldload-seal/kexport"} {
		full := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o755), os.WriteFile(full, nil, 0o644)); err != nil {
			t.Fatal(err)
		}
		if err := CheckTemplate(root, getenv); err != nil {
			t.Errorf("with /%s: %v", name, err)
		}
		if err := os.Remove(full); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWantsRoot(t *testing.T) {
	if err := CheckRoot(1000); err == nil || !strings.Contains(err.Error(), "have user id 1000\nhint: sudo kexport seal") {
		t.Errorf("got %v", err)
	}
	if err := CheckRoot(0); err != nil {
		t.Error(err)
	}
}

// A machine with a root on ZFS, as /proc/self/mountinfo has it.
const mountinfo = `22 29 0:20 / /sys rw,nosuid - sysfs sysfs rw
29 1 0:26 / / rw,relatime shared:1 - zfs rpool/ROOT/default rw,xattr
30 29 0:24 / /run rw,nosuid,noexec shared:5 - tmpfs tmpfs rw,size=1k
31 29 0:40 / /var/log rw shared:9 master:2 - zfs rpool/var/log rw
32 29 0:41 / /home rw - zfs rpool/home rw
33 29 254:1 / /boot/efi rw - vfat /dev/vda1 rw
34 32 0:50 / /home/nfs rw - nfs4 server:/home rw
35 29 0:51 / /tmp rw - tmpfs tmpfs rw
36 32 0:41 /ops/www /srv/www rw - zfs rpool/home rw
37 29 0:52 / /.zfs/snapshot/golden ro - zfs rpool/ROOT/default@golden ro
38 30 8:17 / /run/media/ops/STICK rw - vfat /dev/sdb1 rw
39 29 8:33 / /data\040disk rw - ext4 /dev/sdc1 rw
40 29 0:53 /@home /srv/home rw - btrfs /dev/sdd rw
41 31 0:40 / /var/log rw - zfs rpool/var/log rw
`

func TestMountsOfTheDisk(t *testing.T) {
	all, err := parseMounts(mountinfo)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"/boot/efi", "/data disk", "/home", "/srv/home", "/var/log"}
	if diff := cmp.Diff(want, diskMounts(all)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"rpool"}, pools(all)); diff != "" {
		t.Error(diff)
	}
	if _, err := parseMounts("22 29 0:20 /\n"); err == nil || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("a broken line: %v", err)
	}
}

func FuzzParseMounts(f *testing.F) {
	f.Add(mountinfo)
	f.Add("1 2 3 / \\040\\777\\04 x - ext4 a b\n")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := parseMounts(text)
		if err == nil && len(all) > strings.Count(text, "\n")+1 {
			t.Errorf("%d mounts of %q", len(all), text)
		}
		points := diskMounts(all)
		if !slices.IsSorted(points) || slices.Contains(points, "/") {
			t.Errorf("points %q", points)
		}
		pools(all)
	})
}

func TestCovered(t *testing.T) {
	all, err := parseMounts(mountinfo + "50 30 0:60 / /run/kldload-seal rw - tmpfs tmpfs rw\n" +
		"51 29 0:60 /folders/etc/ssh /etc/ssh rw - tmpfs tmpfs rw\n52 29 0:60 /files/etc/shadow /etc/shadow rw - tmpfs tmpfs rw\n" +
		"53 29 0:61 /other /srv/other rw - tmpfs tmpfs rw\n")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"/etc/shadow", "/etc/ssh"}, covered(all)); diff != "" {
		t.Error(diff)
	}
	if got := diskMounts(all); slices.Contains(got, "/etc/ssh") {
		t.Errorf("the copies are taken for the disk's: %v", got)
	}
}

func TestSwaps(t *testing.T) {
	text := "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/dev/vda3                               partition\t1048572\t\t0\t\t-2\n/swap\\040file\tfile\t1\t0\t-3\n/dev/zram0 partition 1 0 100\n"
	if diff := cmp.Diff([]string{"/dev/vda3", "/swap file"}, swaps(text)); diff != "" {
		t.Error(diff)
	}
}

func TestUnsealedCopies(t *testing.T) {
	list := "rpool\tfilesystem\toff\tno\nrpool/ROOT/default\tfilesystem\tnoauto\tyes\nrpool/ROOT/old\tfilesystem\tnoauto\tno\n" +
		"rpool/ROOT/default@golden\tsnapshot\t-\t-\nrpool/home@golden\tsnapshot\t-\t-\n"
	want := []string{"dataset rpool/ROOT/old, which is not mounted", "snapshots of rpool: 2"}
	if diff := cmp.Diff(want, unsealed("rpool", list)); diff != "" {
		t.Error(diff)
	}
	if got := unsealed("rpool", ""); got != nil {
		t.Errorf("got %v", got)
	}
}

// TestUnitIsSound asks systemd. Units that it orders after are not here.
func TestUnitIsSound(t *testing.T) {
	text := unit(seal.Options{Hostname: "golden"}, []string{"/var/log", `/data "50%" disk`})
	for _, want := range []string{"--yes --hostname golden\n", "RequiresMountsFor=\"/run/kldload-seal\"\n", `RequiresMountsFor="/data \"50%%\" disk"`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	// The program is not there yet.
	text = strings.ReplaceAll(text, memory+"/kexport", "/bin/true")
	name := filepath.Join(t.TempDir(), unitName)
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", name).CombinedOutput()
	if err != nil || strings.Contains(string(out), unitName) {
		t.Errorf("systemd-analyze: %v\n%s\n%s", err, out, text)
	}
}
