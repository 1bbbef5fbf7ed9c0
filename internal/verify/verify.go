// Package verify asserts, on a finished disk, what a build promises: it can
// boot and it is sealed. It opens the disk as a stranger would, from the
// partition table down, and believes nothing the build said.
//
// It reads what package volume reads, boot entries of systemd-boot and GRUB's
// grub.cfg on the root. What it cannot show is that the machine comes up, which
// is a real boot's to show.
package verify

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/kldload/kldload/internal/boot"
	"github.com/kldload/kldload/internal/seal"
	"github.com/kldload/kldload/internal/volume"
)

// Check is one assertion and how it went.
type Check struct {
	Name   string `json:"name"`
	Group  Group  `json:"group"`
	Why    string `json:"why,omitempty"`    // of an item of the seal
	Detail string `json:"detail,omitempty"` // what was found
	Err    error  `json:"-"`
	Error  string `json:"error,omitempty"`
	// Violations are the files that break an item of the seal.
	Violations []seal.Violation `json:"violations,omitempty"`
}

// Group is what an assertion speaks of.
type Group string

// The groups: a boot needs it, or the seal does.
const (
	Boot Group = "boot"
	Seal Group = "seal"
)

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

// image is the disk opened.
type image struct {
	disk     *volume.Disk
	esp      fs.ReadDirFS // nil without one
	root     Root         // nil without one
	volume   *volume.Root // that root is in
	rootType string       // boot.Ext4 or boot.ZFS
	devices  []device
	kernels  []kernel
}

// Root is the root file system, of whatever type: names have no leading slash.
type Root interface {
	fs.ReadLinkFS
	// Resolve gives the name that a path with links leads to.
	Resolve(name string) (string, error)
}

// device is a file system of the disk, with the names by which a kernel and
// fstab call it (fstab(5)): the first is the one that we write.
type device struct {
	names  []string
	mounts []string // where it may be mounted
	must   bool     // fstab has to name it
}

// Disk runs every assertion on the raw content of a disk: those of the boot,
// then one for each item of the seal. Without a root there is nothing to look
// into, and the first is all.
func Disk(r io.ReaderAt, size int64, opts Options) []Check {
	m := &image{}
	checks := []Check{run("partitions", Boot, func() (string, error) { return m.open(r, size) })}
	if m.root == nil {
		return checks
	}
	for _, s := range []struct {
		name  string
		check func() (string, error)
	}{
		{"loader", m.loader},
		{"entries", m.bootEntries},
		{"kernel modules", m.modules},
		{"initramfs", m.initramfs},
		{"fstab", m.fstab},
	} {
		checks = append(checks, run(s.name, Boot, s.check))
	}
	if m.rootType == boot.ZFS {
		checks = append(checks, run("pool", Boot, m.pool))
	}
	checks = append(checks, run("accounts", Seal, m.accounts))
	checks = append(checks, m.sealed(opts.Seal)...)
	if m.rootType == boot.ZFS {
		checks = append(checks, m.otherRoots(opts.Seal))
	}
	return checks
}

func run(name string, group Group, check func() (string, error)) Check {
	detail, err := check()
	c := Check{Name: name, Group: group, Detail: detail, Err: err}
	if err != nil {
		c.Error = err.Error()
	}
	return c
}

// open finds root and EFI system partition.
func (m *image) open(r io.ReaderAt, size int64) (string, error) {
	var err error
	if m.disk, err = volume.Open(r, size); err != nil {
		return "", err
	}
	root, err := m.disk.Root()
	if err != nil {
		return "", err
	}
	m.root, m.volume = root, root
	m.rootDevice()
	if m.disk.Table == nil {
		return "", errors.New("no GUID partition table: UEFI firmware starts nothing from the disk")
	}
	v := m.disk.ESP()
	if v == nil {
		return "", errors.New("no EFI system partition: want one of that type with FAT in it (UEFI 2.10, 13.3)")
	}
	m.esp = v.FAT
	id := v.FAT.VolumeID()
	m.devices = append(m.devices, device{
		names:  append([]string{fmt.Sprintf("UUID=%04X-%04X", id>>16, id&0xffff)}, byPartition(v, v.FAT.Label())...),
		mounts: []string{"/boot/efi", "/efi", "/boot"}, must: true,
	})
	if m.disk.Table.Problem != "" {
		return "", errors.New(m.disk.Table.Problem)
	}
	return fmt.Sprintf("%d partitions, ESP %s, root %s", len(m.disk.Volumes), m.devices[1].names[0][len("UUID="):], m.devices[0].names[0]), nil
}

// rootDevice notes how the root is called.
func (m *image) rootDevice() {
	if m.volume.Tree != nil {
		m.rootType = boot.ZFS
		m.devices = []device{{names: []string{"ZFS=" + m.volume.Dataset}}}
		return
	}
	m.rootType = boot.Ext4
	u := m.volume.Volume.Ext4.UUID()
	uuid := fmt.Sprintf("UUID=%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
	m.devices = []device{{
		names:  append([]string{uuid}, byPartition(m.volume.Volume, m.volume.Volume.Ext4.Label())...),
		mounts: []string{"/"}, must: true,
	}}
}

// byPartition names a file system by its label and its partition.
func byPartition(v *volume.Volume, label string) []string {
	var names []string
	if label != "" {
		names = append(names, "LABEL="+label)
	}
	if v.Partition.Number > 0 {
		names = append(names, "PARTUUID="+strings.ToLower(v.Partition.GUID.String()))
		if v.Partition.Name != "" {
			names = append(names, "PARTLABEL="+v.Partition.Name)
		}
	}
	return names
}

// maxText bounds the files that are read whole.
const maxText = 16 << 20

// read gives a file of the root, whose name may have links in it.
func (m *image) read(name string) (string, error) {
	f, err := m.openRoot(name)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxText))
	return string(b), errors.Join(err, f.Close())
}

func (m *image) openRoot(name string) (fs.File, error) {
	real, err := m.root.Resolve(name)
	if err != nil {
		return nil, err
	}
	return m.root.Open(real)
}

func (m *image) exists(name string) bool {
	_, err := m.root.Resolve(name)
	return err == nil
}
