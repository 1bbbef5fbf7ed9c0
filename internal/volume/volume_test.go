package volume

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kldload/kldload/internal/gpt"
)

const mib = 1 << 20

// tool runs a foreign tool on a file.
func tool(t *testing.T, stdin string, args ...string) {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

// sparse makes an empty file.
func sparse(t *testing.T, size int64) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk")
	if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Truncate(name, size)); err != nil {
		t.Fatal(err)
	}
	return name
}

func opened(t *testing.T, name string) *Disk {
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
	d, err := Open(f, st.Size())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// names are what messages call a disk's volumes.
func names(d *Disk) string {
	var out []string
	for _, v := range d.Volumes {
		if v.Err != nil {
			out = append(out, v.Err.Error())
		}
		out = append(out, v.Name())
	}
	return strings.Join(out, ", ")
}

// system is a folder that looks like a root.
func system(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"etc", "usr", "boot"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestWholeDisks(t *testing.T) {
	for want, args := range map[string][]string{
		"the disk (ext4)":            {"mke2fs", "-q", "-t", "ext4"},
		"the disk (ext2/ext3)":       {"mke2fs", "-q", "-t", "ext3"},
		"the disk (fat)":             {"mkfs.vfat"},
		"the disk (swap)":            {"mkswap"},
		"the disk (unknown content)": {"stat"},
	} {
		disk := sparse(t, 64*mib)
		tool(t, "", append(args, disk)...)
		if got := names(opened(t, disk)); got != want {
			t.Errorf("%v: got %s, want %s", args, got, want)
		}
	}
}

func TestTables(t *testing.T) {
	part := func(args ...string) func(string) {
		return func(disk string) {
			file := sparse(t, 32*mib)
			tool(t, "", append(args, file)...)
			tool(t, "", "dd", "if="+file, "of="+disk, "bs=1M", "seek=33", "conv=notrunc,sparse", "status=none")
		}
	}
	root := part("mke2fs", "-q", "-t", "ext4", "-d", system(t))
	for name, layout := range map[string]string{
		"mbr": "label: dos\n1M,32M,c\n33M,32M,83\n",
		"gpt": "label: gpt\n1M,32M,U\n33M,32M,L\n",
	} {
		disk := sparse(t, 80*mib)
		tool(t, layout, "sfdisk", "-q", disk)
		tool(t, "", "mkfs.vfat", "--offset", "2048", disk, "32768")
		root(disk)
		d := opened(t, disk)
		if got, want := names(d), "partition 1 (fat), partition 2 (ext4)"; got != want || d.MBR != (name == "mbr") || (d.Table != nil) != (name == "gpt") {
			t.Errorf("%s: got %s, mbr %v", name, got, d.MBR)
		}
		found, err := d.Root()
		if err != nil || found.Volume != d.Volumes[1] || found.Dataset != "" {
			t.Errorf("%s: root %+v, %v", name, found, err)
		}
		if esp := d.ESP(); (esp == d.Volumes[0]) != (name == "gpt") {
			t.Errorf("%s: EFI system partition: %+v", name, esp)
		}
	}
}

func TestRootIsOfAnotherKind(t *testing.T) {
	for kind, m := range map[Kind]magic{XFS: magics[0], Btrfs: magics[1], LUKS: magics[2], LVM: magics[3]} {
		disk := sparse(t, 8*mib)
		f, err := os.OpenFile(disk, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		table := gpt.Table{Size: 8 * mib, Partitions: []gpt.Partition{{Type: gpt.TypeLinux, Start: mib, Size: 6 * mib, GUID: gpt.TypeLinux, Name: "root"}}}
		table.DiskGUID = gpt.TypeESP
		_, werr := f.WriteAt([]byte(m.text), mib+m.off)
		if err := errors.Join(gpt.Write(f, table), werr, f.Close()); err != nil {
			t.Fatal(err)
		}
		_, err = opened(t, disk).Root()
		if !errors.Is(err, ErrNoRoot) || !strings.Contains(err.Error(), "partition 1 ("+string(kind)+"): not supported: want ext4 or ZFS") {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestDamagedTable(t *testing.T) {
	disk := sparse(t, 8*mib)
	tool(t, "label: gpt\n1M,2M,L\n", "sfdisk", "-q", disk)
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, at := range []int64{512 + 60, 8*mib - 512 + 60} { // in both headers
		if _, err := f.WriteAt([]byte("damage"), at); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(f, 8*mib); err == nil {
		t.Error("a table with both copies damaged was taken")
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(make([]byte, 4096))
	f.Fuzz(func(_ *testing.T, data []byte) {
		d, err := Open(strings.NewReader(string(data)), int64(len(data)))
		if err == nil {
			_, _ = d.Root()
			_ = d.ESP()
		}
	})
}
