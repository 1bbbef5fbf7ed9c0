// Package boot knows how an image starts: systemd-boot on the EFI system
// partition, Boot Loader Specification type 1 entries (uapi-group.org, BLS 1.0)
// laid out as kernel-install does, so that a kernel update inside the machine
// refreshes the partition with the distribution's own hooks; and what grows the
// root on first boot.
//
// UEFI on amd64 only; no BIOS, no secure boot, no unified kernel images.
package boot

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"path"
	"sort"
	"strings"
)

// Paths on the EFI system partition. The first is what firmware starts when
// its variables are empty (UEFI 2.10, 3.5.1.1).
const (
	RemovableLoader = "EFI/BOOT/BOOTX64.EFI"
	SystemdLoader   = "EFI/systemd/systemd-bootx64.efi"
	LoaderConf      = "loader/loader.conf"
	EntriesDir      = "loader/entries"
	// EntriesSRel tells what kind of entries there are (BLS 1.0).
	EntriesSRel = "loader/entries.srel"
)

// LoaderInTree is where Debian's systemd-boot-efi has the loader.
const LoaderInTree = "usr/lib/systemd/boot/efi/systemd-bootx64.efi"

// Token names the entries of this system in place of the machine-id, which
// an image does not have (kernel-install(8), entry-token).
const Token = "debian"

// Config is what the boot files depend on.
type Config struct {
	RootUUID   string   // of the root file system
	RootType   string   // "ext4"
	ESPUUID    string   // XXXX-XXXX
	Parameters []string // of the kernel, beside root=
}

// DefaultParameters reach a console on a screen and on a serial line. Azure's
// guides ask for rootdelay=300 as well; it is left out, because Debian's
// initramfs sleeps that long at every boot (initramfs-tools, init), and waits
// for a slow root device by itself.
var DefaultParameters = []string{"console=tty0", "console=ttyS0,115200n8"}

// Cmdline is the kernel's command line.
func (c Config) Cmdline() string {
	return strings.Join(append([]string{"root=UUID=" + c.RootUUID, "ro"}, c.Parameters...), " ")
}

// File is one file to put into the root tree.
type File struct {
	Path    string
	Mode    uint32 // permission bits; 0 is 0644
	Content string
	Link    string // a symbolic link instead
}

// Files are what the root tree needs in order to start, to keep its ESP fresh
// and to grow.
func (c Config) Files() []File {
	return []File{
		{Path: "etc/fstab", Content: c.fstab()},
		{Path: "etc/kernel/cmdline", Content: c.Cmdline() + "\n"},
		{Path: "etc/kernel/entry-token", Content: Token + "\n"},
		{Path: "etc/kernel/install.conf", Content: "layout=bls\n"},
		{Path: "usr/lib/repart.d/10-esp.conf", Content: "[Partition]\nType=esp\n"},
		{Path: "usr/lib/repart.d/20-root.conf", Content: "[Partition]\nType=root\n"},
		{Path: "usr/lib/systemd/system/kldload-growroot.service", Content: growUnit},
		{Path: "usr/lib/systemd/system/sysinit.target.wants/kldload-growroot.service", Link: "../kldload-growroot.service"},
		{Path: "usr/lib/systemd/system/kldload-sshd-keygen.service", Content: keygenUnit},
		{Path: "usr/lib/systemd/system/ssh.service.d/10-kldload-keygen.conf", Content: "[Unit]\nWants=kldload-sshd-keygen.service\nAfter=kldload-sshd-keygen.service\n"},
	}
}

func (c Config) fstab() string {
	return fmt.Sprintf("# <file system> <mount point> <type> <options> <dump> <pass>\n"+
		"UUID=%s / %s defaults,errors=remount-ro 0 1\n"+
		"UUID=%s /boot/efi vfat umask=0077,shortname=winnt 0 2\n", c.RootUUID, c.RootType, c.ESPUUID)
}

// growUnit grows the file system after systemd-repart.service grew the
// partition; both do nothing when there is nothing to grow.
const growUnit = `[Unit]
Description=Grow the root file system to its partition
DefaultDependencies=no
After=systemd-repart.service systemd-remount-fs.service
Before=shutdown.target
Conflicts=shutdown.target
ConditionPathIsReadWrite=/

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/lib/systemd/systemd-growfs /
`

// keygenUnit makes host keys where cloud-init did not.
const keygenUnit = `[Unit]
Description=Make the SSH host keys of this machine
After=cloud-init.service
Before=ssh.service
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/ssh-keygen -A
`

// ESP gathers, while a root tree streams by, what the EFI system partition
// needs of it, and writes it.
type ESP struct {
	fs      Creator
	conf    Config
	title   string
	sortKey string
	loader  []byte
	kernels map[string]bool // version → has an initramfs
	linux   map[string]bool
}

