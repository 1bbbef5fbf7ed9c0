// Package atomicfile makes files that appear whole under their final name or
// not at all: a temporary name in the same folder, fsync, rename, fsync of the
// folder. It supports regular files on one file system; it does not lock.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// suffix marks a file that is not finished; Sweep removes such files.
const suffix = ".partial"

// File is being written under a temporary name. Exactly one of Commit and
// Abort ends it; Abort after Commit does nothing, so it can be deferred.
type File struct {
	*os.File
	final string
	perm  fs.FileMode
	done  bool
}

// Create starts a file that will be called name with mode perm. The
// temporary file beside it is 0600 until Commit.
func Create(name string, perm fs.FileMode) (*File, error) {
	dir, base := filepath.Split(name)
	f, err := os.CreateTemp(dir, "."+base+".*"+suffix)
	if err != nil {
		return nil, fmt.Errorf("creating %q: %w", name, err)
	}
	return &File{File: f, final: name, perm: perm}, nil
}

// Commit flushes the file to the disk and gives it its final name.
func (f *File) Commit() error {
	if f.done {
		return errors.New("atomicfile: already committed or aborted")
	}
	f.done = true
	err := errors.Join(f.Chmod(f.perm), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), f.final)
	}
	if err != nil {
		return fmt.Errorf("writing %q: %w", f.final, errors.Join(err, os.Remove(f.Name())))
	}
	return SyncDir(filepath.Dir(f.final))
}

// Abort removes the temporary file.
func (f *File) Abort() error {
	if f.done {
		return nil
	}
	f.done = true
	return errors.Join(f.Close(), os.Remove(f.Name()))
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

// Sweep removes files that an interrupted run left unfinished for base
// ("" for all) in dir.
func Sweep(dir, base string) error {
	left, err := filepath.Glob(filepath.Join(dir, "."+base+"*"+suffix))
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range left {
		errs = append(errs, os.Remove(name))
	}
	return errors.Join(errs...)
}
