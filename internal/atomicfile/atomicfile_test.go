package atomicfile

import (
	"os"
	"path/filepath"
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

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	f, _ := Create(filepath.Join(dir, "disk.raw"), 0o644)
	f.Close() // as a killed process would leave it
	os.WriteFile(filepath.Join(dir, "disk.raw"), nil, 0o644)
	if err := Sweep(dir, "disk.raw"); err != nil {
		t.Fatal(err)
	}
	left, _ := os.ReadDir(dir)
	if len(left) != 1 || left[0].Name() != "disk.raw" {
		t.Errorf("left %v", left)
	}
}
