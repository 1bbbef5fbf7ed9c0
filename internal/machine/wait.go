package machine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// pollTime is how often the machine's life signs are looked at, and the least
// time between two login attempts.
const pollTime = 500 * time.Millisecond

// Default times from power-on to the first login: a Debian image takes 10 s
// with KVM; with TCG 60 to 90 s on an idle machine, several times that on a
// busy one.
const (
	timeoutKVM = 2 * time.Minute
	timeoutTCG = 10 * time.Minute
)

// A BootError is a machine that did not come up.
type BootError struct {
	Image  string
	Reason string
	Tail   string // the last lines of the serial log
	Hint   string
	Log    string // the whole serial log, where it was kept
}

func (e *BootError) Error() string {
	msg := fmt.Sprintf("booting %q: %s\n%s", e.Image, e.Reason, e.Tail)
	if e.Log != "" {
		msg += "\nserial log: " + e.Log
	}
	if e.Hint != "" {
		msg += "\nhint: " + e.Hint
	}
	return msg
}

// timeout is the time a login may take to work.
func (m *Machine) timeout() time.Duration {
	switch {
	case m.cfg.Timeout > 0:
		return m.cfg.Timeout
	case m.Accel.Accel == KVM:
		return timeoutKVM
	}
	return timeoutTCG
}

// waitSSH waits for the first login, and stops as soon as it is plain that
// there will be none.
func (m *Machine) waitSSH(ctx context.Context) error {
	deadline := m.timeout()
	tctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	attempts := make(chan error)
	go m.tryLogins(tctx, attempts)
	var last error
	tick := time.NewTicker(pollTime)
	defer tick.Stop()
	for {
		select {
		case err, open := <-attempts:
			if open && err == nil {
				return nil
			}
			if open {
				last = err
			}
		case <-m.child.done:
			return m.exitError()
		case <-tick.C:
			if err := m.lifeSigns(); err != nil {
				return err
			}
		case <-tctx.Done():
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return m.timeoutError(deadline, last)
		}
	}
}

// tryLogins reports each attempt until one works or ctx ends.
func (m *Machine) tryLogins(ctx context.Context, attempts chan<- error) {
	for {
		client, err := m.login(ctx)
		if err == nil {
			client.Close()
		}
		select {
		case attempts <- err:
		case <-ctx.Done():
			return
		}
		if err == nil {
			return
		}
		select {
		case <-time.After(pollTime):
		case <-ctx.Done():
			return
		}
	}
}

// lifeSigns looks at the serial log and at QEMU's own state.
func (m *Machine) lifeSigns() error {
	fatal, err := m.serial.poll()
	if err != nil {
		return err
	}
	if fatal != "" {
		time.Sleep(pollTime) // for the rest of the message, and a trace
		_, err := m.serial.poll()
		return errors.Join(m.bootError(m.serial.fatal), err)
	}
	if line := m.serial.last(); line != "" {
		m.cfg.Progress(line)
	}
	state, err := m.qmp.state()
	switch {
	case err != nil && m.child.exited():
		return m.exitError()
	case err != nil:
		return err
	case state == "internal-error" && m.Accel.Accel == KVM:
		return &accelError{"KVM internal error"}
	case state == "internal-error", state == "guest-panicked", state == "io-error", state == "paused":
		return m.bootError("QEMU stopped the machine: " + state)
	}
	return nil
}

// exitError is the end of QEMU before a login.
func (m *Machine) exitError() error {
	reason := m.exitReason()
	if m.Accel.Accel == KVM && m.child.err != nil {
		return &accelError{plainExit(m.child.err)}
	}
	return m.bootError(reason)
}

// exitReason says how QEMU ended.
func (m *Machine) exitReason() string {
	<-m.child.done
	if m.child.err != nil {
		return m.child.err.Error()
	}
	return "the guest powered off before it could be logged in to"
}

func (m *Machine) bootError(reason string) error {
	_, _ = m.serial.poll()
	return &BootError{Image: m.cfg.Image, Reason: reason, Tail: m.serial.tail()}
}

func (m *Machine) timeoutError(after time.Duration, last error) error {
	err := m.bootError(fmt.Sprintf("no SSH login as %q within %s", m.User, after)).(*BootError)
	if last != nil {
		err.Reason += fmt.Sprintf(" (%v)", plainSSH(last))
	}
	switch {
	case len(m.serial.lines) == 0:
		err.Hint = "the image writes nothing to its serial console; add console=ttyS0 to its kernel command line to see why"
	case m.Accel.Accel == KVM:
		err.Hint = "try --accel tcg, or a longer --timeout"
	default:
		err.Hint = "a longer --timeout, when the last line above shows that it was still booting"
	}
	return err
}

// plainSSH says what an SSH error means to somebody who waits for a machine.
func plainSSH(err error) string {
	text := err.Error()
	switch {
	case strings.Contains(text, "unable to authenticate"):
		return "sshd answers, but does not let the key in"
	case errors.Is(err, context.DeadlineExceeded), strings.Contains(text, "EOF"), strings.Contains(text, "reset by peer"),
		strings.Contains(text, "use of closed"):
		return "nothing answers on port 22"
	}
	return text
}

// WaitCloudInit waits until cloud-init has done its work of the first boot,
// whatever its outcome (a check looks at that). An image without cloud-init
// is not waited for.
func (m *Machine) WaitCloudInit(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, m.timeout())
	defer cancel()
	stop := m.watch(ctx, cancel)
	defer stop()
	_, err := m.Run(ctx, Command{Line: "command -v cloud-init >/dev/null || exit 0; cloud-init status --wait"})
	if m.child.exited() {
		return m.bootError(m.exitReason())
	}
	if err != nil && errors.Is(err, context.DeadlineExceeded) {
		return m.bootError(fmt.Sprintf("cloud-init has not finished within %s", m.timeout()))
	}
	if err != nil {
		return fmt.Errorf("waiting for cloud-init: %w", err)
	}
	return nil
}

// watch shows the serial log's last line as progress, and cancels when the
// machine ends. It stops when the returned function is called.
func (m *Machine) watch(ctx context.Context, cancel context.CancelFunc) func() {
	ctx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(pollTime)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-m.child.done:
				cancel()
				return
			case <-tick.C:
				_, _ = m.serial.poll()
				m.cfg.Progress("cloud-init: " + m.serial.last())
			}
		}
	}()
	return func() { stop(); <-done }
}
