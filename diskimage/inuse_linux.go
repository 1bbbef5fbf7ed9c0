package diskimage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// QEMU tells others what it does with an image by read locks on single bytes
// (block/file-posix.c, RAW_LOCK_PERM_BASE and RAW_LOCK_SHARED_BASE; the bits
// are BLK_PERM_* of include/block/block-common.h): byte 100+bit says that it
// uses a permission, 200+bit that it does not let others have it.
const (
	qemuLocks       = 100
	qemuWrites      = 100 + 1
	qemuResizes     = 100 + 3
	qemuHidesItself = 200 + 0 // what others would read is not consistent
	qemuLocksEnd    = 200 + 64
)

// usage is one look at who uses a file.
type usage struct {
	f   *os.File
	st  os.FileInfo
	sys string // where sysfs is mounted
	// devices are a block device and its partitions, none for a file.
	devices []device
}

// device is a block device by its number, "major:minor".
type device struct {
	number string
	name   string // "has partition vda1, which ", or nothing
}

func inUse(f *os.File) (string, error) {
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	u := &usage{f: f, st: st, sys: "/sys"}
	checks := []func() (string, error){u.swap, u.loop, u.locks}
	switch {
	case st.Mode().IsRegular():
	case st.Mode()&os.ModeDevice != 0 && st.Mode()&os.ModeCharDevice == 0:
		if u.devices, err = u.withPartitions(number(st)); err != nil {
			return "", fmt.Errorf("finding the users of %q: %w", f.Name(), err)
		}
		checks = append([]func() (string, error){u.mount, u.holders}, append(checks, u.claim)...)
	default:
		return "", nil
	}
	for _, check := range checks {
		reason, err := check()
		if err != nil {
			return "", fmt.Errorf("finding the users of %q: %w", f.Name(), err)
		}
		if reason != "" {
			return reason, nil
		}
	}
	return "", nil
}

// number is the number of a block device, empty for anything else.
func number(st os.FileInfo) string {
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok || st.Mode()&os.ModeDevice == 0 || st.Mode()&os.ModeCharDevice != 0 {
		return ""
	}
	return fmt.Sprintf("%d:%d", unix.Major(uint64(sys.Rdev)), unix.Minor(uint64(sys.Rdev)))
}

// withPartitions lists a block device and its partitions
// (Documentation/ABI/stable/sysfs-block).
func (u *usage) withPartitions(whole string) ([]device, error) {
	all := []device{{number: whole}}
	dir := filepath.Join(u.sys, "dev/block", whole)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		if _, err := os.Stat(filepath.Join(dir, e.Name(), "partition")); err != nil {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name(), "dev"))
		if err != nil {
			return nil, err
		}
		all = append(all, device{strings.TrimSpace(string(b)), "has partition " + e.Name() + ", which "})
	}
	return all, nil
}

// is tells whether path is the file or device in question, or a partition of
// it, and how to begin a sentence about that.
func (u *usage) is(path string) (string, bool) {
	st, err := os.Stat(path)
	if err != nil {
		return "", false // of another mount namespace, or gone
	}
	if os.SameFile(st, u.st) {
		return "", true
	}
	for _, d := range u.devices {
		if number(st) == d.number {
			return d.name, true
		}
	}
	return "", false
}

// mount looks into mountinfo (proc_pid_mountinfo(5)). File systems of several
// devices have a number of their own there; they are found by their source.
func (u *usage) mount() (string, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		_, after, found := strings.Cut(line, " - ")
		source := strings.Fields(after)
		if len(fields) < 5 || !found || len(source) < 2 {
			continue
		}
		where := fmt.Sprintf("is mounted on %q", unescape(fields[4]))
		for _, d := range u.devices {
			if fields[2] == d.number {
				return d.name + where, nil
			}
		}
		if strings.HasPrefix(source[1], "/dev/") {
			if part, ok := u.is(unescape(source[1])); ok {
				return part + where, nil
			}
		}
	}
	return "", nil
}

