package machine

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func testLaunch() launch {
	cfg, err := Config{Image: "/x/Kld Server_1.qcow2"}.withDefaults()
	if err != nil {
		panic(err)
	}
	return launch{cfg: cfg, firmware: firmware{Code: "/c,d.fd"}}
}

func TestArgsStayOnLoopback(t *testing.T) {
	l := testLaunch()
	line := strings.Join(qemuArgs(l, "/w", TCG, "/s.log"), " ")
	for _, want := range []string{"hostfwd=tcp:127.0.0.1:0-:22,restrict=on", "-nodefaults", "romfile=", "-display none",
		"-accel tcg,thread=multi", `"filename":"/w/disk.qcow2"`, "virtio-rng-pci", "guest=kld-server-1", "-m 2048"} {
		if !strings.Contains(line, want) {
			t.Errorf("no %q in %s", want, line)
		}
	}
	l.cfg.Network = true
	if args := qemuArgs(l, "/w", KVM, ""); !strings.Contains(strings.Join(args, " "), "restrict=off") {
		t.Errorf("--network is not passed on: %q", args)
	}
}

func TestArgsEscapeFileNames(t *testing.T) {
	args := qemuArgs(testLaunch(), `/w,x"y`, TCG, "/s,t.log")
	for _, want := range []string{"file,id=serial,append=on,path=/s,,t.log"} {
		if !slices.Contains(args, want) {
			t.Errorf("no %q in %q", want, args)
		}
	}
	if line := strings.Join(args, " "); !strings.Contains(line, `"filename":"/w,x\"y/disk.qcow2"`) || !strings.Contains(line, `"filename":"/c,d.fd"`) {
		t.Errorf("file names are not escaped: %s", line)
	}
}

func TestExtraDisksAreWrittenInPlace(t *testing.T) {
	l := testLaunch()
	l.disks = []Disk{{Image: "/a,b.img", Format: "raw"}, {Image: "/c.qcow2", Format: "qcow2"}}
	line := strings.Join(qemuArgs(l, "/w", TCG, "/s.log"), " ")
	for _, want := range []string{`"filename":"/a,b.img"},"node-name":"disk1"}`, "virtio-blk-pci,drive=disk1,serial=disk1",
		`{"discard":"unmap","driver":"qcow2","file":{"discard":"unmap","driver":"file","filename":"/c.qcow2"},"node-name":"disk2"}`} {
		if !strings.Contains(line, want) {
			t.Errorf("no %s in %s", want, line)
		}
	}
}

func TestDefaultsRefuseNonsense(t *testing.T) {
	for want, cfg := range map[string]Config{
		`name "a_b"`:                   {Name: "a_b"},
		`disk interface "ide"`:         {DiskInterface: "ide"},
		"user-data without an SSH key": {UserData: "f"},
		"memory, cpus and disk size":   {Memory: -1},
	} {
		if _, err := cfg.withDefaults(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want %q", cfg, err, want)
		}
	}
}

func TestNameFromFile(t *testing.T) {
	for file, want := range map[string]string{"/x/kldload-server.qcow2": "kldload-server", "A b.raw": "a-b", "ä.img": "clone",
		"v1.2.raw": "v1", strings.Repeat("x", 80): strings.Repeat("x", 63)} {
		if got := nameFromFile(file); got != want || !validName(got) {
			t.Errorf("%q: got %q, want %q", file, got, want)
		}
	}
}

func TestFindFirmware(t *testing.T) {
	root := t.TempDir()
	if _, err := findFirmware(root); err == nil || !strings.Contains(err.Error(), "hint: apt-get install ovmf") {
		t.Errorf("got %v, want a hint", err)
	}
	dir := filepath.Join(root, "usr/share/edk2/ovmf") // Fedora's
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"OVMF_CODE.fd", "OVMF_VARS.fd"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := findFirmware(root)
	if err != nil || got.Vars != filepath.Join(dir, "OVMF_VARS.fd") {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestParseUsernet(t *testing.T) {
	const text = "Hub -1 (net):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n" +
		"  TCP[HOST_FORWARD]   3       127.0.0.1 33027       10.0.2.15    22     0     0\r\n"
	if got, err := parseUsernet(text); err != nil || got != "127.0.0.1:33027" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := parseUsernet("nothing"); err == nil {
		t.Error("no error without a forwarding")
	}
}

func TestCloneSize(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want int64
	}{{Config{}, 10}, {Config{GrowBy: 5}, 15}, {Config{DiskSize: 20}, 20}, {Config{DiskSize: 9}, 0}} {
		if got, err := cloneSize(10, c.cfg); got != c.want || (err != nil) != (c.want == 0) {
			t.Errorf("%+v: got %d, %v", c.cfg, got, err)
		}
	}
}
