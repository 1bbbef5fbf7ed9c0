package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/kldload/kldload/diskimage"
	"github.com/kldload/kldload/internal/disk"
	"github.com/kldload/kldload/internal/machine"
	"github.com/kldload/kldload/internal/sandbox"
	"github.com/kldload/kldload/internal/seal"
	"github.com/kldload/kldload/internal/ui"
	"github.com/kldload/kldload/internal/verify"
)

// seal takes the identity out of the tree.
func (b *build) seal(ctx context.Context, _ *ui.Stage) (outcome, error) {
	var results []seal.Result
	arg := sealArg{Root: b.root, Hostname: b.src.Hostname, Epoch: b.epoch.Unix()}
	if err := sandbox.Call(ctx, b.onTree(sandbox.Job{Doing: "sealing the tree", Call: fnSeal, Arg: arg}), &results); err != nil {
		return outcome{}, err
	}
	changed := 0
	for _, r := range results {
		if len(r.Changed) > 0 {
			changed++
		}
	}
	return outcome{detail: fmt.Sprintf("%d items, %d changed", len(results), changed)}, nil
}

// makeDisk streams the tree out of the sandbox into a raw disk.
func (b *build) makeDisk(ctx context.Context, s *ui.Stage) (outcome, error) {
	b.raw = filepath.Join(b.places[0].staging, "."+b.src.VMName+".disk")
	f, err := os.OpenFile(b.raw, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return outcome{}, fmt.Errorf("creating the disk: %w", err)
	}
	if err := f.Truncate(b.src.DiskSize); err != nil {
		return outcome{}, errors.Join(fmt.Errorf("creating the disk: %w", err), f.Close())
	}
	err = b.streamTree(ctx, f, s)
	if err = errors.Join(err, f.Close()); err != nil {
		return outcome{}, err
	}
	detail := fmt.Sprintf("GPT · ESP %s · %s root %s, %d files, %s", ui.Bytes(disk.ESPSize), b.src.Storage,
		ui.Bytes(b.src.DiskSize-disk.ESPStart-disk.ESPSize), b.stats.Entries, ui.Bytes(b.stats.Bytes))
	return outcome{detail: detail}, nil
}

func (b *build) streamTree(ctx context.Context, f *os.File, s *ui.Stage) error {
	pr, pw, err := os.Pipe()
	if err != nil {
		return err
	}
	packed := make(chan error, 1)
	go func() {
		job := sandbox.Job{Doing: "reading the tree", Call: fnPack, Arg: packArg{b.root, b.epoch.Unix()}, Stdout: pw}
		packed <- sandbox.Call(ctx, b.onTree(job), &b.stats) // before the reader sees the end
		_ = pw.Close()
	}()
	err = disk.Build(f, pr, disk.Options{
		Size: b.src.DiskSize, Identity: b.ids, Boot: b.bootConfig(), Epoch: b.epoch, Label: "root",
		Progress: func(done int64, name string) { s.Progress(done, 0, name) },
	})
	if err == nil {
		_, err = io.Copy(io.Discard, pr) // tar's trailing blocks
	}
	return firstError(packed, err, pr)
}

// firstError tells which end of a pipe broke first: what the other says is
// only that the pipe did. It waits for the writing end.
func firstError(written <-chan error, readErr error, r io.Closer) error {
	select {
	case err := <-written:
		_ = r.Close()
		if err != nil {
			return err
		}
		return readErr
	default:
	}
	_ = r.Close()
	if err := <-written; readErr == nil {
		return err
	}
	return readErr
}

// verify asserts the outcome on the finished disk.
func (b *build) verify(context.Context, *ui.Stage) (outcome, error) {
	f, err := os.Open(b.raw)
	if err != nil {
		return outcome{}, err
	}
	defer f.Close()
	checks := verify.Disk(f, b.src.DiskSize, verify.Options{Seal: seal.Options{Hostname: b.src.Hostname, Epoch: b.epoch}})
	b.result.Checks = checks
	if err := verify.Failed(checks); err != nil {
		return outcome{}, fmt.Errorf("the image is not what was asked for: %w", err)
	}
	return outcome{detail: fmt.Sprintf("%d assertions hold: it can boot and it is sealed", len(checks))}, nil
}

// formats writes every artifact in one pass over the disk.
func (b *build) formats(ctx context.Context, s *ui.Stage) (outcome, error) {
	src, err := os.Open(b.raw)
	if err != nil {
		return outcome{}, err
	}
	defer src.Close()
	raw, err := diskimage.OpenRaw(src)
	if err != nil {
		return outcome{}, err
	}
	arts := b.artifacts()
	var sinks []diskimage.Sink
	for _, a := range arts {
		f, err := os.OpenFile(a.staged, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
		if err != nil {
			return outcome{}, fmt.Errorf("creating %s: %w", a.Path, err)
		}
		defer f.Close()
		a.file = f
		sinks = append(sinks, newSink(a.Format, f))
	}
	results, err := diskimage.Write(ctx, raw, diskimage.WriteOptions{
		Progress: func(done, total int64) { s.Progress(done, total, "") },
	}, sinks...)
	if err != nil {
		return outcome{}, fmt.Errorf("writing the formats: %w", err)
	}
	var parts []string
	for i, a := range arts {
		if err := a.file.Sync(); err != nil {
			return outcome{}, fmt.Errorf("writing %s: %w", a.Path, err)
		}
		a.Size, a.SHA256 = results[i].Size, results[i].SHA256
		parts = append(parts, a.Format+" "+ui.Bytes(a.Size))
	}
	if err := os.Remove(b.raw); err != nil {
		return outcome{}, err
	}
	return outcome{detail: strings.Join(parts, " · ")}, nil
}

func newSink(format string, f *os.File) diskimage.Sink {
	if format == "qcow2" {
		return diskimage.NewQCOW2Writer(f, diskimage.QCOW2Options{})
	}
	return diskimage.NewRawWriter(f, diskimage.RawOptions{})
}

// boot starts a clone of the finished image and runs the smoke checks on it.
func (b *build) boot(ctx context.Context, s *ui.Stage) (outcome, error) {
	checks, err := b.smokeChecks()
	if err != nil {
		return outcome{}, err
	}
	art := b.artifacts()[0]
	b.report, err = machine.Test(ctx, machine.Config{
		Image: art.staged, Name: "smoke", GrowBy: 2 << 30, Timeout: b.src.BootTimeout, Accel: b.opts.Accel,
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
