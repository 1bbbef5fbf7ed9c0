package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/kldload/kldload/internal/disk"
	"github.com/kldload/kldload/internal/sandbox"
	"github.com/kldload/kldload/internal/seal"
	"github.com/kldload/kldload/internal/ui"
	"github.com/kldload/kldload/internal/verify"
	"github.com/kldload/kldload/internal/zpool"
)

// seal takes the identity out of the tree.
func (b *build) seal(ctx context.Context, _ *ui.Stage) (outcome, error) {
	var results []seal.Result
	arg := b.sealArg()
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

// sealArg is what the image may say of itself: what the template asked for.
func (b *build) sealArg() sealArg {
	arg := sealArg{Root: b.root, Hostname: b.src.Hostname, Epoch: b.epoch.Unix()}
	for _, u := range b.src.Users {
		arg.Keys = append(arg.Keys, u.SSHAuthorizedKeys...)
	}
	return arg
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
	stats, err := b.streamTree(ctx, f, s)
	if err = errors.Join(err, f.Close()); err != nil {
		return outcome{}, err
	}
	b.result.Root = &Root{Type: b.src.Storage, Files: b.stats.Entries, Stats: stats}
	root := fmt.Sprintf("ext4 root %s, %d files, %s", ui.Bytes(stats.Partition), b.stats.Entries, ui.Bytes(b.stats.Bytes))
	if p := b.src.Pool; p != nil {
		b.result.Root.Pool, b.result.Root.Datasets = p.Pool, len(p.Datasets)
		root = fmt.Sprintf("%s %s, %d files, %s stored (%s %.1f×)", p.Pool, ui.Bytes(stats.Partition), b.stats.Entries,
			ui.Bytes(stats.Allocated), p.Compression(zpool.Root), float64(stats.Logical)/float64(max(stats.Allocated, 1)))
	}
	return outcome{detail: fmt.Sprintf("GPT · ESP %s · %s", ui.Bytes(disk.ESPSize), root)}, nil
}

func (b *build) streamTree(ctx context.Context, f *os.File, s *ui.Stage) (disk.Stats, error) {
	pr, pw, err := os.Pipe()
	if err != nil {
		return disk.Stats{}, err
	}
	_, _ = unix.FcntlInt(pw.Fd(), unix.F_SETPIPE_SZ, 1<<20) // fewer turns; what the kernel has will do, too
	packed := make(chan error, 1)
	go func() {
		job := sandbox.Job{Doing: "reading the tree", Call: fnPack, Arg: packArg{b.root, b.epoch.Unix()}, Stdout: pw}
		packed <- sandbox.Call(ctx, b.onTree(job), &b.stats) // before the reader sees the end
		_ = pw.Close()
	}()
	stats, err := disk.Build(f, pr, disk.Options{
		Size: b.src.DiskSize, Identity: b.ids, Boot: b.bootConfig(), Epoch: b.epoch, Label: "root", Pool: b.src.Pool,
		Progress: func(done int64, name string) { s.Progress(done, 0, name) },
	})
	if err == nil {
		_, err = io.Copy(io.Discard, pr) // tar's trailing blocks
	}
	return stats, firstError(packed, err, pr)
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
	checks := verify.Disk(f, b.src.DiskSize, verify.Options{Seal: b.sealArg().options()})
	b.result.Checks = checks
	if err := verify.Failed(checks); err != nil {
		return outcome{}, fmt.Errorf("the image is not what was asked for: %w", err)
	}
	return outcome{detail: fmt.Sprintf("%d assertions hold: it can boot and it is sealed", len(checks))}, nil
}
