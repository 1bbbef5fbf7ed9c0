package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/kldload/kldload/diskimage"
	"github.com/kldload/kldload/internal/export"
	"github.com/kldload/kldload/internal/ui"
)

func newCompareCommand(a *app) *cobra.Command {
	var strict bool
	c := &cobra.Command{
		Use:   "compare A B",
		Short: "Compare the disks in two images of any formats",
		Long: `Compare what two disks hold, byte for byte; holes are zeros. When one disk is
larger, the rest has to be zero: formats round sizes up. --strict asks for the
same size. Exit status 0 means that they are the same, 3 that they differ.
Backing files are followed.`,
		Example: `  kexport compare kldload-server.qcow2 kldload-server.ova
  kexport compare --strict a.raw b.raw`,
		Args: exactArgs("A", "B"),
		RunE: func(c *cobra.Command, args []string) error {
			return runCompare(c.Context(), a, args[0], args[1], strict)
		},
	}
	c.Flags().BoolVar(&strict, "strict", false, "sizes must be equal, too")
	return c
}

func runCompare(ctx context.Context, a *app, left, right string, strict bool) error {
	x, err := export.Open(ctx, left, diskimage.OpenOptions{Backing: true})
	if err != nil {
		return err
	}
	defer x.Close()
	y, err := export.Open(ctx, right, diskimage.OpenOptions{Backing: true})
	if err != nil {
		return err
	}
	defer y.Close()
	stage := a.ui.Stage("compare")
	r, err := diskimage.Compare(ctx, x, y, diskimage.CompareOptions{Strict: strict,
		Progress: func(done, total int64) { stage.Progress(done, total, "") }})
	if err != nil {
		stage.Fail()
		return fmt.Errorf("comparing %q with %q: %w", left, right, err)
	}
	verdict := differenceOf(left, right, r)
	text, brief := "the disks are the same", "identical"
	if verdict != "" {
		text, brief = "the disks differ", "different"
	}
	stage.Done(ui.Bytes(max(r.SizeA, r.SizeB)))
	a.ui.Result(text, brief, struct {
		A string `json:"a"`
		B string `json:"b"`
		diskimage.CompareResult
	}{left, right, r})
	if verdict != "" {
		return codedError{errors.New(verdict), exitChecks}
	}
	return nil
}

// differenceOf says in what two disks differ, "" when they do not.
func differenceOf(a, b string, r diskimage.CompareResult) string {
	switch {
	case r.Identical:
		return ""
	case r.Offset >= 0:
		return fmt.Sprintf("the disks in %q and %q differ at offset %#x", a, b, r.Offset)
	}
	return fmt.Sprintf("the disks in %q and %q differ in size: %d and %d bytes", a, b, r.SizeA, r.SizeB)
}
