package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/kldload/kldload/internal/machine"
	"github.com/kldload/kldload/internal/ui"
)

func newBootCommand(a *app) *cobra.Command {
	var opts bootOptions
	c := &cobra.Command{
		Use:     "boot IMAGE [-- COMMAND [ARGUMENT...]]",
		GroupID: groupLook,
		Short:   "Start a throw-away clone of an image and log in to it",
		Long: `Start a clone of IMAGE in a local virtual machine with UEFI, give it a NoCloud
seed, print how to log in, and wait for Ctrl-C or for the guest to power off.
The image is not written; the clone and all its files go away at the end. What
--disk attaches is written and stays.

With a COMMAND, run it in the clone over SSH instead, pass its exit code on and
power off. One COMMAND word goes to the shell as it is; of several, each is one
argument. Where standard input and output are terminals, it gets a terminal.
The machine's own messages go to standard error then.`,
		Example: `  kldload boot output/kldload-server/kldload-server.qcow2
  kldload boot kldload-server.qcow2 --name web1 -- 'systemctl --failed; df -h /'`,
		Args: func(c *cobra.Command, args []string) error {
			dash := c.ArgsLenAtDash()
			if dash == len(args) {
				return usagef("no command after --\nhint: %s", c.UseLine())
			}
			if dash < 0 {
				dash = len(args)
			}
			return exactArgs("IMAGE")(c, args[:dash])
		},
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := opts.config(args[0])
			if err != nil {
				return err
			}
			return runBoot(c.Context(), a, cfg, args[1:])
		},
	}
	opts.addFlags(c)
	c.Flags().StringVar(&opts.serial, "serial", "", "write the serial log to `FILE`")
	return c
}

func runBoot(ctx context.Context, a *app, cfg machine.Config, command []string) (err error) {
	u := a.ui
	if len(command) > 0 {
		u = ui.New(a.stderr, a.uiMode())
	}
	stage := u.Stage("boot")
	cfg.Progress = func(note string) { stage.Progress(0, 0, note) }
	m, err := machine.Boot(ctx, cfg)
	if err != nil {
		stage.Fail()
		return err
	}
	stage.Done("uefi, " + m.Accel.String())
	defer func() { err = errors.Join(err, m.Close()) }()
	if cfg.Keep {
		defer u.Print("kept: %s", m.Dir())
	}
	if len(command) > 0 {
		return a.runInClone(ctx, m, command)
	}
	login := fmt.Sprintf("ssh -i %s -o UserKnownHostsFile=%s -p %s %s@127.0.0.1", m.KeyFile(), m.KnownHosts(), m.Port(), m.User)
	u.Result(fmt.Sprintf("%s is up; log in with\n  %s\nserial log: %s\nCtrl-C ends it and removes it", m.Name, login, m.SerialPath()),
		login, map[string]string{"name": m.Name, "address": m.Addr, "user": m.User, "key": m.KeyFile(),
			"known_hosts": m.KnownHosts(), "serial": m.SerialPath(), "ssh": login})
	select {
	case <-ctx.Done(): // the way to end it, not a failure
	case <-m.Exited():
		u.Print("%s has powered off", m.Name)
	}
	return nil
}

// runInClone runs the command with our streams and turns its exit status into
// ours.
func (a *app) runInClone(ctx context.Context, m *machine.Machine, command []string) error {
	c := machine.Command{Line: machine.Quote(command), Stdout: a.stdout, Stderr: a.stderr, Stdin: a.stdin}
	restore, err := a.terminal(&c)
	if err != nil {
		return err
	}
	status, err := m.Run(ctx, c)
	restore()
	if err != nil {
		return err
	}
	if status != 0 {
		return codedError{silent{fmt.Errorf("exit status %d", status)}, status}
	}
	return nil
}

// terminal makes c a command with a terminal where we have one. The returned
// function gives ours back as it was.
func (a *app) terminal(c *machine.Command) (restore func(), err error) {
	in, out := terminalFD(a.stdin), terminalFD(a.stdout)
	if in < 0 {
		return func() {}, nil
	}
	if out < 0 {
		c.Stdin = nil // nobody sees what is typed
		return func() {}, nil
	}
	c.TTY, c.Term = true, os.Getenv("TERM")
	if c.Width, c.Height, err = term.GetSize(out); err != nil {
		return nil, fmt.Errorf("asking for the terminal's size: %w", err)
	}
	state, err := term.MakeRaw(in)
	if err != nil {
		return nil, fmt.Errorf("setting the terminal to raw mode: %w", err)
	}
	return func() { _ = term.Restore(in, state) }, nil
}

// terminalFD is a terminal's descriptor, or -1.
func terminalFD(stream any) int {
	if f, ok := stream.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return int(f.Fd())
	}
	return -1
}
