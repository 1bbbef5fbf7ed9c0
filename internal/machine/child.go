package machine

import (
	"context"
	"runtime"
	"syscall"
	"time"

	"github.com/kldload/kldload/internal/run"
)

// stopGrace is how long QEMU may take to end after it was told to quit.
const stopGrace = 3 * time.Second

// child is a process that dies with us, even by kill -9: its parent-death
// signal is bound to the thread that started it (prctl(2), PR_SET_PDEATHSIG),
// so one locked goroutine starts it and stays until it has ended.
type child struct {
	proc *run.Process
	done chan struct{}
	err  error // valid after done is closed
}

func startChild(ctx context.Context, c run.Cmd) (*child, error) {
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	ch := &child{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		p, err := run.Start(ctx, c)
		ch.proc = p
		started <- err
		if err != nil {
			return
		}
		ch.err = p.Wait()
		close(ch.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return ch, nil
}

// end waits a moment for the process to end by itself and kills it then.
func (ch *child) end() {
	select {
	case <-ch.done:
		return
	case <-time.After(stopGrace):
	}
	_ = ch.proc.Kill()
	<-ch.done
}

// exited reports whether the process has ended.
func (ch *child) exited() bool {
	select {
	case <-ch.done:
		return true
	default:
		return false
	}
}
