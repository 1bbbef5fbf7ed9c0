// Package machine starts a throw-away virtual machine from an image, gives it
// a cloud-init seed, reaches it over SSH and runs checks in it.
//
// The image is never written: the machine runs on a qcow2 overlay in a private
// folder that is removed at the end, also after a crash (the next start sweeps
// what a killed process left). QEMU dies with us, by Pdeathsig. Every socket
// is on the loopback interface; the guest reaches nothing outside unless
// Config.Network is set.
//
// Not supported: machines other than x86-64 with UEFI (OVMF), Secure Boot, a
// graphical console, and images that need a datasource other than NoCloud.
//
// The seed follows cloud-init's NoCloud datasource
// (https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html),
// the control socket QEMU's QMP (docs/interop/qmp-spec in QEMU's tree).
package machine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// Config says which machine to start. Image alone is needed.
type Config struct {
	Image string
	// Name is the clone's host name, an RFC 1123 label. "" makes one from
	// the image's file name.
	Name string
	// Memory is in MiB (0: 2048); CPUs 0 means 2, or 1 where the host has 1.
	Memory, CPUs int
	// DiskSize is the clone's disk in bytes, not smaller than the image's.
	// 0 means the image's size plus GrowBy.
	DiskSize, GrowBy int64
	// DiskInterface is "virtio" (the zero value's meaning), "virtio-scsi",
	// "sata" or "nvme".
	DiskInterface string
	// Disks are more disks of the machine, in order.
	Disks []ExtraDisk
	Accel Accel // "": Auto
	// Timeout bounds the time from power-on to the first SSH login.
	// 0: 2 minutes with KVM, 10 with TCG.
	Timeout time.Duration
	// CheckTimeout bounds one check. 0: 1 minute with KVM, 4 with TCG.
	CheckTimeout time.Duration
	// Network lets the guest reach the outside; else only SSH reaches in.
	Network bool
	// User is who logs in ("": kldload). SSHKey is the file of an
	// unencrypted private key; "" makes a key that lives as long as the
	// machine. UserData is a file used as given, which must let User in
	// with SSHKey, and to use sudo without a password for checks.
	User, SSHKey, UserData string
	// Keep leaves the folder with overlay, seed and key; Serial is where the
	// serial log goes ("": in the folder).
	Keep   bool
	Serial string
	// Progress is told what goes on now, in a few words. Optional; called
	// from one goroutine at a time.
	Progress func(note string)
	// Now is the clock, time.Now when nil.
	Now func() time.Time
}

// ExtraDisk is a disk beside the image's. Unlike the image it is written in
// place, and its flushes are done: what the guest wrote is there afterwards.
// The guest finds the first as /dev/disk/by-id/virtio-disk1, and so on.
type ExtraDisk struct {
	Image  string
	Format string // QEMU's word for it; "" means what the content looks like
}

const (
	defaultUser      = "kldload"
	defaultMemory    = 2048
	defaultInterface = "virtio"
)

// withDefaults checks cfg and fills in what it leaves open.
func (cfg Config) withDefaults() (Config, error) {
	if cfg.Name == "" {
		cfg.Name = nameFromFile(cfg.Image)
	}
	if !validName(cfg.Name) {
		return cfg, fmt.Errorf("name %q: want a host name of at most 63 letters, digits and dashes", cfg.Name)
	}
	if cfg.DiskInterface == "" {
		cfg.DiskInterface = defaultInterface
	}
	if _, ok := diskDevices[cfg.DiskInterface]; !ok {
		return cfg, fmt.Errorf("disk interface %q: want virtio, virtio-scsi, sata or nvme", cfg.DiskInterface)
	}
	if cfg.UserData != "" && cfg.SSHKey == "" {
		return cfg, errors.New("user-data without an SSH key: nobody could log in\nhint: give the private key that the user-data lets in (--ssh-key)")
	}
	if cfg.Memory < 0 || cfg.CPUs < 0 || cfg.DiskSize < 0 || cfg.GrowBy < 0 {
		return cfg, errors.New("memory, cpus and disk size: want positive numbers")
	}
	if cfg.Memory == 0 {
		cfg.Memory = defaultMemory
	}
	if cfg.CPUs == 0 {
		cfg.CPUs = min(2, runtime.NumCPU())
	}
	if cfg.User == "" {
		cfg.User = defaultUser
	}
	if cfg.Progress == nil {
		cfg.Progress = func(string) {}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return cfg, nil
}

// validName reports whether s is an RFC 1123 host name label.
func validName(s string) bool {
	return s != "" && len(s) <= 63 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == "" &&
		s[0] != '-' && s[len(s)-1] != '-'
}

// nameFromFile makes a host name of an image's file name.
func nameFromFile(path string) string {
	base, _, _ := strings.Cut(filepath.Base(path), ".")
	clean := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + ('a' - 'A')
		}
		return '-'
	}, base)
	clean = strings.Trim(clean[:min(63, len(clean))], "-")
	if clean == "" {
		return "clone"
	}
	return clean
}

