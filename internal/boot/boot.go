// Package boot knows how an image starts: systemd-boot on the EFI system
// partition, Boot Loader Specification type 1 entries (uapi-group.org, BLS 1.0)
// laid out as kernel-install does, so that a kernel update inside the machine
// refreshes the partition with the distribution's own hooks; and what grows the
// root on first boot. A root is ext4 or a ZFS dataset; the latter also gets boot
// environments (kldload-be).
//
// UEFI on amd64 only; no BIOS, no secure boot, no unified kernel images.
package boot

import (
	"fmt"
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

// Types of the root.
const (
	Ext4 = "ext4"
	ZFS  = "zfs"
)

// Config is what the boot files depend on.
type Config struct {
	RootType    string   // Ext4 or ZFS
	RootUUID    string   // of the root file system; not for ZFS
	RootDataset string   // "rpool/ROOT/default"; for ZFS alone
	ESPUUID     string   // XXXX-XXXX
	Parameters  []string // of the kernel, beside root=
}

// DefaultParameters reach a console on a screen and on a serial line. Azure's
// guides ask for rootdelay=300 as well; it is left out, because Debian's
// initramfs sleeps that long at every boot (initramfs-tools, init), and waits
// for a slow root device by itself.
var DefaultParameters = []string{"console=tty0", "console=ttyS0,115200n8"}

// Cmdline is the kernel's command line.
func (c Config) Cmdline() string {
	root := []string{"root=UUID=" + c.RootUUID, "ro"}
	if c.RootType == ZFS {
		root = []string{"root=ZFS=" + c.RootDataset} // initramfs-tools' scripts/zfs mounts it writable
	}
	return strings.Join(append(root, c.Parameters...), " ")
}

// File is one file to put into the root tree.
type File struct {
	Path    string
	Mode    uint32 // permission bits; 0 is 0644
	Content string
	Link    string // a symbolic link instead
}

// Files are what the root tree needs in order to start, to keep its ESP fresh,
// to be a machine of its own and to grow.
func (c Config) Files() []File {
	files := []File{
		{Path: "etc/fstab", Content: c.fstab()},
		{Path: "etc/kernel/cmdline", Content: c.Cmdline() + "\n"},
		{Path: "etc/kernel/entry-token", Content: Token + "\n"},
		{Path: "etc/kernel/install.conf", Content: "layout=bls\n"},
		{Path: units + "kldload-sshd-keygen.service", Content: keygenUnit},
		{Path: units + "ssh.service.d/10-kldload-keygen.conf", Content: "[Unit]\nWants=kldload-sshd-keygen.service\nAfter=kldload-sshd-keygen.service\n"},
	}
	files = append(files, wanted("kldload-wireguard-key.service", wireguardUnit)...)
	if c.RootType == ZFS {
		return append(files, c.zfsFiles()...)
	}
	return append(files, ext4Files()...)
}

// units is where the image's own units are.
const units = "usr/lib/systemd/system/"

// wanted gives a unit and the link by which sysinit.target wants it.
func wanted(name, text string) []File {
	return []File{{Path: units + name, Content: text}, {Path: units + "sysinit.target.wants/" + name, Link: "../" + name}}
}

func ext4Files() []File {
	return append(wanted("kldload-growroot.service", growUnit), append(wanted("kldload-identity.service", identityUnit("")),
		File{Path: "usr/lib/repart.d/10-esp.conf", Content: "[Partition]\nType=esp\n"},
		File{Path: "usr/lib/repart.d/20-root.conf", Content: "[Partition]\nType=root\n"})...)
}

// fstab has no line for a root on ZFS: the dataset says where it is mounted.
func (c Config) fstab() string {
	text := "# <file system> <mount point> <type> <options> <dump> <pass>\n"
	if c.RootType != ZFS {
		text += fmt.Sprintf("UUID=%s / %s defaults,errors=remount-ro 0 1\n", c.RootUUID, c.RootType)
	}
	return text + fmt.Sprintf("UUID=%s /boot/efi vfat umask=0077,shortname=winnt 0 2\n", c.ESPUUID)
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

// identityUnit makes the machine's host id, which the seal took out, after what
// else must be done once per machine: that the file is there says that it was.
func identityUnit(before string) string {
	return `[Unit]
Description=Give this machine its host id
DefaultDependencies=no
After=local-fs.target
Before=sysinit.target shutdown.target
Conflicts=shutdown.target
ConditionFileNotEmpty=!/etc/hostid
ConditionFileIsExecutable=/sbin/zgenhostid
ConditionPathIsReadWrite=/etc

[Service]
Type=oneshot
RemainAfterExit=yes
` + before + `ExecStart=/sbin/zgenhostid -f
ExecStart=/bin/sync /etc/hostid
`
}

// wireguardUnit makes a key pair where there is no private key, before any
// tunnel comes up. The private key gets its name last, when it is on the disk:
// that it is there says that all is done. It is never an argument nor output.
const wireguardUnit = `[Unit]
Description=Make the WireGuard key of this machine
DefaultDependencies=no
After=local-fs.target zfs-mount.service
Before=sysinit.target network-pre.target shutdown.target
Wants=network-pre.target
Conflicts=shutdown.target
ConditionPathExistsGlob=!/etc/wireguard/*priv*
ConditionFileIsExecutable=/usr/bin/wg
ConditionPathIsReadWrite=/etc

[Service]
Type=oneshot
RemainAfterExit=yes
UMask=0077
StandardOutput=null
ExecStart=/bin/sh -ec 'mkdir -p /etc/wireguard; cd /etc/wireguard; \
    wg genkey >.private.key.new; wg pubkey <.private.key.new >.public.key.new; chmod 644 .public.key.new; \
    sync .private.key.new .public.key.new; mv .public.key.new public.key; mv .private.key.new private.key; sync .'
`
