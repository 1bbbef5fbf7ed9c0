package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Work is a folder for one build. Its lock file is held while its owner
// lives; the kernel lets go of it however the owner ends.
type Work struct {
	Dir  string
	lock *os.File
}

const lockSuffix = ".lock"

// NewWork makes a work folder. The lock comes first, so that the folder is at
// no time one without an owner. Nobody else may enter: a tree has programs that
// run as their owner, here the builder, and may be old.
func (c *Cache) NewWork(prefix string) (*Work, error) {
	lock, err := os.CreateTemp(filepath.Join(c.dir, "work"), prefix+"-*"+lockSuffix)
	if err != nil {
		return nil, fmt.Errorf("making a work folder: %w", err)
	}
	dir := strings.TrimSuffix(lock.Name(), lockSuffix)
	err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		err = os.Mkdir(dir, 0o700)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("making a work folder: %w", err), os.Remove(lock.Name()), lock.Close())
	}
	return &Work{Dir: dir, lock: lock}, nil
}

// Keep lets go of the folder but leaves it for a look; Stale finds it.
func (w *Work) Keep() error { return w.lock.Close() }

// Remove deletes the folder with remove, which can delete what belongs to
// the ids of a sandbox.
func (w *Work) Remove(remove func(dir string) error) error {
	err := remove(w.Dir)
	if err == nil {
		err = os.Remove(w.Dir + lockSuffix)
	}
	return errors.Join(err, w.lock.Close())
}

// Stale lists the work folders whose owner is gone, with their age.
func (c *Cache) Stale() (map[string]time.Duration, error) {
	entries, err := os.ReadDir(filepath.Join(c.dir, "work"))
	if err != nil {
		return nil, err
	}
	out := map[string]time.Duration{}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		dir := filepath.Join(c.dir, "work", e.Name())
		info, err := e.Info()
		if err != nil || held(dir+lockSuffix) {
			continue
		}
		out[dir] = time.Since(info.ModTime())
	}
	return out, nil
}

func held(lock string) bool {
	f, err := os.Open(lock)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil
}

// Prune removes the entries not used for olderThan, except those that a build
// uses now, and every stale work folder. It returns the entries removed and the
// folders.
func (c *Cache) Prune(olderThan time.Duration, remove func(dir string) error) (entries []Info, folders []string, err error) {
	all, err := c.List()
	if err != nil {
		return nil, nil, err
	}
	var errs []error
	for _, info := range all {
		if time.Since(info.Used) < olderThan {
			continue
		}
		removed, err := c.Remove(info.Key, remove)
		errs = append(errs, err)
		if removed {
			entries = append(entries, info)
		}
	}
	stale, err := c.Stale()
	errs = append(errs, err)
	for dir := range stale {
		errs = append(errs, remove(dir), ignoreMissing(os.Remove(dir+lockSuffix)))
		folders = append(folders, dir)
	}
	return entries, folders, errors.Join(errs...)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
