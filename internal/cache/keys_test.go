package cache

import (
	"crypto/sha256"
	"encoding/binary"
	"os"
	"sync"
	"testing"
	"time"
)

func key(n int) Key32 { return sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n))) }

// saved adds keys and saves.
func saved(t *testing.T, c *Cache, from, to int) {
	t.Helper()
	k := c.Keys("k")
	for n := from; n < to; n++ {
		k.Add(key(n))
	}
	if err := k.Save(); err != nil {
		t.Error(err)
	}
}

// have counts those of the first n keys that the set holds.
func have(c *Cache, n int) (count int) {
	k := c.Keys("k")
	for i := range n {
		if k.Has(key(i)) {
			count++
		}
	}
	return count
}

func TestKeysAreKept(t *testing.T) {
	c := open(t)
	if have(c, 10) != 0 {
		t.Fatal("a set that was never saved has keys")
	}
	saved(t, c, 0, 5)
	saved(t, c, 3, 8)
	if n := have(c, 10); n != 8 {
		t.Errorf("%d keys are there, want 8", n)
	}
	if removed, err := c.PruneKeys(time.Hour); removed || err != nil || have(c, 10) != 8 {
		t.Errorf("pruning what is older than an hour: %t, %v", removed, err)
	}
	if removed, err := c.PruneKeys(0); !removed || err != nil || have(c, 10) != 0 {
		t.Errorf("pruning: %t, %v", removed, err)
	}
}

func TestDamagedKeysAreNone(t *testing.T) {
	c := open(t)
	saved(t, c, 0, 5)
	good, err := os.ReadFile(c.keysFile("k"))
	if err != nil {
		t.Fatal(err)
	}
	for at := range good {
		bad := append([]byte{}, good...)
		bad[at] ^= 1
		for _, b := range [][]byte{bad, good[:at]} {
			if err := os.WriteFile(c.keysFile("k"), b, 0o600); err != nil {
				t.Fatal(err)
			}
			if have(c, 5) != 0 {
				t.Fatalf("byte %d is wrong or the first that is missing, and there are keys", at)
			}
		}
	}
	saved(t, c, 0, 5)
	if have(c, 5) != 5 {
		t.Error("a damaged set is not replaced")
	}
}

// TestKeysAreBounded wants the last used to stay.
func TestKeysAreBounded(t *testing.T) {
	c := open(t)
	saved(t, c, 0, MaxKeys)
	saved(t, c, MaxKeys, MaxKeys+100)
	k := c.Keys("k")
	if !k.Has(key(MaxKeys)) || !k.Has(key(MaxKeys+99)) || !k.Has(key(0)) || k.Has(key(MaxKeys-1)) {
		t.Error("the set does not hold the last used")
	}
}

func TestKeysOfSeveralWriters(t *testing.T) {
	c := open(t)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() { saved(t, c, w*100, w*100+100) })
	}
	wg.Wait()
	if n := have(c, 800); n < 100 || n%100 != 0 {
		t.Errorf("%d keys are there, want those of some writers, whole", n)
	}
}
