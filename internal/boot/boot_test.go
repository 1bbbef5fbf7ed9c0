package boot

import (
	"bytes"
	"io"
	"strings"
	"testing"
)

type memory map[string]string

func (m memory) Create(name string, _ int64, body io.Reader) error {
	b, err := io.ReadAll(body)
	m[name] = string(b)
	return err
}

var conf = Config{RootUUID: "11111111-2222-4333-8444-555555555555", RootType: "ext4", ESPUUID: "ABCD-1234", Parameters: DefaultParameters}

func fill(t *testing.T, files map[string]string) (memory, error) {
	t.Helper()
	m := memory{}
	e := NewESP(m, conf)
	for name, text := range files {
		if !e.Wants(name) {
			t.Fatalf("%s is not wanted", name)
		}
		if err := e.Take(name, int64(len(text)), bytes.NewReader([]byte(text))); err != nil {
			t.Fatal(err)
		}
	}
	return m, e.Finish()
}

func TestESPIsWhatKernelInstallWouldWrite(t *testing.T) {
	m, err := fill(t, map[string]string{
		"boot/vmlinuz-6.1.0-1-amd64": "K", "boot/initrd.img-6.1.0-1-amd64": "I", LoaderInTree: "MZ",
		"usr/lib/os-release": "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\n",
	})
	if err != nil {
		t.Fatal(err)
	}
	text := m["loader/entries/debian-6.1.0-1-amd64.conf"]
	e, err := ParseEntry("x", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if m[e.Linux] != "K" || len(e.Initrd) != 1 || m[e.Initrd[0]] != "I" || m[RemovableLoader] != "MZ" {
		t.Errorf("entry %q does not lead to its files: %v", text, m)
	}
	if !strings.Contains(text, "title      Debian GNU/Linux 12 (bookworm)\n") || !strings.HasPrefix(e.Options, "root=UUID="+conf.RootUUID+" ro ") {
		t.Errorf("entry:\n%s", text)
	}
}

func TestESPRefusesWhatWouldNotBoot(t *testing.T) {
	for want, files := range map[string]map[string]string{
		"has no boot/initrd.img-1": {"boot/vmlinuz-1": "K", LoaderInTree: "MZ"},
		"no boot/vmlinuz":          {LoaderInTree: "MZ", "boot/initrd.img-1": "I"},
		"systemd-boot":             {"boot/vmlinuz-1": "K", "boot/initrd.img-1": "I"},
	} {
		if _, err := fill(t, files); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestWantsNoOtherFile(t *testing.T) {
	e := NewESP(memory{}, conf)
	for _, name := range []string{"boot/config-6.1", "vmlinuz-1", "boot/x/vmlinuz-1", "etc/os-release"} {
		if e.Wants(name) {
			t.Errorf("%s is wanted", name)
		}
	}
}

var zfsConf = Config{RootType: ZFS, RootDataset: "rpool/ROOT/default", ESPUUID: "ABCD-1234", Parameters: []string{"quiet"}}

func TestFilesOfARootOnZFS(t *testing.T) {
	files := map[string]File{}
	for _, f := range zfsConf.Files() {
		if _, ok := files[f.Path]; ok {
			t.Errorf("%s is there twice", f.Path)
		}
		files[f.Path] = f
	}
	for path, want := range map[string]string{
		"etc/kernel/cmdline":                                     "root=ZFS=rpool/ROOT/default quiet\n",
		"usr/lib/kldload/repart.d/20-root.conf":                  "[Partition]\nType=6a898cc3-1dd2-11b2-99a6-080020736631\n",
		units + "kldload-identity.service":                       "ExecStart=/sbin/zpool reguid rpool\nExecStart=/sbin/zgenhostid -f\n",
		units + "kldload-growroot.service":                       "ExecStart=/usr/lib/kldload/grow-zfs-root rpool\n",
		units + "cloud-init-local.service.d/10-kldload-zfs.conf": "After=zfs-mount.service\n",
	} {
		if !strings.Contains(files[path].Content, want) {
			t.Errorf("%s: %q, want %q", path, files[path].Content, want)
		}
	}
	if got := files["etc/fstab"].Content; strings.Contains(got, " / ") || !strings.Contains(got, "UUID=ABCD-1234 /boot/efi vfat") {
		t.Errorf("fstab %q", got)
	}
	if _, ok := files["usr/lib/repart.d/20-root.conf"]; ok {
		t.Error("systemd-repart.service would run, and find no disk")
	}
	for _, path := range []string{BEScript, InitramfsHook} {
		if files[path].Mode != 0o755 {
			t.Errorf("%s: mode %o", path, files[path].Mode)
		}
	}
}

func TestRootsOnExt4KeepTheirFiles(t *testing.T) {
	for _, f := range conf.Files() {
		if strings.Contains(f.Path, "kldload-be") || strings.Contains(f.Content, "zpool") {
			t.Errorf("%s: %q", f.Path, f.Content)
		}
	}
}

func TestLoaderConfSelectsTheImagesEnvironment(t *testing.T) {
	m := memory{}
	e := NewESP(m, zfsConf)
	for name, text := range map[string]string{"boot/vmlinuz-1": "K", "boot/initrd.img-1": "I", LoaderInTree: "MZ"} {
		if err := e.Take(name, int64(len(text)), strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Finish(); err != nil || !strings.HasSuffix(m[LoaderConf], "\ndefault debian-*\n") {
		t.Errorf("%v, %q", err, m[LoaderConf])
	}
}
