package scan

import (
	"encoding/hex"
	"regexp"
	"runtime"
	"sync"

	"golang.org/x/crypto/scrypt"
)

// MaxFingerprints bounds the time that fingerprints take.
const MaxFingerprints = 200

const fingerprintSize = 8

var fingerprintForm = regexp.MustCompile(`^[0-9a-f]{16}$`)

// fingerprints names findings by rule, path and secret. A report may be
// public and a password short, so that the digest is a slow one: scrypt (RFC
// 7914) with 16 MiB, some 40 ms, salted with rule and path.
// Which are the places in found that need one; what is not told has none.
func fingerprints(found []candidate, which []int) []string {
	prints := make([]string, len(found))
	var wg sync.WaitGroup
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	for _, i := range which[:min(len(which), MaxFingerprints)] {
		if found[i].rest {
			continue
		}
		wg.Add(1)
		slots <- struct{}{}
		go func() {
			defer func() { <-slots; wg.Done() }()
			c := &found[i]
			salt := "kldload scan\x00" + c.rule.id + "\x00" + c.loc.Path
			key, err := scrypt.Key([]byte(c.secret), []byte(salt), 1<<14, 8, 1, fingerprintSize)
			if err == nil { // the parameters are right: it has no other error
				prints[i] = hex.EncodeToString(key)
			}
		}()
	}
	wg.Wait()
	return prints
}
