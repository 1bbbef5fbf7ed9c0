package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Exit codes, the only table of them (docs/cli.md repeats it).
const (
	exitOK          = 0
	exitFailed      = 1   // the command did not do what it was asked
	exitUsage       = 2   // unknown command, flag or argument
	exitChecks      = 3   // what was looked at is not as wanted: a failed check, a broken image, disks that differ
	exitInterrupted = 130 // Ctrl-C or SIGTERM
)

// codedError carries an exit code other than exitFailed.
type codedError struct {
	error
	code int
}

func (e codedError) Unwrap() error { return e.error }

// usagef is an error of the command line itself.
func usagef(format string, args ...any) error {
	return codedError{fmt.Errorf(format, args...), exitUsage}
}

// silent marks an error whose message was already printed.
type silent struct{ error }

// exitCode prints err, once, and turns it into an exit code.
func exitCode(ctx context.Context, a *app, err error) int {
	if err == nil {
		return exitOK
	}
	code := exitFailed
	var coded codedError
	if errors.As(err, &coded) {
		code = coded.code
	}
	if ctx.Err() != nil {
		code = exitInterrupted
	}
	var quiet silent
	if !errors.As(err, &quiet) {
		a.printError(err)
	}
	return code
}

// printError prints "error: …" with the hint lines an error carries.
func (a *app) printError(err error) {
	msg := strings.TrimRight(err.Error(), "\n")
	if !strings.HasPrefix(msg, "error: ") {
		msg = "error: " + msg
	}
	fmt.Fprintln(a.stderr, msg)
}
