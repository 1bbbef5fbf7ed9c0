package boot

import (
	_ "embed"
	"fmt"
	"strings"

	"github.com/kldload/kldload/internal/gpt"
)

// What a root on ZFS has beside the files of every root.
var (
	//go:embed files/kldload-be
	beScript string
	//go:embed files/be.conf
	beConf string
	//go:embed files/80kldload-be
	aptHook string
	//go:embed files/grow-zfs-root
	growScript string
	//go:embed files/initramfs-hook
	initramfsHook string
)

// Where a root on ZFS has them.
const (
	BEScript      = "usr/sbin/kldload-be"
	InitramfsHook = "etc/initramfs-tools/hooks/kldload-zfs"
	growPath      = "usr/lib/kldload/grow-zfs-root"
	repartDir     = "usr/lib/kldload/repart.d/"
)

// Pool is the first part of the dataset's name.
func (c Config) Pool() string {
	pool, _, _ := strings.Cut(c.RootDataset, "/")
	return pool
}

// zfsFiles leave the definitions of partitions out of systemd-repart's own
// folders: its unit would look for the disk of the root and find none.
func (c Config) zfsFiles() []File {
	pool := c.Pool()
	files := []File{
		{Path: BEScript, Mode: 0o755, Content: beScript},
		{Path: "etc/kldload/be.conf", Content: beConf},
		{Path: "etc/apt/apt.conf.d/80kldload-be", Content: aptHook},
		{Path: InitramfsHook, Mode: 0o755, Content: initramfsHook},
		{Path: growPath, Mode: 0o755, Content: growScript},
		{Path: repartDir + "10-esp.conf", Content: "[Partition]\nType=esp\n"},
		{Path: repartDir + "20-root.conf", Content: "[Partition]\nType=" + strings.ToLower(gpt.TypeZFS.String()) + "\n"},
		{Path: "etc/cloud/cloud.cfg.d/20-kldload-zfs.cfg", Content: cloudZFS},
		{Path: "etc/containers/storage.conf", Content: containersZFS},
	}
	// These write below datasets that zfs-mount.service mounts, and are ordered
	// by mount units, which datasets do not have.
	for _, unit := range []string{"systemd-journal-flush", "systemd-update-utmp", "cloud-init-local"} {
		files = append(files, File{Path: units + unit + ".service.d/10-kldload-zfs.conf", Content: "[Unit]\nAfter=zfs-mount.service\n"})
	}
	files = append(files, wanted("kldload-growroot.service", fmt.Sprintf(growZFSUnit, growPath, pool))...)
	return append(files, wanted("kldload-identity.service", identityUnit("ExecStart=/sbin/zpool reguid "+pool+"\n"))...)
}

// containersZFS: the kernel's overlayfs cannot write to OpenZFS before 2.2 (it
// wants RENAME_WHITEOUT), and podman's units fail with it at boot.
const containersZFS = `# written by kldload: overlayfs needs OpenZFS 2.2 below it
[storage]
driver = "overlay"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"

[storage.options.overlay]
mount_program = "/usr/bin/fuse-overlayfs"
`

// cloudZFS: the pool grows by kldload-growroot.service.
const cloudZFS = `# written by kldload: kldload-growroot.service grows the pool
growpart:
  mode: "off"
resize_rootfs: false
`

// growZFSUnit takes the script's path and the pool.
const growZFSUnit = `[Unit]
Description=Grow the root pool to its disk
DefaultDependencies=no
After=local-fs.target zfs-mount.service systemd-udevd.service
Before=sysinit.target shutdown.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/%s %s
`
