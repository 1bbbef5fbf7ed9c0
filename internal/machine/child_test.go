package machine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kldload/kldload/internal/run"
)

// TestMain is the parent that TestChildDiesWithUs kills, when asked to.
func TestMain(m *testing.M) {
	if os.Getenv("MACHINE_TEST_PARENT") == "" {
		os.Exit(m.Run())
	}
	work, err := newWorkDir()
	if err != nil {
		panic(err)
	}
	ch, err := startChild(context.Background(), run.Cmd{Doing: "sleeping", Args: []string{"sleep", "600"}})
	if err != nil {
		panic(err)
	}
	fmt.Println(ch.proc.Pid(), work.dir)
	<-ch.done
}

func TestChildDiesWithUsAndItsFolderIsSwept(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	tmp := t.TempDir()
	r, w := io.Pipe()
	parent, err := run.Start(context.Background(), run.Cmd{Doing: "being a parent", Args: []string{self},
		Env: append(os.Environ(), "MACHINE_TEST_PARENT=1", "TMPDIR="+tmp), Stdout: w})
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	var dir string
	if _, err := fmt.Sscan(line, &pid, &dir); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	sweepWorkDirs(tmp)
	if _, err := os.Stat(dir); err != nil {
		t.Fatalf("a living process's folder was swept: %v", err)
	}
	if err := syscall.Kill(parent.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	if !gone(pid) {
		t.Errorf("process %d outlived kill -9 of its parent", pid)
	}
	sweepWorkDirs(tmp)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a killed process's folder stays: %v", err)
	}
}

// gone waits until a process has ended; a zombie that nobody reaps has.
func gone(pid int) bool {
	for range 100 {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return true
		}
		time.Sleep(20 * time.Millisecond)
	}
	return false
}

func TestKeptFolderIsNotSwept(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	w, err := newWorkDir()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.keep(); err != nil {
		t.Fatal(err)
	}
	sweepWorkDirs(tmp)
	if st, err := os.Stat(w.dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("kept folder: %v, %v", st, err)
	}
	if err := os.WriteFile(filepath.Join(w.dir, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.remove(); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(tmp); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
}
