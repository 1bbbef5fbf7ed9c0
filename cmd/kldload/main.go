// Command kldload is the image factory: templates and an offline package
// mirror in, sealed golden images out. One file per command; each parses its
// flags, calls one room of internal/ and prints.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

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
	root := newRootCommand(a)
	root.SetArgs(packerArgs(root, os.Args[1:]))
	return exitCode(ctx, a, root.ExecuteContext(ctx))
}
