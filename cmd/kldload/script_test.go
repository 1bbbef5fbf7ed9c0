package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kldload/kldload/internal/pipeline"
	"github.com/kldload/kldload/internal/sandbox"
)

func TestMain(m *testing.M) {
	sandbox.Main(pipeline.SandboxFuncs()) // as main does
	run := func() { os.Exit(mainCode()) }
	testscript.Main(m, map[string]func(){"kldload": run, "kexport": run, "kldload-install-target": run})
}

// TestScript runs each testdata/script/*.txtar with the real command line.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", Cmds: map[string]func(*testscript.TestScript, bool, []string){"mkimage": mkimage}})
}
