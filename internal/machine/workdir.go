package machine

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/kldload/kldload/internal/atomicfile"
)

// workPrefix starts the name of every machine's folder.
const workPrefix = "kldload-machine-"

// workDir is one machine's private folder. While its owner lives, the file
// "lock" in it is locked; a folder whose lock is free belonged to a process
// that was killed, and the next newWorkDir removes it. A kept folder has no
// file "lock".
type workDir struct {
	dir  string
	lock *os.File
}

func newWorkDir() (*workDir, error) {
	sweepWorkDirs(os.TempDir())
	dir, err := os.MkdirTemp("", workPrefix)
	if err != nil {
		return nil, fmt.Errorf("making the machine's folder: %w", err)
	}
	// Locked before it has its name, so that no sweep sees it unlocked.
	lock, err := os.OpenFile(filepath.Join(dir, "lock.new"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		err = os.Rename(lock.Name(), filepath.Join(dir, "lock"))
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close(), os.RemoveAll(dir))
	}
	return &workDir{dir: dir, lock: lock}, nil
}

func (w *workDir) path(name string) string { return filepath.Join(w.dir, name) }

func (w *workDir) remove() error {
	return errors.Join(os.RemoveAll(w.dir), w.unlock())
}

func (w *workDir) keep() error {
	err := os.Remove(w.path("lock"))
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, w.unlock())
}

func (w *workDir) unlock() error {
	if w.lock == nil {
		return nil
	}
	err := w.lock.Close()
	w.lock = nil
	return err
}

// sweepWorkDirs removes the folders of killed processes. What belongs
// to somebody else stays.
func sweepWorkDirs(parent string) {
	locks, _ := filepath.Glob(filepath.Join(parent, workPrefix+"*", "lock"))
	for _, name := range locks {
		lock, err := os.OpenFile(name, os.O_RDWR|unix.O_NOFOLLOW, 0)
		if err != nil {
			continue
		}
		var st unix.Stat_t
		ours := unix.Fstat(int(lock.Fd()), &st) == nil && int(st.Uid) == os.Getuid()
		if ours && unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = os.RemoveAll(filepath.Dir(name))
		}
		lock.Close()
	}
}

// copyFile copies a small file (NVRAM, log) to a name that appears whole.
func copyFile(to, from string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := atomicfile.Create(to, 0o644)
	if err != nil {
		return err
	}
	if _, err := io.Copy(dst, src); err != nil {
		return fmt.Errorf("copying %q: %w", from, errors.Join(err, dst.Abort()))
	}
	return dst.Commit()
}
