package remote

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pkg/sftp"

	"github.com/kldload/kldload/internal/run"
)

// grace is how long ssh may take to end once its input has.
const grace = 5 * time.Second

// conn is one running ssh with an SFTP client on its pipes.
type conn struct {
	sftp   *sftp.Client
	stdout *os.File
	cancel context.CancelFunc
	done   chan struct{} // closed when ssh has ended
	exit   error         // how, once done
}

// sshArgs gives the arguments of ssh up to the host. What decides about
// security and hanging is set here and so goes before the user's
// configuration; the rest is what sftp(1) sets itself.
func (s *Session) sshArgs(ask bool) []string {
	args := []string{"ssh", "-T"}
	if s.opt.ConfigFile != "" {
		args = append(args, "-F", s.opt.ConfigFile)
	}
	options := []string{
		"StrictHostKeyChecking=yes", // never "accept-new", never a question
		"ConnectTimeout=15",
		"ServerAliveInterval=15", // a dead peer is noticed after a minute
		"ServerAliveCountMax=4",
		"LogLevel=INFO", // explain reads it
		"ClearAllForwardings=yes", "ForwardAgent=no", "ForwardX11=no",
		"PermitLocalCommand=no", "RemoteCommand=none",
	}
	if !ask {
		options = append(options, "BatchMode=yes")
	}
	for _, o := range options {
		args = append(args, "-o", o)
	}
	if s.target.Port != 0 {
		args = append(args, "-p", strconv.Itoa(s.target.Port))
	}
	if s.target.User != "" {
		args = append(args, "-l", s.target.User)
	}
	return args
}

// cmd completes a command. An ssh that must not ask gets a session without a
// terminal, since BatchMode does not reach the ssh that it starts for a jump
// host: that one would stop for ever, asking from the background.
func (s *Session) cmd(c run.Cmd, ask bool) run.Cmd {
	c.Foreground = ask
	if !ask {
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	}
	return c
}

// connect starts ssh and the SFTP client on it. ctx bounds connecting; the
// connection outlives it.
func (s *Session) connect(ctx context.Context) error {
	inR, inW, err := os.Pipe()
	if err != nil {
		return err
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		return errors.Join(err, inR.Close(), inW.Close())
	}
	procCtx, cancel := context.WithCancel(s.ctx)
	stop := context.AfterFunc(ctx, cancel)
	defer stop()
	p, err := run.Start(procCtx, s.cmd(run.Cmd{
		Doing:  fmt.Sprintf("connection to %q", s.login()),
		Args:   append(s.sshArgs(s.opt.Interactive), "-s", "--", s.target.Host, "sftp"),
		Stdin:  inR,
		Stdout: outW,
	}, s.opt.Interactive))
	inR.Close() // ssh has them now
	outW.Close()
	if err != nil {
		cancel()
		return errors.Join(err, inW.Close(), outR.Close())
	}
	c := &conn{stdout: outR, cancel: cancel, done: make(chan struct{})}
	go func() {
		c.exit = p.Wait()
		close(c.done)
	}()
	if c.sftp, err = sftp.NewClientPipe(outR, inW); err != nil {
		return s.connectFault(ctx, c, err)
	}
	s.conn, s.noShell = c, false
	return nil
}

// connectFault finds the reason why there is no SFTP: what ssh says, or, when
// ssh itself is content, what was read.
func (s *Session) connectFault(ctx context.Context, c *conn, err error) error {
	timer := time.AfterFunc(grace, c.cancel)
	<-c.done
	timer.Stop()
	c.cancel()
	c.stdout.Close()
	var exit *run.ExitError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("connecting to %q: %w", s.login(), context.Cause(ctx))
	case s.ctx.Err() != nil:
		return fmt.Errorf("connecting to %q: %w", s.login(), context.Cause(s.ctx))
	case errors.As(c.exit, &exit):
		return s.explain(exit)
	default:
		return fmt.Errorf("speaking SFTP with %q: %w\nhint: a login file of the host (.bashrc) that prints something breaks SFTP",
			s.login(), err)
	}
}

// close ends ssh by ending its input, and by force when that takes too long.
func (c *conn) close() error {
	timer := time.AfterFunc(grace, c.cancel)
	defer timer.Stop()
	defer c.cancel()
	// Its error is that of a pipe whose other end has gone.
	_ = c.sftp.Close()
	<-c.done
	return c.stdout.Close()
}

// command runs a program on the host, as a second login that asks nothing,
// and returns what it printed. script is its standard input.
func (s *Session) command(ctx context.Context, program, script string) ([]byte, error) {
	return run.Output(ctx, s.cmd(run.Cmd{
		Doing: fmt.Sprintf("running %q on %q", program, s.login()),
		Args:  append(s.sshArgs(false), "--", s.target.Host, program),
		Stdin: strings.NewReader(script),
	}, false))
}

// login is user and host as ssh(1) takes them.
func (s *Session) login() string {
	if s.target.User == "" {
		return s.target.Host
	}
	return s.target.User + "@" + s.target.Host
}

// portArg is the option that a hint's command needs.
func (s *Session) portArg() string {
	if s.target.Port == 0 {
		return ""
	}
	return " -p " + strconv.Itoa(s.target.Port)
}

// quote makes one word of a POSIX shell of s.
func quote(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@+:,./-"
	if s != "" && strings.Trim(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
