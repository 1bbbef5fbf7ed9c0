package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kldload/kldload/internal/ui"
	"github.com/kldload/kldload/internal/zpool"
	"github.com/kldload/kldload/zfs"
)

func newZFSCheckCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "check IMAGE",
		Short: "Read a whole pool and check everything that it says twice",
		Long: `Read every label, every uberblock and every copy of every block of a pool, verify
the checksums, and hold against each other what the pool says twice: space maps
and the blocks in use, sizes, link counts, the space that users and datasets
take. Exit status 0 means that the pool is sound, 3 that it is not.

IMAGE is a pool in a file, or a disk with one in a partition, in any format that
kexport reads.`,
		Example: `  kldload zfs check rpool.img
  kldload zfs check --json kldload-server.qcow2`,
		Args: exactArgs("IMAGE"),
		RunE: func(c *cobra.Command, args []string) error { return runZFSCheck(c.Context(), a, args[0]) },
	}
}

// problemLine is a problem in the output of check.
type problemLine struct {
	What    string `json:"what"`
	Dataset string `json:"dataset,omitempty"`
	Object  uint64 `json:"object,omitempty"`
	Level   int    `json:"level"`
	Block   uint64 `json:"block"`
	Offset  int64  `json:"offset"` // in the pool, -1 where there is no place
	Error   string `json:"error,omitempty"`
}

func runZFSCheck(ctx context.Context, a *app, path string) (err error) {
	img, err := zpool.Open(path)
	if err != nil {
		var damaged *zpool.DamagedError
		if errors.As(err, &damaged) {
			err = codedError{err, exitChecks}
		}
		return err
	}
	defer func() { err = errors.Join(err, img.Close()) }()
	stage := a.ui.Stage("check")
	r, err := img.Check(ctx, zfs.CheckOptions{Progress: func(done, total int64) { stage.Progress(done, total, "") }})
	if err != nil {
		stage.Fail()
		return err
	}
	stage.Done(fmt.Sprintf("%s, %s, %d files, %s read", img.Name(), counted(r.Datasets, "dataset"), r.Files, ui.Bytes(r.Bytes)))
	problems := []problemLine{}
	for _, p := range r.Problems {
		line := problemLine{What: p.What, Dataset: p.Dataset, Object: p.Object, Level: p.Level, Block: p.Block, Offset: p.Offset}
		if p.Err != nil {
			line.Error = p.Err.Error()
		}
		problems = append(problems, line)
	}
	brief := "ok"
	if !r.OK() {
		brief = "broken"
	}
	a.ui.Result(checkReport(path, img, r), brief, map[string]any{
		"file": path, "pool": img.Name(), "guid": img.GUID(), "ok": r.OK(), "problems": problems, "more_problems": r.MoreProblems,
		"unverified": r.Unverified, "datasets": r.Datasets, "snapshots": r.Snapshots, "objects": r.Objects, "files": r.Files,
		"directories": r.Directories, "blocks": r.Blocks, "bytes": r.Bytes, "allocated": r.Allocated, "referenced": r.Referenced,
	})
	if r.OK() {
		return nil
	}
	return codedError{fmt.Errorf("checking %q: %s", path, counted(len(problems)+r.MoreProblems, "problem")), exitChecks}
}

func checkReport(path string, img *zpool.Image, r *zfs.CheckReport) string {
	var b strings.Builder
	for _, p := range r.Problems {
		fmt.Fprintln(&b, p)
	}
	if r.MoreProblems > 0 {
		fmt.Fprintf(&b, "… and %d more\n", r.MoreProblems)
	}
	for _, u := range r.Unverified {
		fmt.Fprintln(&b, "not checked: "+u)
	}
	verdict := "no errors"
	if !r.OK() {
		verdict = counted(len(r.Problems)+r.MoreProblems, "problem")
	}
	fmt.Fprintf(&b, "%s: pool %q: %s", path, img.Name(), verdict)
	return b.String()
}
