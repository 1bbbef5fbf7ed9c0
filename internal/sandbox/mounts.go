package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// prepare makes the sandbox's own mounts; they end with it.
func prepare(job wire) error {
	unix.Umask(0o022)
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("detaching the mounts: %w", err)
	}
	// The host's name must not reach what is built.
	if err := unix.Sethostname([]byte("localhost")); err != nil {
		return fmt.Errorf("setting the host name: %w", err)
	}
	if !job.Network {
		if err := loopbackUp(); err != nil {
			return fmt.Errorf("starting loopback: %w", err)
		}
	}
	if err := mountProc("/proc"); err != nil {
		return err
	}
	if job.Overlay != nil {
		if err := mountOverlay(*job.Overlay); err != nil {
			return err
		}
	}
	if job.Root == "" {
		return nil
	}
	return prepareRoot(job)
}

// mountOverlay names the folders by descriptor: commas and colons in their
// paths would end an option. userxattr is what lets a user namespace mark
// removed directories (Documentation/filesystems/overlayfs.rst).
func mountOverlay(o Overlay) error {
	opts := "userxattr"
	for _, dir := range []struct{ option, path string }{{"lowerdir", o.Lower}, {"upperdir", o.Upper}, {"workdir", o.Work}} {
		fd, err := unix.Open(dir.path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("opening %s: %w", dir.path, err)
		}
		defer unix.Close(fd)
		opts += fmt.Sprintf(",%s=/proc/self/fd/%d", dir.option, fd)
	}
	if err := unix.Mount("overlay", o.Target, "overlay", 0, opts); err != nil {
		return fmt.Errorf("mounting an overlay at %s: %w", o.Target, err)
	}
	return nil
}

// mountProc shows the processes of this sandbox alone. Where the host hides
// parts of its own /proc the kernel refuses a new one (mount_namespaces(7));
// the host's is then kept.
func mountProc(at string) error {
	err := unix.Mount("proc", at, "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	if errors.Is(err, unix.EPERM) {
		err = unix.Mount("/proc", at, "", unix.MS_BIND|unix.MS_REC, "")
	}
	if err != nil {
		return fmt.Errorf("mounting %s: %w", at, err)
	}
	return nil
}

func prepareRoot(job wire) error {
	root := job.Root
	if err := unix.Mount(root, root, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("binding %s: %w", root, err)
	}
	for _, dir := range []string{"proc", "sys", "dev", "run", "tmp"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return err
		}
	}
	if err := mountProc(filepath.Join(root, "proc")); err != nil {
		return err
	}
	if err := mountSys(filepath.Join(root, "sys")); err != nil {
		return err
	}
	if err := mountDev(filepath.Join(root, "dev")); err != nil {
		return err
	}
	if err := mountRun(filepath.Join(root, "run")); err != nil {
		return err
	}
	if job.Tmp != "" {
		if err := bind(job.Tmp, filepath.Join(root, "tmp"), true); err != nil {
			return err
		}
	}
	if err := bindAll(root, job.Binds); err != nil {
		return err
	}
	return pivot(root)
}

// pivot makes root the only file system of the sandbox: unlike a chroot it
// cannot be left, since the host's mounts are gone from the namespace
// (pivot_root(2), "pivot_root(".", ".")").
func pivot(root string) error {
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("making %s the root: %w", root, err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leaving the host's file systems: %w", err)
	}
	return os.Chdir("/")
}

func mountSys(at string) error {
	err := unix.Mount("sysfs", at, "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_RDONLY, "")
	if errors.Is(err, unix.EPERM) { // a shared network namespace: its sysfs is not ours to mount
		err = unix.Mount("/sys", at, "", unix.MS_BIND|unix.MS_REC, "")
	}
	if err != nil {
		return fmt.Errorf("mounting %s: %w", at, err)
	}
	return nil
}

// mountDev makes the devices every program expects, and no others.
func mountDev(at string) error {
	if err := unix.Mount("tmpfs", at, "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=755"); err != nil {
		return fmt.Errorf("mounting %s: %w", at, err)
	}
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		if err := bind("/dev/"+name, filepath.Join(at, name), true); err != nil {
			return err
		}
	}
	links := map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1",
		"stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx"}
	for name, to := range links {
		if err := os.Symlink(to, filepath.Join(at, name)); err != nil {
			return err
		}
	}
	for _, m := range []struct{ dir, kind, opts string }{
		{"pts", "devpts", "newinstance,ptmxmode=0666,mode=0620,gid=5"}, {"shm", "tmpfs", "mode=1777"},
	} {
		dir := filepath.Join(at, m.dir)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, dir, m.kind, unix.MS_NOSUID|unix.MS_NOEXEC, m.opts); err != nil {
			return fmt.Errorf("mounting %s: %w", dir, err)
		}
	}
	return nil
}

func mountRun(at string) error {
	if err := unix.Mount("tmpfs", at, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("mounting %s: %w", at, err)
	}
	lock := filepath.Join(at, "lock")
	return errors.Join(os.Mkdir(lock, 0o1777), os.Chmod(lock, 0o1777|os.ModeSticky))
}

func bindAll(root string, binds []Bind) error {
	for _, b := range binds {
		target, err := inside(root, b.Target)
		if err != nil {
			return err
		}
		if err := bind(b.Source, target, b.Write); err != nil {
			return err
		}
	}
	return nil
}

// inside joins a path to a root; a symbolic link of the tree must not lead
// the mount out of it.
func inside(root, target string) (string, error) {
	path := root
	for _, part := range strings.Split(strings.Trim(filepath.Clean("/"+target), "/"), "/") {
		path = filepath.Join(path, part)
		if st, err := os.Lstat(path); err == nil && st.Mode()&os.ModeSymlink != 0 {
			return "", fmt.Errorf("binding %s: %s is a symbolic link", target, path)
		}
	}
	return path, nil
}

// bind shows source at target, which it makes when missing.
func bind(source, target string, write bool) error {
	st, err := os.Stat(source)
	if err != nil {
		return fmt.Errorf("binding: %w", err)
	}
	if err := makeTarget(target, st.IsDir()); err != nil {
		return fmt.Errorf("binding %s: %w", source, err)
	}
	if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("binding %s to %s: %w", source, target, err)
	}
	if write {
		return nil
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(unix.AT_FDCWD, target, unix.AT_RECURSIVE, &attr); err != nil {
		return fmt.Errorf("making %s read-only: %w", target, err)
	}
	return nil
}

func makeTarget(target string, dir bool) error {
	if _, err := os.Lstat(target); err == nil {
		return nil
	}
	if dir {
		return os.MkdirAll(target, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	f, err := os.Create(target)
	if err != nil {
		return err
	}
	return f.Close()
}

// loopbackUp is `ip link set lo up` (netdevice(7)).
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}
