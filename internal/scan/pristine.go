package scan

import (
	"bufio"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
)

// digest is an MD5, as dpkg keeps them (dpkg's deb-md5sums(5)): it tells what a
// package ships, it does not prove who made it.
type digest = [md5.Size]byte

// maxDigests bounds what a foreign database makes us keep; the largest Debian
// systems have half a million files.
const maxDigests = 4 << 20

// pristine are the contents of installed packages' files, whatever their
// path: a copy in an initramfs is known, too.
type pristine struct {
	mu   sync.RWMutex
	sums map[digest]struct{}
}

func newPristine() *pristine { return &pristine{sums: map[digest]struct{}{}} }

func (p *pristine) has(d digest) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	_, ok := p.sums[d]
	return ok
}

func (p *pristine) empty() bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return len(p.sums) == 0
}

// learn reads var/lib/dpkg: info/*.md5sums, and the configuration files in
// status, which the former do not hold.
func (p *pristine) learn(root fs.FS) error {
	entries, err := fs.ReadDir(root, "var/lib/dpkg/info")
	if err != nil {
		return nil // no dpkg here
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".md5sums") {
			continue
		}
		if err := p.lines(root, "var/lib/dpkg/info/"+e.Name(), false); err != nil {
			return err
		}
	}
	return p.lines(root, "var/lib/dpkg/status", true)
}

// lines reads one file: "MD5  path", or in status " /path MD5" below
// "Conffiles:".
func (p *pristine) lines(root fs.FS, name string, status bool) error {
	f, err := root.Open(name)
	if err != nil {
		if status {
			return nil
		}
		return fmt.Errorf("reading the digests of a package: %w", err)
	}
	defer f.Close()
	sc := bufio.NewScanner(io.LimitReader(f, 256<<20))
	sc.Buffer(nil, 1<<20)
	p.mu.Lock()
	defer p.mu.Unlock()
	for sc.Scan() && len(p.sums) < maxDigests {
		fields := strings.Fields(sc.Text())
		if len(fields) < 2 {
			continue
		}
		sum := fields[0]
		if status {
			if !strings.HasPrefix(sc.Text(), " /") {
				continue
			}
			sum = fields[1]
		}
		if b, err := hex.DecodeString(sum); err == nil && len(b) == md5.Size {
			p.sums[digest(b)] = struct{}{}
		}
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf("reading %q: %w", name, err)
	}
	return nil
}
