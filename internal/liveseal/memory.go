package liveseal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kldload/kldload/internal/run"
	"github.com/kldload/kldload/internal/seal"
)

// memory is where the machine keeps until it is off what the disk no longer
// has, and this program for the last seal. It is a tmpfs of our own: on Debian
// nothing can be run from /run itself (initramfs-tools mounts it noexec).
const memory = "/run/kldload-seal"

// Who uses the machine finds these as they were: sshd reads its host keys and
// users' keys again for each connection, and Packer's shutdown_command is often
// sudo, by cloud-init's rule or with a password. Folders are covered before the
// disk's are sealed; the file after, as one that is replaced loses what is
// mounted on it.
const heldFile = "/etc/shadow"

var heldFolders = []string{"/etc/ssh", "/etc/sudoers.d"}

// foldersToHold adds those of the keys that a plan takes from users.
func foldersToHold(plan *seal.Plan) []string {
	out := slices.Clone(heldFolders)
	for _, f := range plan.Files() {
		if dir := "/" + path.Dir(f.Path); f.Edit && f.Item == "authorized-keys" && !slices.Contains(out, dir) {
			out = append(out, dir)
		}
	}
	return out
}

// Copies of folders and files, below memory, by their full names.
const (
	folderCopies = memory + "/folders"
	fileCopies   = memory + "/files"
)

// hold prepares a running machine: all that is done here can be done again.
func (r *Report) hold(ctx context.Context, opts seal.Options, points []string) error {
	all, err := mounts()
	if err != nil {
		return err
	}
	if err := mountMemory(all); err != nil {
		return err
	}
	for _, dir := range r.held {
		if err := copyHeld(ctx, folderCopies, dir); err != nil {
			return err
		}
		if err := cover(all, folderCopies, dir); err != nil {
			return err
		}
	}
	if err := copyHeld(ctx, fileCopies, heldFile); err != nil {
		return err
	}
	r.Warnings = append(r.Warnings, swapOff(ctx)...)
	if err := startUnit(ctx, opts, points); err != nil {
		return err
	}
	// From here on the journal is in memory; what it has on the disk goes.
	if err := run.Run(ctx, run.Cmd{Doing: "moving the journal to memory", Args: []string{"journalctl", "--relinquish-var"}}); err != nil {
		r.Warnings = append(r.Warnings, err.Error()+"; the last seal takes its files out")
	}
	return nil
}

func mountMemory(all []mount) error {
	if !isMounted(all, memory) {
		if err := os.MkdirAll(memory, 0o700); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", memory, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0700"); err != nil {
			return fmt.Errorf("mounting a tmpfs at %s: %w", memory, err)
		}
	}
	return copyProgram(memory + "/kexport")
}

func isMounted(all []mount, point string) bool {
	return slices.ContainsFunc(all, func(m mount) bool { return m.point == point })
}

// copyProgram copies the running program, which may have been removed or lie
// where nothing can be run later.
func copyProgram(to string) error {
	in, err := os.Open("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("copying this program: %w", err)
	}
	defer in.Close()
	out, err := os.OpenFile(to+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o700)
	if err != nil {
		return fmt.Errorf("copying this program: %w", err)
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Close()); err == nil {
		err = os.Rename(to+".new", to)
	}
	if err != nil {
		return fmt.Errorf("copying this program: %w", err)
	}
	return nil
}

// copyHeld copies a folder or file to memory once: a later run finds the
// disk's without keys.
func copyHeld(ctx context.Context, copies, name string) error {
	to, doing := copies+name, "keeping "+name+" in memory"
	if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if _, err := os.Lstat(to); err == nil {
		return nil
	}
	part := memory + "/part"
	if err := errors.Join(os.RemoveAll(part), os.MkdirAll(filepath.Dir(to), 0o700)); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if err := run.Run(ctx, run.Cmd{Doing: doing, Args: []string{"cp", "-a", "--", name, part}}); err != nil {
		return err
	}
	return os.Rename(part, to)
}

// cover mounts the copy over the disk's: what reads the name finds it as it
// was, and the disk's tree (onDisk) does not show it.
func cover(all []mount, copies, name string) error {
	for _, there := range []string{copies + name, name} {
		if _, err := os.Lstat(there); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	if isMounted(all, name) {
		return nil
	}
	if err := unix.Mount(copies+name, name, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("keeping %s in memory: %w", name, err)
	}
	return nil
}

// coverFile is done when the disk is sealed. It notes all that is covered, by a
// run before, too.
func (r *Report) coverFile() error {
	all, err := mounts()
	if err != nil {
		return err
	}
	if err := cover(all, fileCopies, heldFile); err != nil {
		return err
	}
	if all, err = mounts(); err == nil {
		r.InMemory = covered(all)
	}
	return err
}

// covered are the mount points of our copies: the parts of our tmpfs that are
// mounted elsewhere.
func covered(all []mount) []string {
	var out []string
	for _, m := range all {
		for _, copies := range []string{folderCopies, fileCopies} {
			if m.kind == "tmpfs" && m.root == strings.TrimPrefix(copies, memory)+m.point {
				out = append(out, m.point)
			}
		}
	}
	slices.Sort(out)
	return out
}
