// Package sandbox runs work as root of a container of namespaces (user,
// mount, PID, network, IPC, UTS), for root and for an ordinary user with
// subordinate ids alike. Nothing is mounted on the host, nothing survives:
// when the caller dies, however it dies, the kernel ends every process of the
// sandbox and drops its mounts.
//
// Work is either a Go function of this same binary (Job.Call), which sees the
// host's files as mapped root, or a command (Job.Command), on the host's file
// system or inside a root tree (Job.Root) with its own /proc, /sys, /dev, /run
// and /tmp. Unless Job.Network is set there is no network but loopback.
//
// It needs user namespaces (user_namespaces(7)) and, for an ordinary user,
// newuidmap, newgidmap and a range of at least 65535 ids in /etc/subuid and
// /etc/subgid. It does not limit CPU, memory or disk.
package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/kldload/kldload/internal/run"
)

// Bind makes a host path visible inside Job.Root.
type Bind struct {
	Source string
	Target string // absolute, inside the root; made when missing under /run, /tmp and /dev
	Write  bool
}

// Overlay shows the folder Lower, which stays as it is, at Target, with every
// change kept in Upper (overlayfs; Upper and Work are empty folders of one file
// system, Target is empty).
type Overlay struct {
	Lower, Upper, Work, Target string
}

// Job is one piece of work. Exactly one of Call and Command is set.
type Job struct {
	Doing string // for errors: "unpacking the tree"

	// Call names a function given to Main; Arg is its argument.
	Call string
	Arg  any

	// Command runs on the host's file system, or with Root as the only one.
	Command []string
	Env     []string
	Dir     string
	Root    string
	Tmp     string // host folder shown as /tmp of Root, kept between jobs
	Binds   []Bind
	Network bool
	// Overlay is mounted before anything else looks at its target.
	Overlay *Overlay

	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// wire is what crosses the control pipe.
type wire struct {
	Call    string          `json:"call,omitempty"`
	Arg     json.RawMessage `json:"arg,omitempty"`
	Command []string        `json:"command,omitempty"`
	Env     []string        `json:"env,omitempty"`
	Dir     string          `json:"dir,omitempty"`
	Root    string          `json:"root,omitempty"`
	Tmp     string          `json:"tmp,omitempty"`
	Binds   []Bind          `json:"binds,omitempty"`
	Network bool            `json:"network,omitempty"`
	Overlay *Overlay        `json:"overlay,omitempty"`
}

// reply is what a called function leaves on the reply pipe.
type reply struct {
	Error  string          `json:"error,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
}

// Run does one job and waits. A command that ends badly gives a
// *run.ExitError; a function's error comes back as its text.
func Run(ctx context.Context, job Job) error {
	_, err := do(ctx, job)
	return err
}

// Call runs the function called name in the sandbox with arg, and decodes
// what it returns into result (nil: dropped). Both cross as JSON.
func Call(ctx context.Context, job Job, result any) error {
	raw, err := do(ctx, job)
	if err != nil || result == nil {
		return err
	}
	if err := json.Unmarshal(raw, result); err != nil {
		return fmt.Errorf("%s: reading the result: %w", job.Doing, err)
	}
	return nil
}

func do(ctx context.Context, job Job) (json.RawMessage, error) {
	msg, err := job.encode()
	if err != nil {
		return nil, err
	}
	control, controlW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer controlW.Close() // the lifeline: its end is the sandbox's end
	replyR, replyW, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, control.Close())
	}
	defer replyR.Close()
	p, err := run.Start(ctx, run.Cmd{
		Doing: job.Doing, Args: []string{"/proc/self/exe"}, Argv0: argvMap,
		Stdin: job.Stdin, Stdout: job.Stdout, Stderr: job.Stderr,
		ExtraFiles:  []*os.File{control, replyW},
		SysProcAttr: &syscall.SysProcAttr{Cloneflags: cloneFlags(job.Network)},
	})
	err = errors.Join(err, control.Close(), replyW.Close())
	if err != nil {
		return nil, withHint(err)
	}
	if err := start(ctx, p.Pid(), controlW, msg); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", job.Doing, err), p.Kill(), ignoreExit(p.Wait()))
	}
	raw, _ := io.ReadAll(replyR)
	return decodeReply(job, raw, p.Wait())
}

// start gives the child its ids and its work.
func start(ctx context.Context, pid int, control io.Writer, msg []byte) error {
	if err := mapIDs(ctx, pid); err != nil {
		return err
	}
	if _, err := control.Write(msg); err != nil {
		return fmt.Errorf("handing over the job: %w", err)
	}
	return nil
}

func (job Job) encode() ([]byte, error) {
	arg, err := json.Marshal(job.Arg)
	if err != nil {
		return nil, fmt.Errorf("%s: encoding the argument: %w", job.Doing, err)
	}
	return encodeFrame(wire{
		Call: job.Call, Arg: arg, Command: job.Command, Env: job.Env, Dir: job.Dir,
		Root: job.Root, Tmp: job.Tmp, Binds: job.Binds, Network: job.Network, Overlay: job.Overlay,
	})
}

func decodeReply(job Job, raw []byte, waitErr error) (json.RawMessage, error) {
	var r reply
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &r); err != nil {
			return nil, fmt.Errorf("%s: reading the reply: %w", job.Doing, err)
		}
	}
	var exit *run.ExitError
	switch {
	case r.Error != "" && errors.As(waitErr, &exit):
		return nil, fmt.Errorf("%s: %s", job.Doing, r.Error)
	case errors.As(waitErr, &exit) && len(job.Command) > 0:
		exit.Tool = job.Command[0]
	}
	return r.Result, waitErr
}

// ignoreExit drops the exit status of a child that we killed ourselves.
func ignoreExit(err error) error {
	var exit *run.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}

func cloneFlags(network bool) uintptr {
	flags := uintptr(syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID |
		syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS)
	if !network {
		flags |= syscall.CLONE_NEWNET
	}
	return flags
}

func withHint(err error) error {
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || strings.Contains(err.Error(), "operation not permitted") {
		return fmt.Errorf("%w\nhint: this needs user namespaces; see user.max_user_namespaces, "+
			"kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns in sysctl", err)
	}
	return err
}
