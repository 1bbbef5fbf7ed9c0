//go:build integration

package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// nothingLeft asserts that a build, however it ended, left no process, no
// loop device, no work folder and no unfinished output.
func nothingLeft(t *testing.T, cache, dir string) {
	t.Helper()
	noProcesses(t)
	if left := names(t, filepath.Join(cache, "work")); len(left) > 0 {
		t.Errorf("the cache's work folder holds %v", left)
	}
	noStaging(t, dir)
	for _, file := range glob(t, "/sys/block/loop*/loop/backing_file") {
		if b, err := os.ReadFile(file); err == nil && strings.HasPrefix(string(b), public) {
			t.Errorf("a loop device is left on %s", b)
		}
	}
}

func noStaging(t *testing.T, dir string) {
	t.Helper()
	if left := glob(t, filepath.Join(dir, ".*.partial*")); len(left) > 0 {
		t.Errorf("unfinished output is left: %v", left)
	}
}

// noProcesses waits a little: the kernel ends a killed sandbox in its time.
func noProcesses(t *testing.T) {
	t.Helper()
	var left []string
	for range 50 {
		if left = processes(t); len(left) == 0 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("processes are left: %v", left)
}

// mark is an argument by which a test finds its scripts' processes.
const mark = "31415.926"

// processes lists those of our binary, and the marked ones.
func processes(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, proc := range glob(t, "/proc/[0-9]*") {
		exe, _ := os.Readlink(proc + "/exe")
		line, _ := os.ReadFile(proc + "/cmdline")
		if strings.TrimSuffix(exe, " (deleted)") == binary || strings.Contains(string(line), mark) {
			out = append(out, proc+" "+strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return out
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return found
}
