package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
)

func TestAbortLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	f, err := Create(filepath.Join(dir, "x"), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	f.Write([]byte("half"))
	if err := f.Abort(); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

func TestCommitReplacesWhole(t *testing.T) {
	name := filepath.Join(t.TempDir(), "x")
	for _, s := range []string{"one", "two"} {
		if err := WriteFile(name, []byte(s), 0o640); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(name)
		if err != nil || string(got) != s {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	if st, _ := os.Stat(name); st.Mode().Perm() != 0o640 {
		t.Errorf("mode %v", st.Mode())
	}
}

// TestCreateBesideBareName: a name without a folder is of the working one,
// which may be on another file system than temporary files.
func TestCreateBesideBareName(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "nosuch"))
	f, err := Create("x", 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if found, _ := filepath.Glob(".x.*" + suffix); len(found) != 1 {
		t.Errorf("temporary files in the working folder: %v, want one", found)
	}
	if err := f.Close(); err != nil { // as a killed process would leave it
		t.Fatal(err)
	}
	if err := Sweep("x"); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile("x", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir("."); len(left) != 1 {
		t.Errorf("left %v, want x alone", left)
	}
}

func TestSweepTakesWhatTheDeadLeft(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "disk.raw")
	dead, _ := Create(name, 0o644)
	dead.Close() // as a killed process would leave it
	alive, _ := Create(name, 0o644)
	other, _ := Create(name+"2", 0o644)
	other.Close()
	os.WriteFile(name, nil, 0o644)
	os.WriteFile(filepath.Join(dir, ".disk.raw.mine.partial"), nil, 0o644) // not of our making
	if err := Sweep(name); err != nil {
		t.Fatal(err)
	}
	left, _ := os.ReadDir(dir)
	var names []string
	for _, e := range left {
		names = append(names, e.Name())
	}
	slices.Sort(names)
	want := []string{filepath.Base(alive.Name()), filepath.Base(other.Name()), ".disk.raw.mine.partial", "disk.raw"}
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Errorf("left %v, want %v", names, want)
	}
	if err := Sweep(filepath.Join(dir, "nosuch", "x")); err != nil {
		t.Errorf("without a folder: %v", err)
	}
}

func TestCommitNewReplacesNothing(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "x")
	for i, want := range []error{nil, fs.ErrExist} {
		f, err := Create(name, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		f.WriteString(strconv.Itoa(i))
		if err := f.CommitNew(); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	if got, _ := os.ReadFile(name); string(got) != "0" {
		t.Errorf("holds %q", got)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left %v", left)
	}
}
