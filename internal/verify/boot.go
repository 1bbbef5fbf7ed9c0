package verify

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/kldload/kldload/internal/boot"
)

// kernel is one that the firmware's way leads to.
type kernel struct {
	boot.Entry
	open func(name string) (fs.File, error) // of the file system that the entry's names are in
}

var errNoESP = errors.New("no EFI system partition to look into")

// loader asserts that firmware with empty variables finds a program to start.
func (m *image) loader() (string, error) {
	if m.esp == nil {
		return "", errNoESP
	}
	st, err := fs.Stat(m.esp, boot.RemovableLoader)
	if err != nil {
		return "", fmt.Errorf("%w\nhint: firmware with empty variables starts this file alone (UEFI 2.10, 3.5.1.1)", err)
	}
	f, err := m.esp.Open(boot.RemovableLoader)
	if err != nil {
		return "", err
	}
	head := make([]byte, 2)
	_, err = io.ReadFull(f, head)
	if err := f.Close(); err != nil {
		return "", err
	}
	if st.Size() < 4096 || err != nil || string(head) != "MZ" {
		return "", fmt.Errorf("%s is no PE program (%d bytes)", boot.RemovableLoader, st.Size())
	}
	return boot.RemovableLoader, nil
}

// bootEntries asserts that each entry leads to files, and to this root. Where
// the partition has none, GRUB's menu on the root is taken.
func (m *image) bootEntries() (string, error) {
	if m.esp == nil {
		return "", errNoESP
	}
	kernels, from, err := m.findEntries()
	if err != nil {
		return "", err
	}
	for _, k := range kernels {
		for _, name := range append([]string{k.Linux}, k.Initrd...) {
			if err := k.hasFile(name); err != nil {
				return "", fmt.Errorf("entry %s: %s: missing or empty: %w", k.File, name, err)
			}
		}
		if !m.namesRoot(k.Options) {
			return "", fmt.Errorf("entry %s: options %q: want root=%s", k.File, k.Options, strings.Join(m.devices[0].names, " or "))
		}
	}
	m.kernels = kernels
	return fmt.Sprintf("%d, of %s, newest %s", len(kernels), from, kernels[len(kernels)-1].Version), nil
}

func (k kernel) hasFile(name string) error {
	f, err := k.open(name)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err == nil && st.Size() == 0 {
		err = errors.New("0 bytes")
	}
	return errors.Join(err, f.Close())
}

// namesRoot tells whether a kernel's options lead to the root.
func (m *image) namesRoot(options string) bool {
	return slices.ContainsFunc(strings.Fields(options), func(o string) bool {
		name, ok := strings.CutPrefix(o, "root=")
		return ok && slices.Contains(m.devices[0].names, name)
	})
}

// findEntries gives at least one entry.
func (m *image) findEntries() ([]kernel, string, error) {
	list, err := m.esp.ReadDir(boot.EntriesDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, "", err
	}
	var kernels []kernel
	for _, d := range list {
		text, err := fs.ReadFile(m.esp, path.Join(boot.EntriesDir, d.Name()))
		if err != nil {
			return nil, "", err
		}
		e, err := boot.ParseEntry(d.Name(), text)
		if err != nil {
			return nil, "", err
		}
		kernels = append(kernels, kernel{e, m.esp.Open})
	}
	if len(kernels) > 0 {
		return kernels, "systemd-boot", nil
	}
	for _, name := range []string{"boot/grub/grub.cfg", "boot/grub2/grub.cfg"} {
		text, err := m.read(name)
		if err != nil {
			continue
		}
		for _, e := range grubEntries(path.Base(name), text) {
			kernels = append(kernels, kernel{e, m.openRoot})
		}
		if len(kernels) > 0 {
			return kernels, "GRUB", nil
		}
	}
	return nil, "", fmt.Errorf("no entry in %s of the EFI system partition, and none of GRUB's in /boot/grub/grub.cfg of the root", boot.EntriesDir)
}

// maxGrubEntries bounds a menu.
const maxGrubEntries = 100

