package export

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/kldload/kldload/internal/atomicfile"
	"github.com/kldload/kldload/internal/ui"
)

// killedIn names the folder in which this program, started anew by TestKill,
// converts and dies in the midst of it.
const killedIn = "KLDLOAD_TEST_KILLED_IN"

func TestMain(m *testing.M) {
	if dir := os.Getenv(killedIn); dir != "" {
		dieConverting(dir)
	}
	os.Exit(m.Run())
}

func dieConverting(dir string) {
	choices, err := Choose([]string{"qcow2", "raw"})
	if err == nil {
		_, err = Convert(context.Background(), Request{
			Input: filepath.Join(dir, "disk.raw"), Choices: choices, OutputDir: filepath.Join(dir, "out"), Name: "web",
			UI: ui.New(writerFunc(func([]byte) { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) }), ui.JSON),
		})
	}
	panic(err) // it lives
}

func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	makeDisk(t, filepath.Join(dir, "disk.raw"))
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killedIn+"="+dir)
	var exit *exec.ExitError
	if out, err := cmd.CombinedOutput(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("%v: %s", err, out)
	}
	left := list(t, filepath.Join(dir, "out"))
	if strings.Count(left, ".partial") != 2 || strings.Count(left, " ") != 1 {
		t.Errorf("a killed run left %s, want two partial files", left)
	}
	alive, err := atomicfile.Create(filepath.Join(dir, "out", "web.raw"), 0o644) // another run that lives
	if err != nil {
		t.Fatal(err)
	}
	defer alive.Abort()
	if _, err := Convert(t.Context(), request(t, dir, "qcow2", "raw")); err != nil {
		t.Fatal(err)
	}
	want := filepath.Base(alive.Name()) + " web.manifest.json web.qcow2 web.qcow2.sha256 web.raw web.raw.sha256"
	if got := list(t, filepath.Join(dir, "out")); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
