// Package verify asserts, on a finished disk, what a build promises: it can
// boot and it is sealed. It opens the disk as a stranger would, from the
// partition table down, and believes nothing the build said.
//
// It reads GPT, FAT, ext4 and ZFS; what it cannot show is that the machine comes
// up, which is a real boot's to show.
package verify

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/kldload/kldload/internal/boot"
	"github.com/kldload/kldload/internal/ext4"
	"github.com/kldload/kldload/internal/fat"
	"github.com/kldload/kldload/internal/gpt"
	"github.com/kldload/kldload/internal/seal"
	"github.com/kldload/kldload/zfs"
)

// Check is one assertion and how it went.
type Check struct {
	Name   string `json:"name"`
	Detail string `json:"detail,omitempty"` // what was found
	Err    error  `json:"-"`
	Error  string `json:"error,omitempty"`
}

// Options are what the image is allowed to say.
type Options struct {
	Seal seal.Options
}

// Failed joins the errors of the checks that failed.
func Failed(checks []Check) error {
	var errs []error
	for _, c := range checks {
		if c.Err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.Name, c.Err))
		}
	}
	return errors.Join(errs...)
}

// Root is the root file system, of whatever type: names have no leading slash.
type Root interface {
	fs.ReadLinkFS
	// Resolve gives the name that a path with links leads to.
	Resolve(name string) (string, error)
}

// image is the disk opened.
type image struct {
	esp      fs.ReadDirFS
	root     Root
	rootType string // boot.Ext4 or boot.ZFS
	rootArg  string // how the kernel's root= names it: UUID=…, ZFS=rpool/ROOT/default
	espUUID  string
	entries  []boot.Entry
	versions []string
}

// Disk runs every assertion on the raw content of a disk.
func Disk(r io.ReaderAt, size int64, opts Options) []Check {
	img := &image{}
	steps := []struct {
		name  string
		check func() (string, error)
	}{
		{"partitions", func() (string, error) { return img.open(r, size) }},
		{"loader", img.loader},
		{"entries", img.bootEntries},
		{"kernel modules", img.modules},
		{"initramfs", img.initramfs},
		{"fstab", img.fstab},
		{"sealed", func() (string, error) { return img.sealed(opts.Seal) }},
	}
	var checks []Check
	for _, s := range steps {
		detail, err := s.check()
		c := Check{Name: s.name, Detail: detail, Err: err}
		if err != nil {
			c.Error = err.Error()
		}
		checks = append(checks, c)
		if err != nil && s.name == "partitions" {
			break // nothing to look into
		}
	}
	return checks
}

func (m *image) open(r io.ReaderAt, size int64) (string, error) {
	table, err := gpt.Read(r, size)
	if err != nil {
		return "", err
	}
	if table.Problem != "" {
		return "", errors.New(table.Problem)
	}
	for _, p := range table.Partitions {
		part := io.NewSectionReader(r, p.Start, p.Size)
		switch p.Type {
		case gpt.TypeESP:
			if err := m.openESP(part, p.Size); err != nil {
				return "", fmt.Errorf("EFI system partition: %w", err)
			}
		case gpt.TypeLinuxRootX8664:
			if err := m.openExt4(part, p.Size); err != nil {
				return "", fmt.Errorf("root partition: %w", err)
			}
		case gpt.TypeZFS:
			if err := m.openZFS(part, p.Size); err != nil {
				return "", fmt.Errorf("root partition: %w", err)
			}
		}
	}
	if m.esp == nil || m.root == nil {
		return "", errors.New("want an EFI system partition and a root partition (types of the UEFI and Discoverable Partitions specifications)")
	}
	return fmt.Sprintf("%d partitions, ESP %s, root %s", len(table.Partitions), m.espUUID, m.rootArg), nil
}

func (m *image) openESP(r io.ReaderAt, size int64) error {
	esp, err := fat.Open(r, size)
	if err != nil {
		return err
	}
	m.esp, m.espUUID = esp, fmt.Sprintf("%04X-%04X", esp.VolumeID()>>16, esp.VolumeID()&0xffff)
	return nil
}