// Creator makes files on the partition; parents are made as needed.
type Creator interface {
	Create(name string, size int64, body io.Reader) error
}

// NewESP writes through fs.
func NewESP(fs Creator, conf Config) *ESP {
	return &ESP{fs: fs, conf: conf, kernels: map[string]bool{}, linux: map[string]bool{}}
}

// Wants tells whether the regular file name of the tree concerns the ESP.
func (e *ESP) Wants(name string) bool {
	dir, base := path.Split(name)
	return dir == "boot/" && (strings.HasPrefix(base, "vmlinuz-") || strings.HasPrefix(base, "initrd.img-")) ||
		name == LoaderInTree || name == "usr/lib/os-release"
}

// Take reads a file that Wants named.
func (e *ESP) Take(name string, size int64, body io.Reader) error {
	base := path.Base(name)
	if version, ok := strings.CutPrefix(base, "vmlinuz-"); ok {
		e.linux[version] = true
		return e.fs.Create(EntryDir(version)+"/linux", size, body)
	}
	if version, ok := strings.CutPrefix(base, "initrd.img-"); ok {
		e.kernels[version] = true
		return e.fs.Create(EntryDir(version)+"/"+base, size, body)
	}
	text, err := io.ReadAll(io.LimitReader(body, 4<<20))
	if err != nil {
		return err
	}
	if name == LoaderInTree {
		e.loader = text
		return nil
	}
	e.title, e.sortKey = osRelease(text)
	return nil
}

// EntryDir is where kernel-install puts a version's files.
func EntryDir(version string) string { return Token + "/" + version }

// EntryName is the entry's file.
func EntryName(version string) string { return EntriesDir + "/" + Token + "-" + version + ".conf" }

// Finish writes the loader, its configuration and one entry per kernel.
func (e *ESP) Finish() error {
	versions, err := e.complete()
	if err != nil {
		return err
	}
	files := map[string][]byte{
		RemovableLoader: e.loader, SystemdLoader: e.loader,
		LoaderConf:  []byte("timeout 3\nconsole-mode keep\neditor no\n"),
		EntriesSRel: []byte("type1\n"),
	}
	for _, v := range versions {
		files[EntryName(v)] = []byte(e.entry(v))
	}
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		if err := e.fs.Create(name, int64(len(files[name])), bytes.NewReader(files[name])); err != nil {
			return err
		}
	}
	return nil
}

func (e *ESP) complete() ([]string, error) {
	if len(e.loader) == 0 {
		return nil, fmt.Errorf("filling the EFI system partition: the tree has no %s\nhint: add systemd-boot to the package set", LoaderInTree)
	}
	var versions []string
	for v := range e.linux {
		if !e.kernels[v] {
			return nil, fmt.Errorf("filling the EFI system partition: kernel %s has no boot/initrd.img-%s", v, v)
		}
		versions = append(versions, v)
	}
	if len(versions) == 0 {
		return nil, fmt.Errorf("filling the EFI system partition: the tree has no boot/vmlinuz-*")
	}
	sort.Strings(versions)
	return versions, nil
}

func (e *ESP) entry(version string) string {
	dir := "/" + EntryDir(version)
	return fmt.Sprintf("title      %s\nversion    %s\nsort-key   %s\noptions    %s\nlinux      %s/linux\ninitrd     %s/initrd.img-%s\n",
		e.title, version, e.sortKey, e.conf.Cmdline(), dir, dir, version)
}

// osRelease reads PRETTY_NAME and ID (os-release(5)).
func osRelease(text []byte) (title, id string) {
	title, id = "Linux", "linux"
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		key, value, _ := strings.Cut(s.Text(), "=")
		value = strings.Trim(value, `"'`)
		switch key {
		case "PRETTY_NAME":
			title = value
		case "ID":
			id = value
		}
	}
	return title, id
}

// Entry is a parsed boot entry (BLS 1.0, type 1).
type Entry struct {
	File    string
	Version string
	Linux   string // path on the ESP, no leading slash
	Initrd  []string
	Options string
}

// ParseEntry reads an entry's text.
func ParseEntry(file string, text []byte) (Entry, error) {
	e := Entry{File: file}
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		key, value, _ := strings.Cut(strings.TrimSpace(s.Text()), " ")
		value = strings.TrimSpace(value)
		switch key {
		case "version":
			e.Version = value
		case "linux":
			e.Linux = strings.TrimPrefix(value, "/")
		case "initrd":
			e.Initrd = append(e.Initrd, strings.TrimPrefix(value, "/"))
		case "options":
			e.Options = strings.TrimSpace(e.Options + " " + value)
		}
	}
	if e.Linux == "" {
		return e, fmt.Errorf("reading boot entry %s: no linux line", file)
	}
	return e, nil
}
