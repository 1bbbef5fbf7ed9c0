// Command kldload is the image factory: templates and an offline package
// mirror in, sealed golden images out. One file per command; each parses its
// flags, calls one room of internal/ and prints.
package main

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/kldload/kldload/internal/pipeline"
	"github.com/kldload/kldload/internal/sandbox"
)

func main() {
	sandbox.Main(pipeline.SandboxFuncs()) // does not return inside a sandbox
	os.Exit(mainCode())
}

// mainCode runs the command line and returns the exit code; it is apart from
// main so that tests can run it in their own process.
func mainCode() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	root, err := commandNamed(a, os.Args[0])
	if err != nil {
		return exitCode(ctx, a, err)
	}
	root.SetArgs(packerArgs(root, os.Args[1:]))
	return exitCode(ctx, a, root.ExecuteContext(ctx))
}

// commandNamed is the root of the commands that the binary has under the name
// it was called by.
func commandNamed(a *app, argv0 string) (*cobra.Command, error) {
	switch name := filepath.Base(argv0); name {
	case "kexport":
		return a.asRoot(newKexportCommand(a)), nil
	case "kldload-install-target":
		return nil, usagef("kldload-install-target has no commands of its own in this version\n" +
			"hint: kldload build makes an image that is written to a disk as it is (format raw)")
	}
	return newRootCommand(a), nil
}