// Machine is a running clone. Close ends it and removes what it used.
type Machine struct {
	Name     string
	Addr     string // 127.0.0.1:PORT, forwarded to the guest's port 22
	User     string
	Accel    Verdict
	Firmware string // the OVMF code used
	QEMU     string // QEMU's version
	Disk     Disk
	Started  time.Time

	cfg     Config
	serial  *serial
	work    *workDir
	keyFile string
	signer  ssh.Signer
	hostKey ssh.PublicKey // pinned by the first login
	child   *child
	qmp     *qmpClient
	closed  bool
}

// launch is what is settled before anything is made.
type launch struct {
	cfg      Config
	version  string // QEMU's
	firmware firmware
	disk     Disk
	disks    []Disk     // the extra ones
	signer   ssh.Signer // nil: a key of the clone's own
	userData []byte     // nil: the default
}

// Boot starts a clone and waits until it lets User in over SSH. Where KVM was
// chosen by Auto and breaks in the middle, it starts again with TCG, once.
// The caller must Close the machine.
func Boot(ctx context.Context, cfg Config) (*Machine, error) {
	l, err := prepare(ctx, cfg)
	if err != nil {
		return nil, err
	}
	l.cfg.Progress("choosing an accelerator")
	verdict, err := chooseAccel(ctx, cfg.Accel, l.version)
	if err != nil {
		return nil, err
	}
	m, err := l.boot(ctx, verdict)
	var broken *accelError
	if errors.As(err, &broken) && ctx.Err() == nil && (cfg.Accel == Auto || cfg.Accel == "") {
		verdict = Verdict{Accel: TCG, Reason: "it broke while a guest ran: " + broken.reason}
		rememberVerdict(l.version, verdict)
		l.cfg.Progress("kvm broke, starting again with tcg")
		return l.boot(ctx, verdict)
	}
	return m, err
}

// prepare checks everything that can be checked before a file is made.
func prepare(ctx context.Context, cfg Config) (l launch, err error) {
	if l.cfg, err = cfg.withDefaults(); err != nil {
		return l, err
	}
	if cfg.SSHKey != "" {
		if l.signer, err = readKey(cfg.SSHKey); err != nil {
			return l, err
		}
	}
	if cfg.UserData != "" {
		if l.userData, err = os.ReadFile(cfg.UserData); err != nil {
			return l, fmt.Errorf("reading user-data: %w", err)
		}
	}
	if l.disk, err = inspect(ctx, cfg.Image); err != nil {
		return l, err
	}
	if l.disk.Size, err = cloneSize(l.disk.Size, cfg); err != nil {
		return l, err
	}
	for _, extra := range cfg.Disks {
		d, err := inspect(ctx, extra.Image)
		if err != nil {
			return l, err
		}
		if extra.Format != "" {
			d.Format = extra.Format
		}
		l.disks = append(l.disks, d)
	}
	if l.firmware, err = findFirmware("/"); err != nil {
		return l, err
	}
	l.version, err = qemuVersion(ctx)
	return l, err
}

func (l launch) boot(ctx context.Context, verdict Verdict) (*Machine, error) {
	work, err := newWorkDir()
	if err != nil {
		return nil, err
	}
	m := &Machine{Name: l.cfg.Name, User: l.cfg.User, Accel: verdict, Firmware: l.firmware.Code, QEMU: l.version,
		Disk: l.disk, cfg: l.cfg, work: work, keyFile: l.cfg.SSHKey, signer: l.signer}
	if err := m.start(ctx, l); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	if err := m.waitSSH(ctx); err != nil {
		return nil, m.fail(err)
	}
	return m, nil
}

