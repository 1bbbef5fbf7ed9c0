package cache

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/kldload/kldload/internal/atomicfile"
)

// Key32 is a digest that stands for something done.
type Key32 = [sha256.Size]byte

// Keys is a set of keys that outlives a process, of things that need not be
// done again. Its methods may be used from several goroutines at once.
type Keys struct {
	name string
	mu   sync.Mutex
	old  map[Key32]bool // as they were read
	used map[Key32]bool // by this process
	now  []Key32        // those, in order
}

// MaxKeys bounds a set: 8 MiB. A disk of a server takes 27,000.
const MaxKeys = 1 << 18

const keysMagic = "kldload keys 1\n"

func (c *Cache) keysFile(name string) string { return filepath.Join(c.dir, name+".keys") }

// Keys reads a set. One that is missing or damaged is empty: what it stood for
// is done again.
func (c *Cache) Keys(name string) *Keys {
	k := &Keys{name: c.keysFile(name), used: map[Key32]bool{}}
	list := readKeys(k.name)
	k.old = make(map[Key32]bool, len(list))
	for _, key := range list {
		k.old[key] = true
	}
	return k
}

// readKeys reads a file: a line that names the form, the keys, the last used
// first, SHA-256 of all before it.
func readKeys(name string) []Key32 {
	st, err := os.Stat(name)
	if err != nil || st.Size() > int64(len(keysMagic)+(MaxKeys+1)*sha256.Size) {
		return nil
	}
	b, err := os.ReadFile(name)
	body := len(b) - sha256.Size
	if err != nil || body < len(keysMagic) || (body-len(keysMagic))%sha256.Size != 0 ||
		string(b[:len(keysMagic)]) != keysMagic || sha256.Sum256(b[:body]) != Key32(b[body:]) {
		return nil
	}
	list := make([]Key32, 0, body/sha256.Size)
	for at := len(keysMagic); at < body; at += sha256.Size {
		list = append(list, Key32(b[at:at+sha256.Size]))
	}
	return list
}

// Has says whether a key was there when the set was read.
func (k *Keys) Has(key Key32) bool { return k.old[key] } // never written

// Add puts a key in, or says that it is of use still.
func (k *Keys) Add(key Key32) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.used[key] {
		k.used[key] = true
		k.now = append(k.now, key)
	}
}

// Save writes the set, whole or not at all: what was added, and what other
// processes have written, up to MaxKeys. Of two that save at the same time, the
// keys of one may be lost.
func (k *Keys) Save() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	b := []byte(keysMagic)
	n, in := 0, make(map[Key32]bool, len(k.now)+len(k.old))
	for _, list := range [][]Key32{k.now, readKeys(k.name)} {
		for _, key := range list {
			if n < MaxKeys && !in[key] {
				in[key] = true
				b = append(b, key[:]...)
				n++
			}
		}
	}
	sum := sha256.Sum256(b)
	if err := atomicfile.WriteFile(k.name, append(b, sum[:]...), 0o600); err != nil {
		return fmt.Errorf("remembering what was done in the cache: %w", err)
	}
	return nil
}

// PruneKeys removes the sets not written for olderThan, and tells whether
// there was one.
func (c *Cache) PruneKeys(olderThan time.Duration) (bool, error) {
	names, err := filepath.Glob(c.keysFile("*"))
	if err != nil {
		return false, err
	}
	removed := false
	for _, name := range names {
		st, err := os.Stat(name)
		if err != nil || time.Since(st.ModTime()) < olderThan {
			continue
		}
		if err := ignoreMissing(os.Remove(name)); err != nil {
			return removed, err
		}
		removed = true
	}
	return removed, nil
}
