package cache

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func store(t *testing.T, c *Cache, key, text string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "entry")
	if err := os.MkdirAll(filepath.Join(dir, "root"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "root", "f"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	e, err := c.Adopt(dir, Info{Key: key, SHA256: "ab", Size: 2, Title: "a tree"})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(e.Root, "f")); err != nil || string(b) != text {
		t.Fatalf("the entry adopted holds %q, %v", b, err)
	}
	if err := e.Release(); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T) *Cache {
	t.Helper()
	c, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func take(t *testing.T, c *Cache, key string) *Entry {
	t.Helper()
	e, err := c.Take(key)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestAdoptedIsTaken(t *testing.T) {
	c := open(t)
	if _, err := c.Take("k"); !errors.Is(err, ErrMiss) {
		t.Fatalf("got %v", err)
	}
	store(t, c, "k", "first")
	store(t, c, "k", "second") // another build was quicker: its tree stays
	e := take(t, c, "k")
	if b, err := os.ReadFile(filepath.Join(e.Root, "f")); err != nil || string(b) != "first" || e.SHA256 != "ab" {
		t.Errorf("got %q, %+v, %v", b, e.Info, err)
	}
}

func TestDescriptionDamagedMeansNoDigest(t *testing.T) {
	c := open(t)
	store(t, c, "k", "x")
	if err := os.WriteFile(filepath.Join(c.dirOf("k"), infoName), []byte(`{"key":"other","sha256":"ab"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if e := take(t, c, "k"); e.SHA256 != "" {
		t.Errorf("got digest %q", e.SHA256)
	}
}

func TestWhatIsUsedIsNotRemoved(t *testing.T) {
	c := open(t)
	store(t, c, "k", "x")
	e, again := take(t, c, "k"), take(t, c, "k")
	for _, use := range []*Entry{e, again} {
		if removed, err := c.Remove("k", os.RemoveAll); removed || err != nil {
			t.Fatalf("removed %v, %v", removed, err)
		}
		if err := use.Release(); err != nil {
			t.Fatal(err)
		}
	}
	if removed, err := c.Remove("k", os.RemoveAll); !removed || err != nil {
		t.Fatalf("removed %v, %v", removed, err)
	}
	if _, err := c.Take("k"); !errors.Is(err, ErrMiss) {
		t.Errorf("got %v", err)
	}
}

func TestPruneLeavesWhatIsUsedAndWhoLives(t *testing.T) {
	c := open(t)
	store(t, c, "old", "1")
	store(t, c, "new", "2")
	past := time.Now().Add(-48 * time.Hour)
	if err := os.Chtimes(filepath.Join(c.dirOf("old"), infoName), past, past); err != nil {
		t.Fatal(err)
	}
	alive, err := c.NewWork("build")
	if err != nil {
		t.Fatal(err)
	}
	dead, err := c.NewWork("build")
	if err != nil {
		t.Fatal(err)
	}
	if err := dead.Keep(); err != nil {
		t.Fatal(err)
	}
	entries, folders, err := c.Prune(24*time.Hour, os.RemoveAll)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 || entries[0].Key != "old" || len(folders) != 1 || folders[0] != dead.Dir {
		t.Errorf("removed %v and %v", entries, folders)
	}
	if _, err := os.Stat(alive.Dir); err != nil {
		t.Error(err)
	}
	if err := alive.Remove(os.RemoveAll); err != nil {
		t.Error(err)
	}
}

func TestWorkFoldersArePrivateAndOwned(t *testing.T) {
	c := open(t)
	w, err := c.NewWork("build")
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(w.Dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	if stale, err := c.Stale(); err != nil || len(stale) != 0 {
		t.Errorf("stale: %v, %v", stale, err)
	}
	if err := w.Remove(os.RemoveAll); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(filepath.Join(c.Dir(), "work")); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}
