// Package repack seals a disk from outside: it reads the disk's file systems
// and writes a fresh disk with the same table, names and ids, and the same
// files but for what the seal changes. What was deleted on the old disk, its
// snapshots and its other boot environments are not on the new one.
//
// File systems that are read and written: ext4, ZFS (pools of one top-level
// vdev), FAT, swap. Others are an error that says so, since leaving one out
// would lose data. Nothing of the tree is kept on disk or whole in memory, and
// the input is never written to.
package repack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/kldload/kldload/diskimage"
	"github.com/kldload/kldload/internal/seal"
	"github.com/kldload/kldload/internal/ui"
	"github.com/kldload/kldload/internal/verify"
	"github.com/kldload/kldload/internal/volume"
)

// Options say how to re-pack.
type Options struct {
	// Seal is what the image may say of itself. An empty Hostname keeps the one
	// the input was sealed with, if it was. Epoch is also the time of creation of
	// file systems, and of files that the seal writes; zero is that of the
	// input's root.
	Seal seal.Options
	UI   *ui.UI
}

// Target is an empty file for the new disk.
type Target interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
}

// Report tells what was done.
type Report struct {
	Root    string        `json:"root"` // the root file system, as people call it
	Volumes []VolumeStats `json:"volumes"`
	Seal    []seal.Result `json:"seal"`
	// LeftOut names what the input had and the output has not.
	LeftOut []string `json:"left_out"`
	// Notes are what to know: what was kept as it is, what the input lacked before.
	Notes  []string       `json:"notes"`
	Checks []verify.Check `json:"checks"`
}

// VolumeStats tell of one volume what went into it.
type VolumeStats struct {
	Name  string `json:"name"`
	Kind  string `json:"kind"`
	Files int64  `json:"files,omitempty"`
	Bytes int64  `json:"bytes,omitempty"` // of content
}

// Changed counts the seal's items that changed something.
func (r *Report) Changed() (n int) {
	for _, s := range r.Seal {
		if len(s.Changed) > 0 {
			n++
		}
	}
	return n
}

// job is one disk being re-packed.
type job struct {
	ctx    context.Context
	in     diskimage.Disk
	out    Target
	opts   Options
	disk   *volume.Disk
	root   *volume.Root
	seal   seal.Options
	epoch  time.Time
	trees  []*fileTree
	report *Report
	stage  *ui.Stage
	done   int64
}

// Disk writes the sealed disk to out. After an error, what out holds is of no
// use. Messages of errors name volumes as package volume does.
func Disk(ctx context.Context, in diskimage.Disk, out Target, opts Options) (*Report, error) {
	j := &job{ctx: ctx, in: in, out: out, opts: opts, report: &Report{LeftOut: []string{}, Notes: []string{}}}
	steps := []struct {
		name string
		run  func() (string, error)
	}{
		{"look", j.look}, {"seal", j.plan}, {"disk", j.write}, {"verify", j.verify},
	}
	for _, s := range steps {
		j.stage = opts.UI.Stage(s.name)
		detail, err := s.run()
		if err == nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			j.stage.Fail()
			return nil, err
		}
		j.stage.Done(detail)
	}
	return j.report, nil
}

// plan finds what sealing changes, in each tree.
func (j *job) plan() (string, error) {
	if err := j.planTrees(); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d items, %d changed", len(j.report.Seal), j.report.Changed()), nil
}

// verify asserts on the new disk what a build promises. Where the input could
// not boot as our images do either, that is a note.
func (j *job) verify() (string, error) {
	opts := verify.Options{Seal: j.seal}
	j.report.Checks = verify.Disk(j.out, j.in.Size(), opts)
	if verify.Failed(j.report.Checks) == nil {
		return fmt.Sprintf("%d assertions hold: it can boot and it is sealed", len(j.report.Checks)), nil
	}
	before := map[string]bool{}
	for _, c := range verify.Disk(j.in, j.in.Size(), opts) {
		before[c.Name] = c.Err != nil
	}
	// What comes after the entries is about those that were found.
	unbootable := before["partitions"] || before["loader"] || before["entries"]
	items := map[string]bool{} // of the seal: they must hold
	for _, r := range j.report.Seal {
		items[r.Item] = true
	}
	var errs []error
	excused := 0
	for _, c := range j.report.Checks {
		switch {
		case c.Err == nil:
		case items[c.Name] || !before[c.Name] && !unbootable:
			errs = append(errs, fmt.Errorf("%s: %w", c.Name, c.Err))
		default:
			excused++
			j.note("it does not boot as our images do, nor did the input: %s: %v", c.Name, c.Err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return "", fmt.Errorf("the new image is not as it must be: %w", err)
	}
	if err := j.checkSeal(opts.Seal); err != nil {
		return "", err
	}
	return fmt.Sprintf("it is sealed; %d of %d assertions do not hold, as in the input", excused, len(j.report.Checks)), nil
}

func (j *job) note(format string, args ...any) {
	j.report.Notes = append(j.report.Notes, fmt.Sprintf(format, args...))
}

func (j *job) leftOut(format string, args ...any) {
	j.report.LeftOut = append(j.report.LeftOut, fmt.Sprintf(format, args...))
}
