// Package atomicfile makes files that appear whole under their final name or
// not at all: a temporary name in the same folder, fsync, rename, fsync of the
// folder. A temporary file is locked while its writer lives, so that Sweep can
// tell what a killed process left. It supports regular files on one file
// system.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// suffix marks a file that is not finished; Sweep removes such files.
const suffix = ".partial"

// File is being written under a temporary name. Exactly one of Commit,
// CommitNew and Abort ends it; Abort after the others does nothing, so it can
// be deferred.
type File struct {
	*os.File
	final string
	perm  fs.FileMode
	done  bool
}

// Create starts a file that will be called name with mode perm. The
// temporary file beside it is 0600 until Commit.
func Create(name string, perm fs.FileMode) (*File, error) {
	f, err := createLocked(name)
	if err != nil {
		return nil, fmt.Errorf("creating %q: %w", name, err)
	}
	return &File{File: f, final: name, perm: perm}, nil
}

// createLocked makes the temporary file. Another process's Sweep may take it
// for a dead one's before it is locked; then there is a next one.
func createLocked(name string) (*os.File, error) {
	dir, base := filepath.Dir(name), filepath.Base(name) // not Split: CreateTemp takes "" for TMPDIR
	for {
		f, err := os.CreateTemp(dir, "."+base+".*"+suffix)
		if err != nil {
			return nil, err
		}
		var st unix.Stat_t
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			err = unix.Fstat(int(f.Fd()), &st)
		}
		switch {
		case err == nil && st.Nlink > 0, errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.ENOLCK):
			return f, nil // without locks here, Sweep leaves the file alone, too
		case err == nil, errors.Is(err, unix.EWOULDBLOCK):
			_ = f.Close()
		default:
			return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}
}

// Commit flushes the file to the disk and gives it its final name, in the
// place of a file that has it.
func (f *File) Commit() error { return f.commit(os.Rename) }

// CommitNew is Commit that leaves a file of that name alone: the error then
// is fs.ErrExist.
func (f *File) CommitNew() error { return f.commit(renameNew) }

func (f *File) commit(rename func(from, to string) error) error {
	if f.done {
		return errors.New("atomicfile: already committed or aborted")
	}
	f.done = true
	err := errors.Join(f.Chmod(f.perm), f.Sync())
	if err == nil {
		err = rename(f.Name(), f.final)
	}
	if err != nil {
		return fmt.Errorf("writing %q: %w", f.final, errors.Join(err, f.Close(), os.Remove(f.Name())))
	}
	return errors.Join(f.Close(), SyncDir(filepath.Dir(f.final)))
}

// renameNew renames where nothing is in the way. File systems that cannot do
// both in one step get two.
func renameNew(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fs.ErrExist, err)
	}
	return os.Rename(from, to)
}

// Abort removes the temporary file.
func (f *File) Abort() error {
	if f.done {
		return nil
	}
	f.done = true
	return errors.Join(os.Remove(f.Name()), f.Close())
}

// WriteFile writes data under name, whole or not at all.
func WriteFile(name string, data []byte, perm fs.FileMode) error {
	f, err := Create(name, perm)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return fmt.Errorf("writing %q: %w", name, errors.Join(err, f.Abort()))
	}
	return f.Commit()
}

// SyncDir makes the names in a folder durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Sweep removes the temporary files of name whose writers are dead.
func Sweep(name string) error {
	dir, base := filepath.Split(name)
	entries, err := os.ReadDir(filepath.Clean(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		random, ours := strings.CutPrefix(e.Name(), "."+base+".")
		random, partial := strings.CutSuffix(random, suffix)
		if ours && partial && e.Type().IsRegular() && strings.Trim(random, "0123456789") == "" {
			errs = append(errs, removeDead(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// removeDead removes a temporary file when its lock is free.
func removeDead(name string) error {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil // finished meanwhile, or another user's
	}
	if err != nil {
		return err
	}
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return f.Close()
	}
	return errors.Join(os.Remove(name), f.Close())
}
