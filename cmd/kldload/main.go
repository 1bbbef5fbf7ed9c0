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
	if err := checkName(os.Args[0]); err != nil {
		return exitCode(ctx, a, err)
	}
	root.SetArgs(packerArgs(root, os.Args[1:]))
	return exitCode(ctx, a, root.ExecuteContext(ctx))
}

// checkName refuses the names whose commands are not part of this version, and
// says what does their work.
func checkName(argv0 string) error {
	switch name := filepath.Base(argv0); name {
	case "kexport":
		return usagef("kexport has no commands of its own in this version\n" +
			"hint: a template's post-processor \"kexport\" writes the formats: kldload build --help")
	case "kldload-install-target":
		return usagef("kldload-install-target has no commands of its own in this version\n" +
			"hint: kldload build makes an image that is written to a disk as it is (format raw)")
	}
	return nil
}