// swap looks into /proc/swaps, which a kernel without swap does not have.
func (u *usage) swap() (string, error) {
	b, err := os.ReadFile("/proc/swaps")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		if fields := strings.Fields(line); len(fields) > 0 && strings.HasPrefix(fields[0], "/") {
			if part, ok := u.is(unescape(fields[0])); ok {
				return part + "is used as swap", nil
			}
		}
	}
	return "", nil
}

// unescape undoes the octal escapes (\040) of files in /proc.
func unescape(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

// holders looks for devices built on this one.
func (u *usage) holders() (string, error) {
	for _, d := range u.devices {
		held, err := os.ReadDir(filepath.Join(u.sys, "dev/block", d.number, "holders"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		for _, h := range held {
			name := h.Name()
			if b, err := os.ReadFile(filepath.Join(u.sys, "block", name, "dm/name")); err == nil {
				name += " (" + strings.TrimSpace(string(b)) + ")"
			}
			return d.name + "is part of " + name, nil
		}
	}
	return "", nil
}

// loop looks for a loop device on the file.
func (u *usage) loop() (string, error) {
	files, err := filepath.Glob(filepath.Join(u.sys, "block/loop*/loop/backing_file"))
	if err != nil {
		return "", err
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // detached meanwhile
		}
		if part, ok := u.is(strings.TrimSuffix(string(b), "\n")); ok {
			return part + "is attached to /dev/" + filepath.Base(filepath.Dir(filepath.Dir(name))), nil
		}
	}
	return "", nil
}

// locks asks for locks of others.
func (u *usage) locks() (string, error) {
	// What a read lock on all of it would have to wait for is a write lock.
	lock, err := u.conflict(unix.F_RDLCK, 0, 0)
	switch {
	case err != nil:
		return "", err
	case lock.Type != unix.F_UNLCK && lock.Pid > 0:
		return fmt.Sprintf("is locked for writing by process %d", lock.Pid), nil
	case lock.Type != unix.F_UNLCK:
		return "is locked for writing by another program", nil
	}
	for _, at := range [...]int64{qemuWrites, qemuResizes, qemuHidesItself} {
		lock, err := u.conflict(unix.F_WRLCK, at, 1)
		if err != nil {
			return "", err
		}
		// Neighbouring locks are merged, but a read lock on more is not QEMU's.
		if lock.Type != unix.F_UNLCK && lock.Start >= qemuLocks && lock.Len > 0 && lock.Start+lock.Len <= qemuLocksEnd {
			return "is open for writing in QEMU", nil
		}
	}
	return "", nil
}

// conflict returns a lock that stands in the way of one of n bytes at start, 0
// for all (F_OFD_GETLK in F_OFD_SETLK(2const)); nothing is locked.
func (u *usage) conflict(kind int16, start, n int64) (unix.Flock_t, error) {
	lock := unix.Flock_t{Type: kind, Whence: 0, Start: start, Len: n}
	conn, err := u.f.SyscallConn()
	if err != nil {
		return lock, err
	}
	var failed error
	err = conn.Control(func(fd uintptr) { failed = unix.FcntlFlock(fd, unix.F_OFD_GETLK, &lock) })
	if err = errors.Join(err, failed); err != nil {
		err = fmt.Errorf("asking for locks: %w", err)
	}
	return lock, err
}

// claim opens the device exclusively (O_EXCL without O_CREAT, open(2)), which
// the kernel refuses while it or a partition of it is claimed.
func (u *usage) claim() (string, error) {
	conn, err := u.f.SyscallConn()
	if err != nil {
		return "", err
	}
	var failed error
	err = conn.Control(func(fd uintptr) {
		var again *os.File
		if again, failed = os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", fd), os.O_RDONLY|os.O_EXCL, 0); failed == nil {
			failed = again.Close()
		}
	})
	if errors.Is(failed, unix.EBUSY) {
		return "is claimed by the kernel or another program", nil
	}
	return "", errors.Join(err, failed)
}
