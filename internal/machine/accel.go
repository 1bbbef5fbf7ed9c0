package machine

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kldload/kldload/internal/atomicfile"
	"github.com/kldload/kldload/internal/run"
)

// qemu is the emulator.
const qemu = "qemu-system-x86_64"

// Accel is how guest code runs, in QEMU's words.
type Accel string

const (
	Auto Accel = "auto" // KVM where a probe guest ends well, else TCG
	KVM  Accel = "kvm"
	TCG  Accel = "tcg"
)

// Verdict is the accelerator chosen, and why it is not KVM.
type Verdict struct {
	Accel  Accel  `json:"accelerator"`
	Reason string `json:"reason,omitempty"`
}

// String is short: "kvm", "tcg", or "tcg (no usable kvm)" when Auto chose it.
func (v Verdict) String() string {
	if v.Reason == "" {
		return string(v.Accel)
	}
	return string(v.Accel) + " (no usable kvm)"
}

// accelError is an accelerator that broke while the machine ran.
type accelError struct{ reason string }

func (e *accelError) Error() string {
	return "running the machine with kvm: " + e.reason + "\nhint: --accel auto takes tcg where kvm does not work"
}

// accelArgs are QEMU's flags for accel; max is every processor feature it has.
func accelArgs(accel Accel) []string {
	if accel == KVM {
		return []string{"-accel", "kvm", "-cpu", "max"}
	}
	return []string{"-accel", "tcg,thread=multi", "-cpu", "max"}
}

const kvmDevice = "/dev/kvm"

// chooseAccel settles what Auto means here. The probe's verdict is kept until
// the next boot of the host or another QEMU.
func chooseAccel(ctx context.Context, want Accel, version string) (Verdict, error) {
	switch want {
	case KVM, TCG:
		return Verdict{Accel: want}, nil
	case Auto, "":
	default:
		return Verdict{}, fmt.Errorf("accelerator %q: want auto, kvm or tcg", want)
	}
	if err := unix.Access(kvmDevice, unix.R_OK|unix.W_OK); err != nil {
		return Verdict{Accel: TCG, Reason: kvmDevice + ": " + err.Error()}, nil
	}
	if v, ok := rememberedVerdict(version); ok {
		return v, nil
	}
	reason, err := probe(ctx, KVM)
	if err != nil {
		return Verdict{}, err
	}
	v := Verdict{Accel: KVM}
	if reason != "" {
		v = Verdict{Accel: TCG, Reason: reason}
	}
	rememberVerdict(version, v)
	return v, nil
}

// qemuVersion is QEMU's own first line, shortened to the number.
func qemuVersion(ctx context.Context) (string, error) {
	out, err := run.Output(ctx, run.Cmd{Doing: "asking for QEMU's version", Args: []string{qemu, "--version"}})
	if err != nil {
		return "", err
	}
	line := firstLine(string(out))
	return strings.TrimPrefix(line, "QEMU emulator version "), nil
}

// savedVerdict is the cache file: one verdict and what it is true for.
type savedVerdict struct {
	BootID  string `json:"boot_id"`
	Kernel  string `json:"kernel"`
	QEMU    string `json:"qemu"`
	Verdict `json:"verdict"`
}

// verdictKey fills in what a verdict depends on.
func verdictKey(version string) savedVerdict {
	read := func(name string) string {
		b, _ := os.ReadFile(filepath.Join("/proc/sys/kernel", name))
		return strings.TrimSpace(string(b))
	}
	return savedVerdict{BootID: read("random/boot_id"), Kernel: read("osrelease"), QEMU: version}
}

// verdictFile is where the verdict is kept; "" without a cache folder.
func verdictFile() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "kldload", "accel.json")
}

func rememberedVerdict(version string) (Verdict, bool) {
	b, err := os.ReadFile(verdictFile())
	if err != nil {
		return Verdict{}, false
	}
	var saved savedVerdict
	if json.Unmarshal(b, &saved) != nil || (saved.Accel != KVM && saved.Accel != TCG) {
		return Verdict{}, false
	}
	want := verdictKey(version)
	want.Verdict = saved.Verdict
	return saved.Verdict, saved == want
}

// rememberVerdict keeps v for the next time. Without a place to keep it the
// probe just runs again.
func rememberVerdict(version string, v Verdict) {
	file := verdictFile()
	if file == "" || os.MkdirAll(filepath.Dir(file), 0o755) != nil {
		return
	}
	saved := verdictKey(version)
	saved.Verdict = v
	b, err := json.MarshalIndent(saved, "", "  ")
	if err == nil {
		_ = atomicfile.WriteFile(file, append(b, '\n'), 0o644)
	}
}

// firstLine is the first line of s that says something.
func firstLine(s string) string {
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); line != "" {
			return line
		}
	}
	return ""
}
