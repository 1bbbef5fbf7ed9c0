package cache

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"time"
)

func store(t *testing.T, c *Cache, key, text string) {
	t.Helper()
	w, err := c.Create(key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit("a tree", map[string]int{"n": 1}); err != nil {
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

func TestStoredIsRead(t *testing.T) {
	c := open(t)
	if _, err := c.Read("k", &bytes.Buffer{}, nil); !errors.Is(err, ErrMiss) {
		t.Fatalf("got %v", err)
	}
	store(t, c, "k", "content")
	var out bytes.Buffer
	info, err := c.Read("k", &out, nil)
	if err != nil || out.String() != "content" || string(info.Meta) != `{"n":1}` {
		t.Errorf("got %q, %s, %v", out.String(), info.Meta, err)
	}
}

func TestDamageIsNoticedAndTheEntryGoes(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"flipped":   func(p string) error { return os.WriteFile(p, []byte("cOntent"), 0o600) },
		"truncated": func(p string) error { return os.Truncate(p, 3) },
		"longer":    func(p string) error { return os.WriteFile(p, []byte("content+"), 0o600) },
		"gone":      os.Remove,
	} {
		c := open(t)
		store(t, c, "k", "content")
		if err := damage(c.blob("k")); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read("k", &bytes.Buffer{}, nil); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: got %v", name, err)
		}
		if _, err := c.Lookup("k"); !errors.Is(err, ErrMiss) {
			t.Errorf("%s: the entry is still there: %v", name, err)
		}
	}
}

func TestPruneLeavesWhatIsUsedAndWhoLives(t *testing.T) {
	c := open(t)
	store(t, c, "old", "1")
	store(t, c, "new", "2")
	past := time.Now().Add(-48 * time.Hour)
	if err := os.Chtimes(c.info("old"), past, past); err != nil {
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