// start fills the folder and powers the machine on.
func (m *Machine) start(ctx context.Context, l launch) (err error) {
	if err := makeOverlay(ctx, m.work.path("disk.qcow2"), m.Disk); err != nil {
		return err
	}
	if err := m.makeSeed(l.userData); err != nil {
		return err
	}
	if err := copyFile(m.work.path("vars.fd"), l.firmware.Vars); err != nil {
		return err
	}
	path := m.cfg.Serial
	if path == "" {
		path = m.work.path("serial.log")
	}
	if m.serial, err = newSerial(path); err != nil {
		return err
	}
	m.cfg.Progress("power on (" + string(m.Accel.Accel) + ")")
	return m.powerOn(ctx, l)
}

// makeSeed writes the NoCloud volume, with a new key where none was given.
func (m *Machine) makeSeed(userData []byte) error {
	if m.signer == nil {
		signer, private, err := newKey()
		if err != nil {
			return err
		}
		m.signer, m.keyFile = signer, m.work.path("key")
		if err := os.WriteFile(m.keyFile, private, 0o600); err != nil {
			return err
		}
	}
	seed := Seed{Name: m.Name, User: m.User, Key: m.signer.PublicKey(), InstanceID: instanceID(m.Name), UserData: userData}
	return seed.write(m.work.path("seed.img"), m.cfg.Now())
}

// Exited is closed when QEMU has ended.
func (m *Machine) Exited() <-chan struct{} { return m.child.done }

// KeyFile is the private key that logs in; KnownHosts the file that holds the
// clone's host key for OpenSSH. Both end with the machine.
func (m *Machine) KeyFile() string    { return m.keyFile }
func (m *Machine) KnownHosts() string { return m.work.path("known_hosts") }

// Port is Addr's.
func (m *Machine) Port() string {
	_, port, _ := net.SplitHostPort(m.Addr)
	return port
}

// SerialPath is the serial log while the machine runs.
func (m *Machine) SerialPath() string { return m.serial.path }

// Dir is the machine's folder.
func (m *Machine) Dir() string { return m.work.dir }

// Close powers the machine off at once and removes its folder, unless Keep is
// set. It may be called twice.
func (m *Machine) Close() error {
	if m.closed {
		return nil
	}
	m.closed = true
	if m.child != nil {
		m.qmp.quit()
		m.child.end()
	}
	var errs []error
	if m.qmp != nil {
		errs = append(errs, m.qmp.close())
	}
	if m.serial != nil {
		errs = append(errs, m.serial.close())
	}
	if m.cfg.Keep {
		return errors.Join(append(errs, m.work.keep())...)
	}
	return errors.Join(append(errs, m.work.remove())...)
}

// fail ends the machine. Where the guest is to blame, it saves the serial log
// and names it in the error.
func (m *Machine) fail(err error) error {
	var boot *BootError
	if errors.As(err, &boot) {
		kept, saveErr := m.SaveSerial()
		if saveErr == nil {
			boot.Log = kept
		}
		err = errors.Join(err, saveErr)
	}
	if m.cfg.Keep {
		err = fmt.Errorf("%w\nkept: %s", err, m.work.dir)
	}
	return errors.Join(err, m.Close())
}

// SaveSerial puts the serial log where it outlives the machine, and returns
// where: Config.Serial, or NAME.serial.log beside the image, or in the
// folder for temporary files when the image's is not writable.
func (m *Machine) SaveSerial() (string, error) {
	if m.cfg.Serial != "" {
		return m.cfg.Serial, nil
	}
	base := strings.TrimSuffix(filepath.Base(m.cfg.Image), filepath.Ext(m.cfg.Image)) + ".serial.log"
	var errs []error
	for _, dir := range []string{filepath.Dir(m.cfg.Image), os.TempDir()} {
		to := filepath.Join(dir, base)
		err := copyFile(to, m.serial.path)
		if err == nil {
			return to, nil
		}
		errs = append(errs, err)
	}
	return "", fmt.Errorf("keeping the serial log: %w", errors.Join(errs...))
}
