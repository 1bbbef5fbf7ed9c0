package sandbox

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/kldload/kldload/internal/run"
)

// The names under which this binary finds itself inside a sandbox: first
// without ids, then, executed again, as its root.
const (
	argvMap  = "kldload-sandbox-map"
	argvRoot = "kldload-sandbox"
)

// Descriptors the child inherits.
const (
	fdControl = 3
	fdReply   = 4
)

// maxFrame bounds the job that crosses the control pipe.
const maxFrame = 16 << 20

// Func is work that runs inside the sandbox. Its streams are os.Stdin,
// os.Stdout and os.Stderr; what it returns goes back to Call as JSON.
type Func func(ctx context.Context, arg json.RawMessage) (any, error)

// Main is called first thing in main. In an ordinary process it returns; in a
// sandbox's process it does the job with the functions given and exits.
func Main(funcs map[string]Func) {
	switch os.Args[0] {
	case argvMap:
		os.Exit(becomeRoot())
	case argvRoot:
		os.Exit(child(funcs))
	}
}

// becomeRoot waits for the id maps and executes the binary again: only an
// execve as mapped root gives the capabilities (capabilities(7)).
func becomeRoot() int {
	var one [1]byte
	if n, err := os.NewFile(fdControl, "control").Read(one[:]); n != 1 {
		fmt.Fprintln(os.Stderr, "sandbox: no ids:", err)
		return 1
	}
	for _, fd := range []uintptr{fdControl, fdReply} {
		if _, err := unix.FcntlInt(fd, unix.F_SETFD, 0); err != nil {
			fmt.Fprintln(os.Stderr, "sandbox: keeping the pipes:", err)
			return 1
		}
	}
	err := syscall.Exec("/proc/self/exe", []string{argvRoot}, os.Environ())
	fmt.Fprintln(os.Stderr, "sandbox: executing as root:", err)
	return 1
}

// encodeFrame puts a job after the byte that becomeRoot waits for.
func encodeFrame(w wire) ([]byte, error) {
	b, err := json.Marshal(w)
	if err != nil {
		return nil, err
	}
	frame := binary.BigEndian.AppendUint32([]byte{'M'}, uint32(len(b)))
	return append(frame, b...), nil
}

func readFrame(r io.Reader) (wire, error) {
	var w wire
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return w, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxFrame {
		return w, fmt.Errorf("a job of %d bytes", n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return w, err
	}
	return w, json.Unmarshal(b, &w)
}

// child is PID 1 of the sandbox.
func child(funcs map[string]Func) int {
	unix.CloseOnExec(fdControl)
	unix.CloseOnExec(fdReply)
	control := os.NewFile(fdControl, "control")
	answer := os.NewFile(fdReply, "reply")
	job, err := readFrame(control)
	if err == nil {
		go func() { // the lifeline: the caller is gone when it ends
			_, _ = io.Copy(io.Discard, control)
			os.Exit(137)
		}()
		err = prepare(job)
	}
	if err != nil {
		return give(answer, reply{Error: "preparing the sandbox: " + err.Error()}, 1)
	}
	if job.Call != "" {
		return call(funcs, job, answer)
	}
	return command(job, answer)
}

func give(w io.Writer, r reply, code int) int {
	if err := json.NewEncoder(w).Encode(r); err != nil {
		fmt.Fprintln(os.Stderr, "sandbox: replying:", err)
		return 1
	}
	return code
}

func call(funcs map[string]Func, job wire, answer io.Writer) int {
	f, ok := funcs[job.Call]
	if !ok {
		return give(answer, reply{Error: fmt.Sprintf("no function %q in this binary", job.Call)}, 1)
	}
	result, err := f(context.Background(), job.Arg)
	if err != nil {
		return give(answer, reply{Error: err.Error()}, 1)
	}
	raw, err := json.Marshal(result)
	if err != nil {
		return give(answer, reply{Error: err.Error()}, 1)
	}
	return give(answer, reply{Result: raw}, 0)
}

// command runs the job's command and passes its exit status on; a signal
// becomes 128 plus its number, as in a shell.
func command(job wire, answer io.Writer) int {
	c := run.Cmd{
		Doing: "running", Args: job.Command, Env: job.Env, Dir: job.Dir,
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	}
	if job.Root != "" { // systemctl changes files and talks to nobody (systemd, ENVIRONMENT.md)
		c.Env = append(c.Env, "SYSTEMD_OFFLINE=1")
	}
	err := run.Run(context.Background(), c)
	var exit *run.ExitError
	if !errors.As(err, &exit) {
		if err != nil {
			return give(answer, reply{Error: err.Error()}, 1)
		}
		return 0
	}
	if exit.Code < 0 {
		return 128 + int(exit.Sig)
	}
	return exit.Code
}
