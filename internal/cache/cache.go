// Package cache keeps what is slow to make, by content key, where it may be
// deleted at any time: root trees with the digest of their content, and work
// folders that tell whether their owner still lives.
//
// A tree's files belong to the ids of a sandbox, so that looking into one and
// deleting one are the caller's to do there; this package keeps names, locks
// and descriptions. It bounds nothing by itself; Prune is the user's.
package cache

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kldload/kldload/internal/atomicfile"
)

// ErrMiss is returned for a key that is not there.
var ErrMiss = errors.New("not in the cache")

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
	SHA256  string          `json:"sha256"` // of the tree's packed stream
	Size    int64           `json:"size"`   // of that stream in bytes
	Created time.Time       `json:"created"`
	Title   string          `json:"title"` // for people
	Meta    json.RawMessage `json:"meta,omitempty"`
	Used    time.Time       `json:"-"`
}

// Entry is a tree of the cache in use: while it is not released, nobody
// removes it. Its files must not be changed.
type Entry struct {
	Info
	Root string
	dir  string
	lock *os.File
}

func (c *Cache) dirOf(key string) string { return filepath.Join(c.dir, "trees", key) }

const infoName = "entry.json"

// Take gives the tree of a key, locked against removal; ErrMiss when there
// is none. That its content is what was stored is the caller's to verify.
func (c *Cache) Take(key string) (*Entry, error) {
	lock, err := c.lock(key, unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	e := &Entry{dir: c.dirOf(key), Root: filepath.Join(c.dirOf(key), "root"), lock: lock}
	if e.Info, err = readInfo(e.dir, key); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	now := time.Now()
	return e, os.Chtimes(filepath.Join(e.dir, infoName), now, now)
}

// Release lets others remove the entry.
func (e *Entry) Release() error { return e.lock.Close() }

// lock takes the lock file of a key; it stays when the entry goes, so that
// two processes never hold locks on different files of one name.
func (c *Cache) lock(key string, how int) (*os.File, error) {
	f, err := os.OpenFile(c.dirOf(key)+lockSuffix, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the cache entry: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), how); err != nil {
		return nil, errors.Join(fmt.Errorf("locking the cache entry: %w", err), f.Close())
	}
	return f, nil
}

func readInfo(dir, key string) (Info, error) {
	var info Info
	name := filepath.Join(dir, infoName)
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return info, ErrMiss
	}
	if err != nil {
		return info, err
	}
	if json.Unmarshal(b, &info) != nil || info.Key != key {
		info = Info{Key: key} // no digest: whoever verifies it finds it damaged
	}
	if st, err := os.Stat(name); err == nil {
		info.Used = st.ModTime()
	}
	return info, nil
}

// Adopt makes the folder dir, which holds the tree in "root", the entry of
// info.Key in one step. Where another process was quicker, its entry stays:
// then dir is left where it is and the entry returned is dir itself.
func (c *Cache) Adopt(dir string, info Info) (*Entry, error) {
	info.Created = time.Now().UTC()
	b, err := json.Marshal(info)
	if err != nil {
		return nil, err
	}
	if err := atomicfile.WriteFile(filepath.Join(dir, infoName), b, 0o600); err != nil {
		return nil, err
	}
	lock, err := c.lock(info.Key, unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	// A folder that is not empty, as every entry is, is never replaced.
	err = os.Rename(dir, c.dirOf(info.Key))
	switch {
	case err == nil:
		dir = c.dirOf(info.Key)
	case !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENOTEMPTY):
		return nil, errors.Join(fmt.Errorf("storing the tree in the cache: %w", err), lock.Close())
	}
	return &Entry{Info: info, dir: dir, Root: filepath.Join(dir, "root"), lock: lock}, nil
}

// Remove drops an entry that nobody uses, and tells whether it did. The
// folder is renamed first, so that a half-removed tree is never taken.
func (c *Cache) Remove(key string, remove func(dir string) error) (bool, error) {
	lock, err := c.lock(key, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	doomed := filepath.Join(c.dir, "work", "removed-"+key[:min(12, len(key))]+fmt.Sprintf("-%d", os.Getpid()))
	err = os.Rename(c.dirOf(key), doomed)
	if errors.Is(err, fs.ErrNotExist) {
		return false, lock.Close()
	}
	if err == nil {
		err = remove(doomed)
	}
	return err == nil, errors.Join(err, lock.Close())
}

// List gives the entries, the most recently used first.
func (c *Cache) List() ([]Info, error) {
	names, err := filepath.Glob(filepath.Join(c.dir, "trees", "*", infoName))
	if err != nil {
		return nil, err
	}
	out := []Info{}
	for _, name := range names {
		dir := filepath.Dir(name)
		if info, err := readInfo(dir, filepath.Base(dir)); err == nil {
			out = append(out, info)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Used.After(out[j].Used) })
	return out, nil
}
