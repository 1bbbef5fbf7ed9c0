package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/kldload/kldload/internal/run"
)

// firmware is a pair of OVMF flash images: code, and empty variables.
type firmware struct{ Code, Vars string }

// firmwares are where distributions put OVMF without Secure Boot, best first.
var firmwares = []firmware{
	{"usr/share/OVMF/OVMF_CODE_4M.fd", "usr/share/OVMF/OVMF_VARS_4M.fd"},                   // Debian, Ubuntu
	{"usr/share/OVMF/OVMF_CODE.fd", "usr/share/OVMF/OVMF_VARS.fd"},                         // their older releases
	{"usr/share/edk2/ovmf/OVMF_CODE.fd", "usr/share/edk2/ovmf/OVMF_VARS.fd"},               // Fedora, CentOS
	{"usr/share/edk2/x64/OVMF_CODE.4m.fd", "usr/share/edk2/x64/OVMF_VARS.4m.fd"},           // Arch
	{"usr/share/edk2-ovmf/x64/OVMF_CODE.fd", "usr/share/edk2-ovmf/x64/OVMF_VARS.fd"},       // older Arch
	{"usr/share/qemu/ovmf-x86_64-4m-code.bin", "usr/share/qemu/ovmf-x86_64-4m-vars.bin"},   // openSUSE
	{"usr/share/qemu/edk2-x86_64-code.fd", "usr/share/qemu/edk2-i386-vars.fd"},             // QEMU's own
	{"usr/local/share/qemu/edk2-x86_64-code.fd", "usr/local/share/qemu/edk2-i386-vars.fd"}, // the same, built here
	{"opt/homebrew/share/qemu/edk2-x86_64-code.fd", "opt/homebrew/share/qemu/edk2-i386-vars.fd"},
}

// findFirmware looks for OVMF under root.
func findFirmware(root string) (firmware, error) {
	for _, f := range firmwares {
		found := firmware{filepath.Join(root, f.Code), filepath.Join(root, f.Vars)}
		if isFile(found.Code) && isFile(found.Vars) {
			return found, nil
		}
	}
	return firmware{}, fmt.Errorf("no UEFI firmware: want one of OVMF's, such as %q\nhint: apt-get install ovmf (or: make deps)",
		filepath.Join(root, firmwares[0].Code))
}

func isFile(name string) bool {
	st, err := os.Stat(name)
	return err == nil && st.Mode().IsRegular()
}

// diskDevices are the guest's ends of the disk, by Packer's disk_interface.
var diskDevices = map[string][]string{
	"virtio":      {"-device", "virtio-blk-pci,drive=disk,bootindex=0"},
	"virtio-scsi": {"-device", "virtio-scsi-pci", "-device", "scsi-hd,drive=disk,bootindex=0"},
	"sata":        {"-device", "ide-hd,drive=disk,bootindex=0"}, // q35 has an AHCI controller
	"nvme":        {"-device", "nvme,drive=disk,serial=disk,bootindex=0"},
}

// qemuArgs is the whole command line. Every file is in work, but the
// firmware's code, the extra disks and the serial log.
func qemuArgs(l launch, work string, accel Accel, serial string) []string {
	cfg, fw := l.cfg, l.firmware
	in := func(name string) string { return filepath.Join(work, name) }
	restrict := "on"
	if cfg.Network {
		restrict = "off"
	}
	args := append([]string{qemu}, accelArgs(accel)...)
	args = append(args,
		"-name", "guest="+cfg.Name,
		"-machine", "q35,pflash0=code,pflash1=vars",
		"-m", fmt.Sprint(cfg.Memory), "-smp", fmt.Sprint(cfg.CPUs),
		"-nodefaults", "-no-user-config", "-display", "none",
		"-blockdev", blockdev("code", "raw", fw.Code, true),
		"-blockdev", blockdev("vars", "raw", in("vars.fd"), false),
		"-blockdev", blockdev("disk", "qcow2", in("disk.qcow2"), false),
		"-blockdev", blockdev("seed", "raw", in("seed.img"), true),
	)
	args = append(args, diskDevices[cfg.DiskInterface]...)
	for i, d := range l.disks {
		name := fmt.Sprintf("disk%d", i+1)
		args = append(args, "-blockdev", extraBlockdev(name, d), "-device", "virtio-blk-pci,drive="+name+",serial="+name)
	}
	return append(args,
		"-device", "virtio-blk-pci,drive=seed",
		// Port 0: QEMU takes a free one, read back with "info usernet".
		"-netdev", "user,id=net,hostfwd=tcp:127.0.0.1:0-:22,restrict="+restrict,
		// No option ROM: else OVMF tries a network boot first.
		"-device", "virtio-net-pci,netdev=net,romfile=",
		"-device", "virtio-rng-pci",
		"-chardev", "file,id=serial,append=on,path="+strings.ReplaceAll(serial, ",", ",,"),
		"-serial", "chardev:serial",
		"-chardev", "socket,id=qmp,fd=3",
		"-mon", "chardev=qmp,mode=control",
	)
}

// blockdev is a -blockdev argument in JSON, which needs no escaping of file
// names. Nothing is flushed: what a throw-away disk holds may be lost.
func blockdev(node, format, file string, readOnly bool) string {
	return encode(map[string]any{
		"node-name": node, "driver": format, "read-only": readOnly,
		"cache": map[string]bool{"no-flush": true},
		"file": map[string]any{"driver": "file", "filename": file,
			"cache": map[string]bool{"no-flush": true}},
	})
}

// extraBlockdev is a disk that outlives the machine. What the guest discards
// becomes a hole.
func extraBlockdev(node string, d Disk) string {
	return encode(map[string]any{
		"node-name": node, "driver": d.Format, "discard": "unmap",
		"file": map[string]any{"driver": "file", "filename": d.Image, "discard": "unmap"},
	})
}

func encode(args map[string]any) string {
	b, err := json.Marshal(args)
	if err != nil {
		panic(err) // strings and booleans only
	}
	return string(b)
}

// powerOn starts QEMU and learns which port reaches the guest.
func (m *Machine) powerOn(ctx context.Context, l launch) error {
	qmp, theirs, err := newQMP()
	if err != nil {
		return err
	}
	m.qmp = qmp
	args := qemuArgs(l, m.work.dir, m.Accel.Accel, m.serial.path)
	m.Started = m.cfg.Now()
	m.child, err = startChild(ctx, run.Cmd{Doing: "starting the machine", Args: args,
		ExtraFiles: []*os.File{theirs}})
	if err := errors.Join(err, theirs.Close()); err != nil {
		return err
	}
	if err := qmp.execute("qmp_capabilities", nil, nil); err != nil {
		return m.startError(err)
	}
	if m.Addr, err = qmp.forwardedAddr(); err != nil {
		return m.startError(err)
	}
	return nil
}

// startError is err, or what QEMU itself said when it ended over it.
func (m *Machine) startError(err error) error {
	m.child.end()
	if m.child.err != nil {
		err = m.child.err
	}
	if m.Accel.Accel == KVM {
		return &accelError{plainExit(err)}
	}
	return err
}

// plainExit is the first thing QEMU said before it ended, or err.
func plainExit(err error) string {
	var exit *run.ExitError
	if errors.As(err, &exit) && exit.Tail != "" {
		line := strings.TrimPrefix(firstLine(exit.Tail), qemu+": ")
		return strings.TrimPrefix(line, "error: ")
	}
	return err.Error()
}