// grubEntries reads the kernels of a menu that grub-mkconfig made, each once,
// with the options of the first entry that has it; names in a boot partition
// of its own are not found.
func grubEntries(file, text string) []boot.Entry {
	var all []boot.Entry
	seen := map[string]bool{}
	last := -1 // entry that an initrd line belongs to
	for line := range strings.SplitSeq(text, "\n") {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "linux", "linuxefi":
			name := strings.TrimPrefix(path.Clean("/"+f[1]), "/")
			if last = -1; seen[name] || len(all) == maxGrubEntries {
				continue
			}
			seen[name] = true
			_, version, _ := strings.Cut(path.Base(name), "-")
			all = append(all, boot.Entry{File: file, Version: version, Linux: name, Options: strings.Join(f[2:], " ")})
			last = len(all) - 1
		case "initrd", "initrdefi":
			if last < 0 {
				continue
			}
			for _, name := range f[1:] {
				all[last].Initrd = append(all[last].Initrd, strings.TrimPrefix(path.Clean("/"+name), "/"))
			}
		}
	}
	slices.Reverse(all) // GRUB's newest is first
	return all
}

var errNoEntry = errors.New("no boot entry that leads to a kernel")

// modules asserts that each kernel that can be chosen has its modules, the
// ZFS ones too where the ZFS tools are installed.
func (m *image) modules() (string, error) {
	if len(m.kernels) == 0 {
		return "", errNoEntry
	}
	zfsTools := m.exists("usr/sbin/zpool") || m.exists("sbin/zpool")
	var versions []string
	for _, k := range m.kernels {
		dir, err := m.root.Resolve("lib/modules/" + k.Version)
		if err != nil {
			return "", fmt.Errorf("kernel %s: %w", k.Version, err)
		}
		if !m.exists(dir + "/modules.dep") {
			return "", fmt.Errorf("kernel %s: no modules.dep in /%s", k.Version, dir)
		}
		if zfsTools {
			if err := m.zfsModule(dir); err != nil {
				return "", fmt.Errorf("kernel %s: %w", k.Version, err)
			}
		}
		versions = append(versions, k.Version)
	}
	detail := strings.Join(versions, ", ")
	if zfsTools {
		detail += ", with zfs"
	}
	return detail, nil
}

func (m *image) zfsModule(dir string) error {
	dep, err := m.read(dir + "/modules.dep")
	if err != nil {
		return err
	}
	for line := range strings.SplitSeq(dep, "\n") {
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

// fstab asserts that everything that is mounted exists. A root on ZFS has no
// line: its dataset says where it is mounted.
func (m *image) fstab() (string, error) {
	text, err := m.read("etc/fstab")
	if err != nil {
		return "", err
	}
	found := map[string]bool{}
	for line := range strings.SplitSeq(text, "\n") {
		f := strings.Fields(line)
		if len(f) < 3 || !strings.Contains(f[0], "UUID=") && !strings.Contains(f[0], "LABEL=") && !strings.HasPrefix(f[0], "/dev/") ||
			strings.HasPrefix(f[0], "#") {
			continue
		}
		i := slices.IndexFunc(m.devices, func(d device) bool { return slices.Contains(d.names, f[0]) })
		switch {
		case i < 0 && len(f) > 3 && (strings.Contains(f[3], "nofail") || strings.Contains(f[3], "noauto")):
		case i < 0:
			return "", fmt.Errorf("%s is on no partition of this disk (line %q)", f[0], line)
		case !slices.Contains(m.devices[i].mounts, f[1]):
			return "", fmt.Errorf("%s is mounted on %s: want %s", f[0], f[1], strings.Join(m.devices[i].mounts, " or "))
		default:
			found[m.devices[i].names[0]] = true
		}
	}
	for _, d := range m.devices {
		if d.must && !found[d.names[0]] {
			return "", fmt.Errorf("%s is not mounted: want it on %s", d.names[0], d.mounts[0])
		}
	}
	return fmt.Sprintf("%d mounts", len(found)), nil
}