func (m *image) openExt4(r io.ReaderAt, size int64) error {
	root, err := ext4.Open(r, size)
	if err != nil {
		return err
	}
	u := root.UUID()
	m.root, m.rootType, m.rootArg = root, boot.Ext4, fmt.Sprintf("UUID=%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
	return nil
}

// openZFS takes what a boot would: the pool's bootfs, with the other datasets
// at their mountpoints.
func (m *image) openZFS(r io.ReaderAt, size int64) error {
	pool, err := zfs.Open(r, size)
	if err != nil {
		return err
	}
	tree, err := pool.Tree("")
	if err != nil {
		return err
	}
	m.root, m.rootType, m.rootArg = tree, boot.ZFS, "ZFS="+pool.Properties()["bootfs"]
	return nil
}

// loader asserts that firmware with empty variables finds a program to start.
func (m *image) loader() (string, error) {
	b, err := fs.ReadFile(m.esp, boot.RemovableLoader)
	if err != nil {
		return "", err
	}
	if len(b) < 4096 || string(b[:2]) != "MZ" {
		return "", fmt.Errorf("%s is no PE program (%d bytes)", boot.RemovableLoader, len(b))
	}
	return boot.RemovableLoader, nil
}

// bootEntries asserts that each entry leads to files, and to this root.
func (m *image) bootEntries() (string, error) {
	list, err := m.esp.ReadDir(boot.EntriesDir)
	if err != nil {
		return "", err
	}
	for _, d := range list {
		text, err := fs.ReadFile(m.esp, path.Join(boot.EntriesDir, d.Name()))
		if err != nil {
			return "", err
		}
		e, err := boot.ParseEntry(d.Name(), text)
		if err != nil {
			return "", err
		}
		for _, name := range append([]string{e.Linux}, e.Initrd...) {
			if st, err := fs.Stat(m.esp, name); err != nil || st.Size() == 0 {
				return "", fmt.Errorf("entry %s: %s: missing or empty (%w)", d.Name(), name, err)
			}
		}
		if want := "root=" + m.rootArg; !strings.Contains(" "+e.Options+" ", " "+want+" ") {
			return "", fmt.Errorf("entry %s: options %q: want %s", d.Name(), e.Options, want)
		}
		m.entries = append(m.entries, e)
	}
	if len(m.entries) == 0 {
		return "", fmt.Errorf("no entry in %s", boot.EntriesDir)
	}
	return fmt.Sprintf("%d, newest %s", len(m.entries), m.entries[len(m.entries)-1].Version), nil
}

// modules asserts that each kernel that can be chosen has its modules, the
// ZFS ones too where the ZFS tools are installed.
func (m *image) modules() (string, error) {
	zfsTools := m.exists("usr/sbin/zpool") || m.exists("sbin/zpool")
	for _, e := range m.entries {
		dir, err := m.root.Resolve("lib/modules/" + e.Version)
		if err != nil {
			return "", fmt.Errorf("kernel %s: %w", e.Version, err)
		}
		if !m.exists(dir + "/modules.dep") {
			return "", fmt.Errorf("kernel %s: no modules.dep in /%s", e.Version, dir)
		}
		if zfsTools {
			if err := m.zfsModule(dir); err != nil {
				return "", fmt.Errorf("kernel %s: %w", e.Version, err)
			}
		}
		m.versions = append(m.versions, e.Version)
	}
	detail := strings.Join(m.versions, ", ")
	if zfsTools {
		detail += ", with zfs"
	}
	return detail, nil
}

func (m *image) zfsModule(dir string) error {
	dep, err := fs.ReadFile(m.root, dir+"/modules.dep")
	if err != nil {
		return err
	}
	for _, line := range strings.Split(string(dep), "\n") {
		name, _, _ := strings.Cut(line, ":")
		if base := path.Base(name); strings.HasPrefix(base, "zfs.ko") {
			if m.exists(dir + "/" + name) {
				return nil
			}
			return fmt.Errorf("modules.dep names %s, which is not there", name)
		}
	}
	return errors.New("the ZFS tools are installed, but modules.dep has no zfs module")
}

func (m *image) exists(name string) bool {
	name, err := m.root.Resolve(name)
	if err != nil {
		return false
	}
	_, err = m.root.Lstat(name)
	return err == nil
}

// fstab asserts that everything that is mounted exists. A root on ZFS has no
// line: its dataset says where it is mounted.
func (m *image) fstab() (string, error) {
	text, err := fs.ReadFile(m.root, "etc/fstab")
	if err != nil {
		return "", err
	}
	known := map[string]string{"UUID=" + m.espUUID: "/boot/efi"}
	if m.rootType != boot.ZFS {
		known[m.rootArg] = "/"
	}
	found := 0
	for _, line := range strings.Split(string(text), "\n") {
		f := strings.Fields(line)
		if len(f) < 3 || strings.HasPrefix(f[0], "#") || !strings.HasPrefix(f[0], "UUID=") && !strings.HasPrefix(f[0], "/dev/") {
			continue
		}
		if known[f[0]] == "" {
			return "", fmt.Errorf("%s is on no partition of this disk (line %q)", f[0], line)
		}
		if known[f[0]] != f[1] {
			return "", fmt.Errorf("%s is mounted on %s: want %s", f[0], f[1], known[f[0]])
		}
		found++
	}
	if found != len(known) {
		return "", fmt.Errorf("%d of %d partitions are mounted", found, len(known))
	}
	return fmt.Sprintf("%d mounts", found), nil
}

func (m *image) sealed(opts seal.Options) (string, error) {
	items, err := seal.Check(m.root, opts)
	if err != nil {
		return "", err
	}
	var errs []error
	for _, item := range items {
		for _, v := range item.Violations {
			errs = append(errs, errors.New(v.String()))
		}
	}
	return fmt.Sprintf("%d items", len(items)), errors.Join(errs...)
}
