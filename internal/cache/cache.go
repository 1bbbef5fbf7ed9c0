// Package cache keeps what is slow to make, by content key, where it may be
// deleted at any time: blobs with their SHA-256, verified whenever they are
// read, and work folders that tell whether their owner still lives.
//
// It bounds nothing by itself; Prune is the user's.
package cache

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/kldload/kldload/internal/atomicfile"
)

// ErrMiss is returned for a key that is not there, ErrDamaged for one whose
// bytes are not what was stored; both mean: make it again.
var (
	ErrMiss    = errors.New("not in the cache")
	ErrDamaged = errors.New("the cache entry is damaged")
)

// Cache is a folder of entries.
type Cache struct{ dir string }

// Open opens the cache at dir, or the user's own (XDG_CACHE_HOME) for "".
func Open(dir string) (*Cache, error) {
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("finding the cache folder: %w\nhint: set HOME or XDG_CACHE_HOME", err)
		}
		dir = filepath.Join(base, "kldload")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	for _, sub := range []string{"trees", "work"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("opening the cache: %w", err)
		}
	}
	return &Cache{dir}, nil
}

// Dir is the cache's folder.
func (c *Cache) Dir() string { return c.dir }

// Key joins inputs to a content key.
func Key(inputs ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(inputs, "\x00")))
	return hex.EncodeToString(sum[:])
}

// Info describes an entry.
type Info struct {
	Key     string          `json:"key"`
	SHA256  string          `json:"sha256"`
	Size    int64           `json:"size"`
	Created time.Time       `json:"created"`
	Title   string          `json:"title"` // for people
	Meta    json.RawMessage `json:"meta,omitempty"`
	Used    time.Time       `json:"-"`
}

func (c *Cache) blob(key string) string { return filepath.Join(c.dir, "trees", key+".tar") }
func (c *Cache) info(key string) string { return filepath.Join(c.dir, "trees", key+".json") }

// Writer stores one entry; it is there after Commit and not before.
type Writer struct {
	c    *Cache
	key  string
	file *atomicfile.File
	sum  hash.Hash
	size int64
}

// Create starts an entry.
func (c *Cache) Create(key string) (*Writer, error) {
	f, err := atomicfile.Create(c.blob(key), 0o600)
	if err != nil {
		return nil, err
	}
	return &Writer{c: c, key: key, file: f, sum: sha256.New()}, nil
}

func (w *Writer) Write(p []byte) (int, error) {
	n, err := w.file.Write(p)
	w.sum.Write(p[:n])
	w.size += int64(n)
	return n, err
}

// Commit makes the entry visible.
func (w *Writer) Commit(title string, meta any) error {
	raw, err := json.Marshal(meta)
	if err != nil {
		return errors.Join(err, w.file.Abort())
	}
	info, err := json.Marshal(Info{
		Key: w.key, SHA256: hex.EncodeToString(w.sum.Sum(nil)), Size: w.size, Created: time.Now().UTC(), Title: title, Meta: raw,
	})
	if err != nil {
		return errors.Join(err, w.file.Abort())
	}
	// An old description must never stand beside new bytes.
	if err := os.Remove(w.c.info(w.key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, w.file.Abort())
	}
	if err := w.file.Commit(); err != nil {
		return err
	}
	return atomicfile.WriteFile(w.c.info(w.key), info, 0o600)
}

// Abort drops the entry.
func (w *Writer) Abort() error { return w.file.Abort() }

// Read copies an entry to w and verifies it on the way. When the error is
// ErrDamaged, what w got is of no use and the entry is gone.
func (c *Cache) Read(key string, w io.Writer, progress func(done, total int64)) (Info, error) {
	info, err := c.Lookup(key)
	if err != nil {
		return info, err
	}
	f, err := os.Open(c.blob(key))
	if errors.Is(err, fs.ErrNotExist) {
		return info, errors.Join(ErrDamaged, c.Remove(key))
	}
	if err != nil {
		return info, err
	}
	sum := sha256.New()
	n, err := io.CopyBuffer(io.MultiWriter(w, sum, counter(info.Size, progress)), struct{ io.Reader }{f}, make([]byte, 1<<20))
	_ = f.Close()
	if n != info.Size || err == nil && hex.EncodeToString(sum.Sum(nil)) != info.SHA256 {
		if err == nil || n < info.Size && errors.Is(err, io.EOF) {
			return info, errors.Join(ErrDamaged, c.Remove(key))
		}
	}
	if err != nil {
		return info, fmt.Errorf("reading the cache: %w", err)
	}
	now := time.Now()
	return info, os.Chtimes(c.info(key), now, now)
}

type counterFunc func(n int)

func (f counterFunc) Write(p []byte) (int, error) { f(len(p)); return len(p), nil }

func counter(total int64, progress func(done, total int64)) io.Writer {
	var done int64
	return counterFunc(func(n int) {
		done += int64(n)
		if progress != nil {
			progress(done, total)
		}
	})
}

// Lookup describes an entry without reading it.
func (c *Cache) Lookup(key string) (Info, error) {
	var info Info
	b, err := os.ReadFile(c.info(key))
	if errors.Is(err, fs.ErrNotExist) {
		return info, ErrMiss
	}
	if err != nil {
		return info, err
	}
	if json.Unmarshal(b, &info) != nil || info.Key != key {
		return info, errors.Join(ErrDamaged, c.Remove(key))
	}
	if st, err := os.Stat(c.info(key)); err == nil {
		info.Used = st.ModTime()
	}
	return info, nil
}

// Remove drops an entry.
func (c *Cache) Remove(key string) error {
	var errs []error
	for _, name := range []string{c.info(key), c.blob(key)} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// List gives the entries, the most recently used first.
func (c *Cache) List() ([]Info, error) {
	names, err := filepath.Glob(filepath.Join(c.dir, "trees", "*.json"))
	if err != nil {
		return nil, err
	}
	var out []Info
	for _, name := range names {
		info, err := c.Lookup(strings.TrimSuffix(filepath.Base(name), ".json"))
		if err == nil {
			out = append(out, info)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Used.After(out[j].Used) })
	return out, nil
}
