package darksite

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kldload/kldload/internal/run"
	"github.com/kldload/kldload/internal/ui"
)

// aptHelper is apt's fetcher: proxies, credentials, https, resuming and
// checking the digest are its business.
const aptHelper = "/usr/lib/apt/apt-helper"

// chunk is how many packages one fetcher gets: few enough that progress and
// an interruption cost little, many enough that its start does not count.
const chunk = 40

// fetchDir, inside the unfinished darksite, keeps files not yet verified.
const fetchDir = ".fetch"

// fetch fills staging's pool with want: what is there and whole stays, what
// an older darksite has is linked, the rest comes from upstream.
func (u *upstream) fetch(ctx context.Context, st *ui.Stage, staging, old string, want []remote) (fetched int64, err error) {
	var need []remote
	var total int64
	for _, r := range want {
		have, err := reuse(r.Package, staging, old)
		if err != nil {
			return 0, err
		}
		if !have {
			need = append(need, r)
			total += r.Size
		}
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
	}
	dir := filepath.Join(staging, fetchDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, err
	}
	stop := watch(st, dir, staging, need, total)
	defer stop()
	var bad []error
	for len(need) > 0 {
		n := min(chunk, len(need))
		if err := u.fetchChunk(ctx, staging, need[:n]); err != nil {
			bad = append(bad, err)
		}
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		need = need[n:]
	}
	return total, errors.Join(bad...)
}

// reuse tells whether staging has a package, verified, taking it from what an
// earlier run fetched or linking it from an older darksite. A damaged file is
// removed from the pool.
func reuse(p Package, staging, old string) (bool, error) {
	name := filepath.Join(staging, p.Filename)
	if checkFile(name, p) == nil {
		return true, nil
	}
	if err := os.Remove(name); err != nil && !os.IsNotExist(err) {
		return false, err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return false, err
	}
	// Whole, but not moved before an earlier run was interrupted.
	arrived := filepath.Join(staging, fetchDir, p.SHA256)
	if checkFile(arrived, p) == nil {
		return true, os.Rename(arrived, name)
	}
	if old == "" {
		return false, nil
	}
	from := filepath.Join(old, p.Filename)
	if checkFile(from, p) != nil {
		return false, nil
	}
	return os.Link(from, name) == nil, nil
}

// fetchChunk fetches some packages and moves the good ones into the pool. What
// an earlier run left of a package is gone on from; if that does not give the
// package (the mirror's file was another one then, or the disk lost the tail),
// it is fetched again from its first byte. The error names each package that
// did not come.
func (u *upstream) fetchChunk(ctx context.Context, staging string, want []remote) error {
	begun := make(map[string]bool)
	for _, r := range want {
		name := filepath.Join(staging, fetchDir, r.SHA256)
		begun[name] = exists(name)
	}
	fetchErr := u.download(ctx, staging, want)
	if ctx.Err() != nil {
		return fetchErr
	}
	var again []remote
	var bad []error
	for _, r := range want {
		err := adopt(staging, r)
		name := filepath.Join(staging, fetchDir, r.SHA256)
		switch {
		case err != nil && begun[name]:
			again = append(again, r)
			if err := os.Remove(name); err != nil && !os.IsNotExist(err) {
				return err
			}
		case err != nil:
			bad = append(bad, err)
		}
	}
	if len(bad) > 0 {
		bad = append(bad, fetchErr)
	}
	if len(again) > 0 {
		bad = append(bad, u.fetchChunk(ctx, staging, again))
	}
	return errors.Join(bad...)
}

// download runs apt's fetcher for want, into the folder of unverified files.
func (u *upstream) download(ctx context.Context, staging string, want []remote) error {
	args := []string{aptHelper, "-q", "download-file"}
	for _, r := range want {
		uri := r.uri
		if path, ok := strings.CutPrefix(uri, "file:"); ok {
			uri = "copy:" + path // "file:" would only leave a link
		}
		args = append(args, uri, filepath.Join(staging, fetchDir, r.SHA256), "SHA256:"+r.SHA256)
	}
	return run.Run(ctx, u.cmd("fetching packages", args...))
}

// adopt moves a fetched package into the pool if it is the one wanted.
func adopt(staging string, r remote) error {
	from := filepath.Join(staging, fetchDir, r.SHA256)
	err := checkFile(from, r.Package)
	if err == nil {
		err = os.Rename(from, filepath.Join(staging, r.Filename))
	}
	if err != nil {
		return fmt.Errorf("package %s %s, for %s: %w", r.Name, r.Version, r.wanted, err)
	}
	return nil
}

// watch reports the growth of the pool until stop is called.
func watch(st *ui.Stage, dir, staging string, need []remote, total int64) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
			}
			var have int64
			var note string
			for _, r := range need {
				if info, err := os.Stat(filepath.Join(staging, r.Filename)); err == nil {
					have += info.Size()
				} else if info, err := os.Stat(filepath.Join(dir, r.SHA256)); err == nil {
					have, note = have+info.Size(), r.Name
				}
			}
			st.Progress(have, total, note)
		}
	}()
	return func() { close(quit); <-done }
}

// checkFile makes sure that a file is the package p.
func checkFile(name string, p Package) error {
	f, err := os.Open(name)
	if err != nil {
		if os.IsNotExist(err) {
			return errors.New("missing")
		}
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("not a regular file")
	}
	if info.Size() != p.Size {
		return fmt.Errorf("damaged: %d bytes, want %d", info.Size(), p.Size)
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != p.SHA256 {
		return fmt.Errorf("damaged: SHA-256 %s, want %s", got, p.SHA256)
	}
	return nil
}
