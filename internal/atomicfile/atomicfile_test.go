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
