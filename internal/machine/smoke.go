package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// How a check ended.
const (
	Pass = "pass"
	Fail = "fail"
	Skip = "skip" // the script ended with status 77, as with automake's tests
)

const (
	skipStatus = 77
	outputMax  = 16 << 10 // of one check
	checkKVM   = 60 * time.Second
	checkTCG   = 4 * time.Minute
)

// Result is one check's outcome.
type Result struct {
	Name    string  `json:"name"`
	Status  string  `json:"status"` // pass, fail, skip
	Seconds float64 `json:"seconds"`
	// ExitCode is the script's; -1 when it ran out of time.
	ExitCode int    `json:"exit_code"`
	Script   string `json:"script"`
	Output   string `json:"output,omitempty"` // both streams, at most 16 KiB
}

// Brief is the first line of what the check said, or how it ended.
func (r Result) Brief() string {
	if line := firstLine(r.Output); line != "" {
		return line
	}
	if r.Status == Fail {
		return fmt.Sprintf("exit status %d", r.ExitCode)
	}
	return ""
}

// Report is the evidence of one test.
type Report struct {
	Disk
	SHA256    string    `json:"image_sha256,omitempty"` // filled in by the command
	Error     string    `json:"error,omitempty"`        // the machine did not come up
	Name      string    `json:"name"`
	Verdict             // accelerator and why
	QEMU      string    `json:"qemu"`
	Firmware  string    `json:"firmware"`
	Kernel    string    `json:"kernel"` // uname -r
	Started   time.Time `json:"started"`
	Kept      string    `json:"kept,omitempty"` // the machine's folder, with Config.Keep
	Passed    bool      `json:"passed"`
	SerialLog string    `json:"serial_log,omitempty"` // where it was kept

	// LoginSeconds is the time from power-on to the first SSH login,
	// ReadySeconds to the end of cloud-init, Seconds to the last check.
	LoginSeconds float64  `json:"login_seconds"`
	ReadySeconds float64  `json:"ready_seconds"`
	Seconds      float64  `json:"seconds"`
	Checks       []Result `json:"checks"`
}

// Count is how many checks ended with status.
func (r Report) Count(status string) int {
	n := 0
	for _, c := range r.Checks {
		if c.Status == status {
			n++
		}
	}
	return n
}

// Summary is one line: "tcg (no usable kvm: …) · 21 checks passed".
func (r Report) Summary() string {
	s := fmt.Sprintf("uefi, %s · %d checks passed", r.Verdict, r.Count(Pass))
	if r.Count(Pass) == 1 {
		s = strings.Replace(s, "checks", "check", 1)
	}
	if n := r.Count(Skip); n > 0 {
		s += fmt.Sprintf(", %d skipped", n)
	}
	if n := r.Count(Fail); n > 0 {
		s += fmt.Sprintf(", %d FAILED", n)
	}
	return s
}

// Test boots a clone, waits for the end of cloud-init and runs the checks in
// order. The error is nil when all could be run: Report.Passed tells whether
// they passed. The serial log is kept (see SaveSerial) when something failed.
func Test(ctx context.Context, cfg Config, checks []Check) (Report, error) {
	m, err := Boot(ctx, cfg)
	if err != nil {
		return Report{}, err
	}
	since := func() float64 { return m.cfg.Now().Sub(m.Started).Seconds() }
	r := Report{Disk: m.Disk, Name: m.Name, Verdict: m.Accel, QEMU: m.QEMU, Firmware: m.Firmware,
		Started: m.Started.UTC(), LoginSeconds: since()}
	if err := m.WaitCloudInit(ctx); err != nil {
		return r, m.fail(err)
	}
	r.ReadySeconds = since()
	if err := m.runChecks(ctx, checks, &r); err != nil {
		return r, m.fail(err)
	}
	r.Seconds = since()
	r.Passed = r.Count(Fail) == 0
	if m.cfg.Keep {
		r.Kept = m.work.dir
	}
	if !r.Passed {
		r.SerialLog, err = m.SaveSerial()
	}
	return r, errors.Join(err, m.Close())
}

// runChecks fills in r.Kernel and r.Checks.
func (m *Machine) runChecks(ctx context.Context, checks []Check, r *Report) error {
	client, err := m.reach(ctx)
	if err != nil {
		return err
	}
	defer func() { client.Close() }()
	var kernel bytes.Buffer
	if _, err := runOn(ctx, client, Command{Line: "uname -r", Stdout: &kernel}); err != nil {
		return err
	}
	r.Kernel = strings.TrimSpace(kernel.String())
	for i, check := range checks {
		m.cfg.Progress(fmt.Sprintf("check %d of %d: %s", i+1, len(checks), check.Name))
		result, err := m.runCheck(ctx, client, check)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if m.child.exited() {
			return m.bootError(fmt.Sprintf("the machine ended during check %q: %s", check.Name, m.exitReason()))
		}
		if fatal, _ := m.serial.poll(); fatal != "" {
			return m.bootError(fmt.Sprintf("during check %q: %s", check.Name, fatal))
		}
		if err != nil { // the connection broke, or the check ran out of time
			result.Status, result.ExitCode = Fail, -1
			result.Output = strings.TrimSpace(err.Error() + "\n" + result.Output)
			client.Close()
			if client, err = m.reach(ctx); err != nil {
				return fmt.Errorf("after check %q: %w", check.Name, err)
			}
		}
		r.Checks = append(r.Checks, result)
	}
	return nil
}

// errCheckTime is the cause of a check's end by its deadline.
var errCheckTime = errors.New("out of time")

func (m *Machine) runCheck(ctx context.Context, client *ssh.Client, check Check) (Result, error) {
	limit := m.cfg.CheckTimeout
	switch {
	case limit > 0:
	case m.Accel.Accel == KVM:
		limit = checkKVM
	default:
		limit = checkTCG
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w after %s", errCheckTime, limit))
	defer cancel()
	out := &limited{max: outputMax}
	begin := m.cfg.Now()
	status, err := runOn(ctx, client, Command{Line: m.checkLine(check), Stdout: out, Stderr: out})
	r := Result{Name: check.Name, Status: Pass, ExitCode: status, Script: check.Script,
		Seconds: m.cfg.Now().Sub(begin).Seconds(), Output: strings.ToValidUTF8(out.String(), "?")}
	switch status {
	case 0:
	case skipStatus:
		r.Status = Skip
	default:
		r.Status = Fail
	}
	return r, err
}

// checkLine is the command that runs a check as root. The script sees what
// the seed and the overlay promise as CLONE_NAME and CLONE_DISK (bytes).
func (m *Machine) checkLine(check Check) string {
	script := fmt.Sprintf("CLONE_NAME=%s CLONE_DISK=%d\n%s", m.Name, m.Disk.Size, check.Script)
	line := "sh -ec " + quote(script) + " </dev/null"
	if m.User != "root" {
		line = "sudo -n " + line
	}
	return line
}
