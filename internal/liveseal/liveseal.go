// Package liveseal seals the machine it runs on: it applies the list of
// internal/seal to what is on the machine's disks, keeps in memory what the
// machine needs until it is off, and sees to it that what services write while
// they stop is taken out, too.
//
// In a container or a chroot, and with FilesOnly, it seals the files and leaves
// services alone. It does not look at boot environments and datasets that are
// not mounted, at snapshots and at free blocks: it names them, and a re-packed
// image (internal/repack) leaves them out.
package liveseal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kldload/kldload/internal/seal"
)

// Options say how far to go.
type Options struct {
	Seal seal.Options
	// DryRun changes nothing, and tells what would change.
	DryRun bool
	// FilesOnly leaves services, swap and mounts alone.
	FilesOnly bool
	// Poweroff turns the machine off at the end.
	Poweroff bool
}

// How an item was found, in Line.State.
const (
	Done    = "done"
	Clean   = "already clean"
	Pending = "to do" // with DryRun
)

// Line is what came of one item.
type Line struct {
	Item    string   `json:"item"`
	State   string   `json:"state"`
	Changed []string `json:"changed,omitempty"` // relative to the root, in order
}

// Report is what came of a seal.
type Report struct {
	DryRun bool   `json:"dry_run,omitempty"`
	Items  []Line `json:"items"`
	// Running says that a booted machine was sealed: it is sealed once more
	// while it powers off, and InMemory lists what it keeps until then.
	Running  bool     `json:"running"`
	InMemory []string `json:"in_memory,omitempty"`
	Poweroff bool     `json:"poweroff,omitempty"`
	// Unsealed names copies of the machine's files that the seal does not reach.
	Unsealed []string `json:"unsealed,omitempty"`
	Warnings []string `json:"warnings,omitempty"`

	held []string // folders of which a running machine keeps copies
}

// Count is how many items have the state.
func (r *Report) Count(state string) int {
	n := 0
	for _, l := range r.Items {
		if l.State == state {
			n++
		}
	}
	return n
}

// Run seals this machine. An interrupted run leaves a machine that is half
// sealed and goes on working; another run ends as the first would have.
func Run(ctx context.Context, opts Options) (*Report, error) {
	r := &Report{DryRun: opts.DryRun, Running: !opts.FilesOnly && Booted()}
	if opts.Poweroff && !r.Running {
		return nil, errors.New("powering off: nothing is booted here that could be: this is a container or a chroot, or no systemd runs\nhint: leave out --poweroff")
	}
	all, err := mounts()
	if err != nil {
		return nil, err
	}
	points := diskMounts(all)
	if err := onDisk(points, func(dir string) error { return r.plan(dir, points, opts.Seal) }); err != nil || opts.DryRun {
		return r, err
	}
	if r.Running {
		if err := r.hold(ctx, opts.Seal, points); err != nil {
			return nil, err
		}
	}
	if err := onDisk(points, func(dir string) error { return r.apply(dir, opts.Seal) }); err != nil {
		return nil, err
	}
	if r.Running {
		if err := r.coverFile(); err != nil {
			return nil, err
		}
	}
	if err := r.flush(ctx); err != nil {
		return nil, err
	}
	if r.Poweroff = opts.Poweroff; r.Poweroff {
		return r, powerOff(ctx)
	}
	return r, nil
}

// plan fills in the items without changing a file, and refuses where a disk is
// mounted on a folder that goes: its files would go with it.
func (r *Report) plan(dir string, points []string, opts seal.Options) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	plan, err := seal.NewPlan(root.FS().(seal.FS), opts) // os.Root.FS: fs.ReadLinkFS
	if err != nil {
		return err
	}
	for _, point := range points {
		if plan.Removes(strings.TrimPrefix(point, "/")) {
			return fmt.Errorf("sealing this machine: a file system is mounted at %q, in a folder that the seal empties\nhint: umount %s", point, point)
		}
	}
	for _, res := range plan.Results {
		r.add(res.Item, res.Changed, Pending)
	}
	r.held = foldersToHold(plan)
	return nil
}

func (r *Report) apply(dir string, opts seal.Options) error {
	results, err := seal.Apply(dir, opts)
	if err != nil {
		return fmt.Errorf("%w\nhint: the machine is sealed in part; when the cause is gone, run it again", err)
	}
	r.Items = nil // of the plan
	for _, res := range results {
		r.add(res.Item, res.Changed, Done)
	}
	return nil
}

func (r *Report) add(item string, changed []string, state string) {
	if len(changed) == 0 {
		state = Clean
	}
	r.Items = append(r.Items, Line{Item: item, State: state, Changed: changed})
}

// Booted tells whether systemd runs this root. A chroot of a booted machine
// may see its /run; its root is not that of process 1.
func Booted() bool {
	if _, err := os.Stat("/run/systemd/system"); err != nil { // sd_booted(3)
		return false
	}
	var here, first unix.Stat_t
	if unix.Stat("/", &here) != nil || unix.Stat("/proc/1/root/.", &first) != nil {
		return false
	}
	return here.Dev == first.Dev && here.Ino == first.Ino
}
