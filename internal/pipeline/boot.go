package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kldload/kldload/diskimage"
	"github.com/kldload/kldload/internal/machine"
	"github.com/kldload/kldload/internal/ui"
)

// bootable tells whether a machine takes the artifact as it is.
func (a *Artifact) bootable() bool {
	return a.Format == string(diskimage.QCOW2) || a.Format == string(diskimage.Raw)
}

// bootDisk gives the file to boot a clone of, and what it is called: the
// first artifact that a machine takes as it is, or else the disk they were all
// made from.
func (b *build) bootDisk() (path string, a *Artifact) {
	for _, a := range b.artifacts() {
		if a.bootable() {
			return a.staged, a
		}
	}
	return b.raw, &Artifact{Path: "the disk that all formats were written from"}
}

// boot starts a clone of the finished image and runs the smoke checks on it.
func (b *build) boot(ctx context.Context, s *ui.Stage) (outcome, error) {
	checks, err := b.smokeChecks()
	if err != nil {
		return outcome{}, err
	}
	if b.src.Checks != "" {
		if err := b.usesFiles(roleChecks, []string{b.src.Checks}); err != nil {
			return outcome{}, err
		}
	}
	image, art := b.bootDisk()
	b.report, err = machine.Test(ctx, machine.Config{
		Image: image, Name: "smoke", GrowBy: 2 << 30, Timeout: b.src.BootTimeout, Accel: b.opts.Accel,
		Serial:   filepath.Join(b.work.Dir, "serial.log"),
		Progress: func(note string) { s.Progress(0, 0, note) },
	}, checks)
	b.report.SHA256, b.report.Image = art.SHA256, art.Path
	b.result.Boot = &b.report
	if ctx.Err() != nil {
		return outcome{}, err
	}
	if err != nil {
		return outcome{}, b.keepSerial(fmt.Errorf("booting the image: %w", err))
	}
	if !b.report.Passed {
		return outcome{}, b.keepSerial(fmt.Errorf("booting the image: %w", failedChecks(b.report)))
	}
	return outcome{detail: b.report.Summary()}, nil
}

func (b *build) smokeChecks() ([]machine.Check, error) {
	if b.src.Checks == "" {
		return machine.DefaultChecks(), nil
	}
	return machine.ReadChecks(b.src.Checks)
}

func failedChecks(r machine.Report) error {
	var errs []error
	for _, c := range r.Checks {
		if c.Status == machine.Fail {
			errs = append(errs, fmt.Errorf("check %q failed: %s", c.Name, c.Brief()))
		}
	}
	return errors.Join(errs...)
}

// keepSerial puts the machine's console log where a person finds it.
func (b *build) keepSerial(failed error) error {
	text, err := os.ReadFile(filepath.Join(b.work.Dir, "serial.log"))
	if err != nil {
		return failed
	}
	name := filepath.Clean(b.places[0].final) + ".serial.log"
	if err := os.WriteFile(name, text, 0o644); err != nil {
		return errors.Join(failed, err)
	}
	return fmt.Errorf("%w\nhint: the machine's console is in %s", failed, name)
}
