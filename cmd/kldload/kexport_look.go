package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kldload/kldload/diskimage"
	"github.com/kldload/kldload/internal/export"
	"github.com/kldload/kldload/internal/ui"
)

// inputFormat reads --input-format; "" looks at the content.
func inputFormat(name string) (diskimage.Format, error) {
	if name == "" {
		return "", nil
	}
	c, err := export.NewChoice(name)
	if err != nil {
		return "", usagef("--input-format: %w", err)
	}
	return c.Format(), nil
}

func newInfoCommand(a *app) *cobra.Command {
	var format string
	var chain bool
	c := &cobra.Command{
		Use:   "info IMAGE",
		Short: "Show what an image's header says",
		Long: `Show format, sizes and the format's own fields of an image. Only its header is
read; a backing file is named, not opened, unless --backing-chain is given: the
name in a header can be any path.`,
		Example: `  kexport info kldload-server.vmdk
  kexport info --json --backing-chain overlay.qcow2`,
		Args: exactArgs("IMAGE"),
		RunE: func(c *cobra.Command, args []string) error { return runInfo(c.Context(), a, args[0], format, chain) },
	}
	c.Flags().StringVarP(&format, "input-format", "f", "", "take the image as `FORMAT` without looking at its content")
	c.Flags().BoolVar(&chain, "backing-chain", false, "open the backing files, too, and show each")
	return c
}

// imageInfo is an image in the output of info.
type imageInfo struct {
	File string `json:"file"`
	diskimage.Info
	BackingChain []imageInfo `json:"backing_chain,omitempty"`
}

func runInfo(ctx context.Context, a *app, path, formatName string, chain bool) error {
	format, err := inputFormat(formatName)
	if err != nil {
		return err
	}
	info, err := readInfo(ctx, path, format)
	if err != nil {
		return err
	}
	if chain {
		if info.BackingChain, err = readChain(ctx, path, format); err != nil {
			return err
		}
	}
	text := infoText(info)
	for _, below := range info.BackingChain {
		text += "\n\n" + infoText(below)
	}
	a.ui.Result(text, string(info.Format), info)
	return nil
}

func readInfo(ctx context.Context, path string, format diskimage.Format) (imageInfo, error) {
	f, err := export.Open(ctx, path, diskimage.OpenOptions{Format: format, NoBacking: true})
	if err != nil {
		return imageInfo{}, err
	}
	return imageInfo{File: path, Info: f.Info()}, f.Close()
}

// readChain describes the files below an image, the next one first.
func readChain(ctx context.Context, path string, format diskimage.Format) ([]imageInfo, error) {
	var names []string
	f, err := export.Open(ctx, path, diskimage.OpenOptions{Format: format, Backing: true, Check: func(f *os.File) error {
		names = append(names, f.Name())
		return nil
	}})
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var chain []imageInfo
	for _, name := range names[1:] {
		info, err := readInfo(ctx, name, "")
		if err != nil {
			return nil, err
		}
		chain = append(chain, info)
	}
	return chain, nil
}

func infoText(i imageInfo) string {
	bytes := func(n int64) string { return fmt.Sprintf("%s (%d bytes)", ui.Bytes(n), n) }
	lines := []diskimage.Detail{
		{Name: "file", Value: i.File},
		{Name: "format", Value: strings.TrimSpace(string(i.Format) + " " + i.Subformat)},
		{Name: "disk size", Value: bytes(i.VirtualSize)},
		{Name: "file size", Value: bytes(i.FileSize)},
		{Name: "allocated", Value: bytes(i.Allocated)},
	}
	if i.BlockSize > 0 {
		lines = append(lines, diskimage.Detail{Name: "block size", Value: ui.Bytes(i.BlockSize)})
	}
	lines = append(lines, diskimage.Detail{Name: "compression", Value: i.Compression}, diskimage.Detail{Name: "backing file", Value: i.Backing})
	lines = append(lines, i.Details...)
	width := 0
	for _, l := range lines {
		width = max(width, len(l.Name))
	}
	var b strings.Builder
	for _, l := range lines {
		if l.Value != "" {
			fmt.Fprintf(&b, "%-*s  %s\n", width, l.Name, l.Value)
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func newCheckCommand(a *app) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "check IMAGE",
		Short: "Check an image's structures, and its data where it is compressed",
		Long: `Walk every structure of an image and report what contradicts its format. Data is
read where it is compressed or carries a checksum. Exit status 0 means that the
image is sound, 3 that it is not; space that is marked used and belongs to
nothing is told and does not count.`,
		Example: `  kexport check kldload-server.qcow2
  kexport check --json kldload-server.ova`,
		Args: exactArgs("IMAGE"),
		RunE: func(c *cobra.Command, args []string) error { return runCheck(c.Context(), a, args[0], format) },
	}
	c.Flags().StringVarP(&format, "input-format", "f", "", "take the image as `FORMAT` without looking at its content")
	return c
}

func runCheck(ctx context.Context, a *app, path, formatName string) error {
	format, err := inputFormat(formatName)
	if err != nil {
		return err
	}
	f, err := export.Open(ctx, path, diskimage.OpenOptions{Format: format, NoBacking: true})
	if err != nil {
		return broken(err)
	}
	defer f.Close()
	stage := a.ui.Stage("check")
	r, err := f.Check(ctx, func(done, total int64) { stage.Progress(done, total, "") })
	if err != nil {
		stage.Fail()
		return broken(fmt.Errorf("checking %q: %w", path, err))
	}
	info := f.Info()
	if r.NoStructure {
		stage.Done(fmt.Sprintf("%s, %s", info.Format, ui.Bytes(info.VirtualSize)))
	} else {
		stage.Done(fmt.Sprintf("%s, %s used of %s", info.Format, ui.Bytes(r.Used), ui.Bytes(info.VirtualSize)))
	}
	brief := "ok"
	if !r.OK() {
		brief = "broken"
	}
	a.ui.Result(checkText(path, info, r), brief, struct {
		File   string           `json:"file"`
		Format diskimage.Format `json:"format"`
		diskimage.CheckResult
	}{path, info.Format, r})
	if r.OK() {
		return nil
	}
	return codedError{fmt.Errorf("checking %q: %d errors", path, r.Errors), exitChecks}
}

// broken gives an error about what an image holds the exit code of a failed
// check.
func broken(err error) error {
	if errors.Is(err, diskimage.ErrCorrupt) {
		return codedError{err, exitChecks}
	}
	return err
}

func checkText(path string, info diskimage.Info, r diskimage.CheckResult) string {
	var b strings.Builder
	for _, p := range r.Problems {
		fmt.Fprintln(&b, p)
	}
	if more := r.Errors - int64(len(r.Problems)); more > 0 {
		fmt.Fprintf(&b, "… and %d more\n", more)
	}
	if r.Leaked > 0 {
		fmt.Fprintf(&b, "%s of the file are marked used and belong to nothing: harmless\n", ui.Bytes(r.Leaked))
	}
	switch {
	case r.NoStructure:
		fmt.Fprintf(&b, "%s: format %s has no structure that could be checked", path, info.Format)
	case r.OK():
		fmt.Fprintf(&b, "%s: no errors", path)
	default:
		fmt.Fprintf(&b, "%s: %d errors", path, r.Errors)
	}
	return b.String()
}
