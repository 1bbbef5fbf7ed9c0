package liveseal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// onDisk calls do with a folder that shows what is on the machine's disks, and
// nothing else: no /proc, /dev and /run, no tmpfs at /tmp, no network's home
// folders, and what lies hidden below such mounts. It is mounted in a namespace
// of one thread, so that nothing of it stays, however the process ends; do must
// open the folder on the goroutine that it is called on.
//
// Points are where file systems of the tree are mounted beside "/" (diskMounts).
func onDisk(points []string, do func(dir string) error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		dir, err := mountDisk(points)
		if err != nil {
			done <- fmt.Errorf("mounting the disk's tree aside: %w", err)
			return
		}
		done <- do(dir)
	}()
	return <-done
}

// scratchDirs are folders of which one can be covered, in our namespace alone.
var scratchDirs = []string{"/run", "/tmp", "/mnt"}

func mountDisk(points []string) (string, error) {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return "", fmt.Errorf("a mount namespace: %w\nhint: a container needs CAP_SYS_ADMIN for this", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return "", fmt.Errorf("keeping mounts to ourselves: %w\nhint: the root of a chroot must be a mount point: mount --bind DIR DIR first", err)
	}
	for _, dir := range scratchDirs {
		if st, err := os.Stat(dir); err != nil || !st.IsDir() {
			continue
		}
		return bindDisk(dir, points)
	}
	return "", fmt.Errorf("none of %v is a folder", scratchDirs)
}

// bindDisk covers scratch with a tmpfs and binds the tree in it.
func bindDisk(scratch string, points []string) (string, error) {
	if err := unix.Mount("tmpfs", scratch, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0700,size=1m"); err != nil {
		return "", fmt.Errorf("a tmpfs on %s: %w", scratch, err)
	}
	dir := scratch + "/kldload-disk"
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	for _, point := range append([]string{"/"}, points...) {
		if st, err := os.Stat(dir + point); err != nil || !st.IsDir() {
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return "", err
			}
			continue // covered by a later mount, or a single file
		}
		if err := unix.Mount(point, dir+point, "", unix.MS_BIND, ""); err != nil {
			return "", fmt.Errorf("binding %q: %w", point, err)
		}
	}
	return dir, nil
}
