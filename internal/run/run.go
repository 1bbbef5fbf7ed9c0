// Package run starts child processes. It is the only user of os/exec in the
// project, so that every child dies with its context, keeps the tail of what
// it said for the error message, and never sees a secret in its arguments.
//
// It does not interpret output and does not retry.
package run

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// grace is how long a child may take to end after SIGTERM before SIGKILL.
const grace = 5 * time.Second

// tailLines is how much of a child's standard error an error message quotes.
const tailLines = 12

// Cmd describes one child process. The zero values of the optional fields
// mean: inherit nothing on stdin, discard stdout, keep stderr for the error.
type Cmd struct {
	// Doing says what the child is for, as an error's first words:
	// "installing packages".
	Doing string
	// Args is the program and its arguments; Args[0] is looked up in PATH.
	Args []string
	// Argv0 replaces the name the child sees as its own. Optional.
	Argv0  string
	Dir    string
	Env    []string // nil inherits the environment
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	// ExtraFiles are inherited as descriptors 3, 4, ….
	ExtraFiles []*os.File
	// SysProcAttr is used as given, except that the child leads a new
	// process group, or session with Setsid, unless Foreground is set.
	SysProcAttr *syscall.SysProcAttr
	// Foreground keeps the child in our process group, for programs that
	// talk to the terminal.
	Foreground bool
}

// Process is a started child.
type Process struct {
	cmd  *exec.Cmd
	spec Cmd
	tail *tail
	ctx  context.Context
}

// ExitError is a child that ran and ended badly.
type ExitError struct {
	Doing string
	Tool  string
	Code  int            // -1 when a signal ended it
	Sig   syscall.Signal // set when Code is -1
	Tail  string         // last lines of standard error
}

func (e *ExitError) Error() string {
	how := fmt.Sprintf("exit status %d", e.Code)
	if e.Code < 0 {
		how = "ended by signal " + e.Sig.String()
	}
	msg := fmt.Sprintf("%s: %s: %s", e.Doing, e.Tool, how)
	if e.Tail != "" {
		msg += "\n  " + strings.ReplaceAll(e.Tail, "\n", "\n  ")
	}
	return msg
}

// Start starts the child. The caller must Wait.
func Start(ctx context.Context, c Cmd) (*Process, error) {
	if _, err := LookPath(c.Args[0]); err != nil {
		return nil, fmt.Errorf("%s: %w", c.Doing, err)
	}
	p := &Process{spec: c, tail: &tail{}, ctx: ctx}
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	if c.Argv0 != "" {
		cmd.Args[0] = c.Argv0
	}
	cmd.Dir, cmd.Env, cmd.Stdin, cmd.Stdout = c.Dir, c.Env, c.Stdin, c.Stdout
	cmd.Stderr = io.Writer(p.tail)
	if c.Stderr != nil {
		cmd.Stderr = io.MultiWriter(c.Stderr, p.tail)
	}
	cmd.ExtraFiles = c.ExtraFiles
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if c.SysProcAttr != nil {
		attr := *c.SysProcAttr
		cmd.SysProcAttr = &attr
	}
	// The leader of a session leads its group, and may not ask for another.
	cmd.SysProcAttr.Setpgid = !c.Foreground && !cmd.SysProcAttr.Setsid
	p.cmd = cmd // before the start: a context that is over cancels at once
	cmd.WaitDelay = grace
	cmd.Cancel = func() error { return p.signal(syscall.SIGTERM) }
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: starting %s: %w", c.Doing, c.Args[0], err)
	}
	return p, nil
}

// signal reaches the whole group where the child leads one.
func (p *Process) signal(sig syscall.Signal) error {
	if p.spec.Foreground {
		return p.cmd.Process.Signal(sig)
	}
	return syscall.Kill(-p.cmd.Process.Pid, sig)
}

// Pid is the child's process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Kill ends the child and its group at once.
func (p *Process) Kill() error { return p.signal(syscall.SIGKILL) }

// Terminate asks the child and its group to end.
func (p *Process) Terminate() error { return p.signal(syscall.SIGTERM) }

// Wait waits for the child. The error is an *ExitError when it ended badly,
// or the context's error when that ended it.
func (p *Process) Wait() error {
	err := p.cmd.Wait()
	if p.ctx.Err() != nil {
		_ = p.Kill() // whatever of the group outlived its leader
		return fmt.Errorf("%s: %w", p.spec.Doing, context.Cause(p.ctx))
	}
	if err == nil {
		return nil
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return fmt.Errorf("%s: %s: %w", p.spec.Doing, p.spec.Args[0], err)
	}
	e := &ExitError{Doing: p.spec.Doing, Tool: p.spec.Args[0], Code: exit.ExitCode(), Tail: p.tail.String()}
	if st, ok := exit.Sys().(syscall.WaitStatus); ok && st.Signaled() {
		e.Sig = st.Signal()
	}
	return e
}

// Run starts the child and waits for it.
func Run(ctx context.Context, c Cmd) error {
	p, err := Start(ctx, c)
	if err != nil {
		return err
	}
	return p.Wait()
}

// Output runs the child and returns its standard output.
func Output(ctx context.Context, c Cmd) ([]byte, error) {
	var out bytes.Buffer
	c.Stdout = &out
	err := Run(ctx, c)
	return out.Bytes(), err
}

// packages names the Debian package of each tool we may miss.
var packages = map[string]string{
	"mmdebstrap": "mmdebstrap", "apt-get": "apt", "apt-ftparchive": "apt-utils",
	"apt-cache": "apt", "dpkg-deb": "dpkg", "gpgv": "gpgv", "gpg": "gpg",
	"qemu-system-x86_64": "qemu-system-x86", "qemu-img": "qemu-utils",
	"newuidmap": "uidmap", "newgidmap": "uidmap", "zstd": "zstd",
	"e2fsck": "e2fsprogs", "debugfs": "e2fsprogs", "ssh": "openssh-client",
}

// LookPath finds a tool or says which Debian package has it.
func LookPath(tool string) (string, error) {
	path, err := exec.LookPath(tool)
	if err == nil {
		return path, nil
	}
	if pkg, ok := packages[tool]; ok {
		return "", fmt.Errorf("%q is not installed\nhint: apt-get install %s (or: make deps)", tool, pkg)
	}
	return "", fmt.Errorf("%q is not installed: %w", tool, err)
}

// tail keeps the last lines written to it.
type tail struct{ buf []byte }

func (t *tail) Write(b []byte) (int, error) {
	t.buf = append(t.buf, b...)
	if len(t.buf) > 16<<10 {
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-8<<10:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	lines := strings.Split(strings.TrimRight(string(t.buf), "\n"), "\n")
	if len(lines) > tailLines {
		lines = lines[len(lines)-tailLines:]
	}
	return strings.Join(lines, "\n")
}
