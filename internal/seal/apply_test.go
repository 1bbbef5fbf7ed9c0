package seal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// state describes every file of a folder, times aside.
func state(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		what := fmt.Sprintf("%v %d:%d", info.Mode(), st.Uid, st.Gid)
		switch {
		case info.Mode().IsRegular():
			b, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			x := make([]byte, 64)
			n, _ := unix.Lgetxattr(name, "user.kept", x)
			what += fmt.Sprintf(" %q %q", b, x[:max(n, 0)])
		case info.Mode().Type() == fs.ModeSymlink:
			to, err := os.Readlink(name)
			if err != nil {
				return err
			}
			what += " " + to
		}
		rel, err := filepath.Rel(dir, name)
		out[rel] = what
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// plantOdd adds what is in the way of files to write.
func plantOdd(t *testing.T) string {
	t.Helper()
	dir := plant(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(filepath.Join(dir, "etc/cloud"), []byte("not a folder"), 0o600))
	must(os.Mkdir(filepath.Join(dir, "etc/kldload"), 0o755))
	must(os.MkdirAll(filepath.Join(dir, "etc/kldload/sealed/deep"), 0o755))
	must(os.Remove(filepath.Join(dir, "etc/machine-id")))
	must(os.Symlink("../nowhere", filepath.Join(dir, "etc/machine-id")))
	must(unix.Setxattr(filepath.Join(dir, "etc/shadow"), "user.kept", []byte("yes"), 0))
	return dir
}

var errStop = errors.New("stopped")

// TestInterrupted stops before each operation, runs again, and wants what one
// run gives.
func TestInterrupted(t *testing.T) {
	o := opts
	o.Live = true // slow to the disk, once
	clean := plantOdd(t)
	operations := 0
	if _, err := apply(clean, o, func(string, string) error { operations++; return nil }); err != nil {
		t.Fatal(err)
	}
	want := state(t, clean)
	if left := check(t, clean, o); len(left) > 0 {
		t.Fatalf("one run leaves %v", left)
	}
	if operations < len(planted) {
		t.Fatalf("%d operations for %d files", operations, len(planted))
	}
	o.Live = false
	for stop := range operations {
		dir := plantOdd(t)
		n, at := 0, ""
		_, err := apply(dir, o, func(op, name string) error {
			if n++; n > stop {
				at = op + " " + name
				return errStop
			}
			return nil
		})
		if !errors.Is(err, errStop) {
			t.Fatalf("operation %d: got %v", stop, err)
		}
		if _, err := Apply(dir, o); err != nil {
			t.Fatalf("stopped before %s, run again: %v", at, err)
		}
		if diff := cmp.Diff(want, state(t, dir)); diff != "" {
			t.Errorf("stopped before %s, run again (-want +got):\n%s", at, diff)
		}
	}
}

// TestPlanIsWhatApplyDoes holds the plan against the folder afterwards.
func TestPlanIsWhatApplyDoes(t *testing.T) {
	dir := plantOdd(t)
	before := state(t, dir)
	plan, err := NewPlan(dirFS(t, dir), opts)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, state(t, dir)); diff != "" {
		t.Fatalf("planning changed the tree:\n%s", diff)
	}
	if _, err := Apply(dir, opts); err != nil {
		t.Fatal(err)
	}
	after := state(t, dir)
	files := map[string]File{}
	for _, f := range plan.Files() {
		files[f.Path] = f
	}
	for name := range before {
		_, stays := after[name]
		_, written := files[name]
		if want := written || !plan.Removes(name); stays != want {
			t.Errorf("%s: stays is %v, the plan says %v", name, stays, want)
		}
		if !written && stays && before[name] != after[name] {
			t.Errorf("%s changed from %s to %s and is not in the plan", name, before[name], after[name])
		}
	}
	for name, f := range files {
		if after[name] == "" {
			t.Errorf("%s is in the plan and was not made", name)
		}
		if f.Edit && f.Mode.Perm() != 0o640 {
			t.Errorf("%s: the plan has mode %v", name, f.Mode)
		}
	}
	delete(after, ".")
	for name := range after {
		if _, planned := files[name]; before[name] == "" && !planned {
			t.Errorf("%s was made and is not in the plan", name)
		}
	}
}

// TestLinksInTheTree: names are as the sealed machine reads them.
func TestLinksInTheTree(t *testing.T) {
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"data/log", "srv/ops/.ssh", "usr/keep", "etc/real"} {
		must(os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	write := func(name, text string) { must(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)) }
	link := func(to, name string) {
		must(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		must(os.Symlink(to, filepath.Join(dir, name)))
	}
	write("data/log/syslog", "x")
	write("srv/ops/.bash_history", "x")
	write("usr/keep/file", "x")
	write("etc/real/shadow", "root:$6$x:1::::::\n")
	write("etc/passwd", "ops:x:1000:1000::/home/ops:/bin/sh\nnobody:x:1:1:::\nshort\n")
	link("/data/log", "var/log")             // absolute: from the tree's root
	link("/../../../../srv/ops", "home/ops") // ".." stops there
	link("/usr/keep", "var/tmp")             // must not empty the system
	link("loop", "var/lib/cloud")
	must(os.Symlink("cloud", filepath.Join(dir, "var/lib/loop")))
	link("real/shadow", "etc/shadow")
	if _, err := Apply(dir, opts); err != nil {
		t.Fatal(err)
	}
	after := state(t, dir)
	for _, gone := range []string{"data/log/syslog", "srv/ops/.bash_history"} {
		if after[gone] != "" {
			t.Errorf("%s is still there", gone)
		}
	}
	for _, stays := range []string{"usr/keep/file", "etc/shadow", "var/log", "home/ops"} {
		if after[stays] == "" {
			t.Errorf("%s is gone", stays)
		}
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "etc/real/shadow")); string(b) != "root:!:1::::::\n" {
		t.Errorf("the file behind the link has %q", b)
	}
}

// TestCheckWantsModesAndOwners: a file with the right content alone is not
// what was written.
func TestCheckWantsModesAndOwners(t *testing.T) {
	dir := plant(t)
	if _, err := Apply(dir, opts); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "etc/machine-id"), 0o600); err != nil {
		t.Fatal(err)
	}
	left := check(t, dir, opts)
	if len(left) != 1 || left[0].Path != "etc/machine-id" {
		t.Errorf("got %v", left)
	}
	other := opts
	other.owner.uid++
	if len(check(t, dir, other)) < 3 {
		t.Error("an owner that differs is no violation")
	}
}
