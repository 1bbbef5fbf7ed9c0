package diskimage

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// wantUse opens path and wants InUse to give a reason with a part, or none.
func wantUse(t *testing.T, path, part string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	reason, err := InUse(f)
	if err != nil || !strings.Contains(reason, part) || (part == "" && reason != "") {
		t.Errorf("%s: %q, %v, want %q", path, reason, err, part)
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root for loop devices, mounts and swap")
	}
}

// attach makes path a loop device until the test ends.
func attach(t *testing.T, path string) string {
	t.Helper()
	dev := strings.TrimSpace(qemu(t, "losetup", "-f", "--show", path))
	t.Cleanup(func() { qemu(t, "losetup", "-d", dev) })
	return dev
}

func TestInUseFile(t *testing.T) {
	path := rawFile(t, 1<<20)
	wantUse(t, path, "")
	wantUse(t, "/dev/null", "")
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, c := range []struct {
		lock unix.Flock_t
		want string
	}{
		{unix.Flock_t{Type: unix.F_RDLCK}, ""},
		{unix.Flock_t{Type: unix.F_RDLCK, Start: 100, Len: 1}, ""},                           // QEMU reads
		{unix.Flock_t{Type: unix.F_RDLCK, Start: 100, Len: 2}, "open for writing in QEMU"},   // and writes
		{unix.Flock_t{Type: unix.F_RDLCK, Start: 201, Len: 1}, ""},                           // lets none write
		{unix.Flock_t{Type: unix.F_RDLCK, Start: 200, Len: 1}, "open for writing in QEMU"},   // lets none read
		{unix.Flock_t{Type: unix.F_WRLCK, Start: 5000, Len: 1}, "locked for writing by ano"}, // another program
	} {
		if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &c.lock); err != nil {
			t.Fatal(err)
		}
		wantUse(t, path, c.want)
		if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_UNLCK}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestInUseLoopMount(t *testing.T) {
	needRoot(t)
	path := rawFile(t, 16<<20)
	wantUse(t, path, "")
	dev := attach(t, path)
	wantUse(t, path, "is attached to "+dev)
	wantUse(t, dev, "")

	qemu(t, "mkfs.ext4", "-q", dev)
	dir := filepath.Join(t.TempDir(), "a b")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(dev, dir, "ext4", unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	wantUse(t, dev, "is mounted on \""+dir+"\"")
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
	wantUse(t, dev, "")

	claim, err := os.OpenFile(dev, os.O_RDONLY|unix.O_EXCL, 0)
	if err != nil {
		t.Fatal(err)
	}
	wantUse(t, dev, "is claimed by")
	claim.Close()
	attach(t, dev)
	wantUse(t, dev, "is attached to /dev/loop")
}

func TestInUsePartition(t *testing.T) {
	needRoot(t)
	dev := attach(t, rawFile(t, 32<<20))
	part := dev + "p1"
	qemu(t, "addpart", dev, "1", "2048", "40960") // a kernel may know no partition table
	t.Cleanup(func() { qemu(t, "delpart", dev, "1") })
	name := filepath.Base(part)
	wantUse(t, dev, "")
	qemu(t, "mkfs.ext4", "-q", part)
	dir := t.TempDir()
	if err := unix.Mount(part, dir, "ext4", unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	wantUse(t, dev, "has partition "+name+", which is mounted on \""+dir+"\"")
	wantUse(t, part, "is mounted on \""+dir+"\"")
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
	claim, err := os.OpenFile(part, os.O_RDONLY|unix.O_EXCL, 0)
	if err != nil {
		t.Fatal(err)
	}
	wantUse(t, dev, "is claimed by")
	claim.Close()
	wantUse(t, dev, "")
}

// TestInUseHolder shows a sysfs as it is with a volume on a partition; the
// device mapper itself is in few test kernels.
func TestInUseHolder(t *testing.T) {
	sys := t.TempDir()
	for _, dir := range []string{"dev/block/8:0/holders", "dev/block/8:0/queue", "dev/block/8:0/sda1", "dev/block/8:1/holders/dm-3", "block/dm-3/dm"} {
		if err := os.MkdirAll(filepath.Join(sys, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"dev/block/8:0/sda1/partition": "1\n", "dev/block/8:0/sda1/dev": "8:1\n", "block/dm-3/dm/name": "vg-root\n"} {
		if err := os.WriteFile(filepath.Join(sys, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	u := &usage{sys: sys}
	for number, want := range map[string]string{"8:0": "has partition sda1, which is part of dm-3 (vg-root)", "8:1": "is part of dm-3 (vg-root)", "9:9": ""} {
		var err error
		if u.devices, err = u.withPartitions(number); err != nil {
			t.Fatal(err)
		}
		if reason, err := u.holders(); err != nil || reason != want {
			t.Errorf("%s: %q, %v, want %q", number, reason, err, want)
		}
	}
}

func TestInUseSwap(t *testing.T) {
	needRoot(t)
	path := rawFile(t, 1<<20, put{0, make([]byte, 1<<20)})
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	qemu(t, "mkswap", path)
	if out, err := exec.Command("swapon", path).CombinedOutput(); err != nil {
		t.Skipf("this kernel takes no swap file here: %s", out)
	}
	wantUse(t, path, "is used as swap")
	qemu(t, "swapoff", path)
	wantUse(t, path, "")
}

// holdInQEMU keeps an image open in qemu-io until the test ends.
func holdInQEMU(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command("qemu-io", args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	// It answers once the image is open.
	if _, err := io.WriteString(in, "length\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('B'); err != nil {
		t.Fatalf("qemu-io %q: %v after %q", args, err, line)
	}
}

func TestInUseQEMU(t *testing.T) {
	base := rawFile(t, 1<<20)
	over := base + ".qcow2"
	qemu(t, "qemu-img", "create", "-q", "-f", "qcow2", "-b", "disk.raw", "-F", "raw", over)
	readOnly := base + ".ro"
	qemu(t, "cp", base, readOnly)
	holdInQEMU(t, "-f", "qcow2", over)
	holdInQEMU(t, "-f", "raw", "-r", readOnly)
	wantUse(t, over, "is open for writing in QEMU")
	wantUse(t, base, "")
	wantUse(t, readOnly, "")

	// Through Open, where the file in use is below another.
	top := base + ".top"
	qemu(t, "qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", filepath.Base(over), "-F", "qcow2", top, "1M")
	errBusy := errors.New("in use")
	var seen []string
	check := func(f *os.File) error {
		seen = append(seen, filepath.Base(f.Name()))
		if reason, err := InUse(f); err != nil || reason != "" {
			return errors.Join(errBusy, err)
		}
		return nil
	}
	_, err := Open(top, OpenOptions{Backing: true, Check: check})
	if !errors.Is(err, errBusy) || len(seen) != 2 || !strings.Contains(err.Error(), over) {
		t.Errorf("opening a chain in use: %v, looked at %q", err, seen)
	}
}

// TestInUseSystem has a virtual machine hold the image.
func TestInUseSystem(t *testing.T) {
	path := rawFile(t, 1<<20)
	cmd := exec.Command("qemu-system-x86_64", "-S", "-display", "none", "-nodefaults", "-M", "none",
		"-blockdev", "driver=file,filename="+path+",node-name=f", "-blockdev", "driver=raw,file=f,node-name=d", "-qmp", "stdio")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		in.Close()
		cmd.Process.Kill()
		cmd.Wait()
	}()
	r := bufio.NewReader(out)
	for _, line := range []string{`{"execute":"qmp_capabilities"}`,
		`{"execute":"nbd-server-start","arguments":{"addr":{"type":"unix","data":{"path":"` + path + `.sock"}}}}`,
		`{"execute":"block-export-add","arguments":{"type":"nbd","id":"e","node-name":"d","writable":true}}`} {
		if _, err := io.WriteString(in, line+"\n"); err != nil {
			t.Fatal(err)
		}
		for answer := ""; !strings.Contains(answer, `"return"`); {
			if answer, err = r.ReadString('\n'); err != nil || strings.Contains(answer, `"error"`) {
				t.Fatalf("%s: %v\n%s", line, err, answer)
			}
		}
	}
	wantUse(t, path, "is open for writing in QEMU")
	cmd.Process.Kill()
	cmd.Wait()
	wantUse(t, path, "")
}
