package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kldload/kldload/diskimage"
	"github.com/kldload/kldload/internal/export"
	"github.com/kldload/kldload/internal/repack"
	"github.com/kldload/kldload/internal/ui"
)

// offlineFlags are those that seal an image in the place of this machine, and
// the flags of a running machine exclude them.
var offlineFlags = []string{"input", "input-format", "format", "output", "output-dir", "name", "subformat", "checksum", "jobs", "force"}

const sealOfflineHelp = `

With --input it seals a disk image in the place of this machine: a fresh image
is written with the same partitions, names and ids, and the same files but for
what the seal changes. What was deleted on the old disk, its snapshots and its
other boot environments are not on the new one, and the input is never changed.
The root must be ext4 or ZFS. Formats and their settings are those of kexport
convert; without --format the new image has the input's.`

const sealOfflineExample = `
  kexport seal --input machine.qcow2 --output golden.qcow2
  kexport seal --input machine.vmdk --format qcow2,vhd --output-dir images/ --name golden-v2`

// sealFlags adds the flags of an image to those of a machine.
func (o *convertOptions) sealFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.input, "input", "", "seal this `FILE` or block device, offline; - for standard input")
	f.StringVarP(&o.inputFormat, "input-format", "f", "", "take the input as `FORMAT` without looking at its content")
	f.StringSliceVarP(&o.formats, "format", "O", nil, "`FORMAT`s of the sealed image (default: the input's)")
	f.StringVarP(&o.output, "output", "o", "", "`FILE` to write, of one format; - for standard output")
	f.StringVar(&o.outputDir, "output-dir", "", "`folder` for one NAME.EXTENSION of each format; made if need be")
	f.StringVar(&o.name, "name", "", "`NAME` of the files in --output-dir (default: the input's)")
	f.StringArrayVar(&o.subformats, "subformat", nil, "set `[FORMAT.]KEY=VALUE` on the formats (repeatable)")
	f.StringVar(&o.checksum, "checksum", "sha256", "`sha256`, or none")
	f.IntVar(&o.jobs, "jobs", 0, "compress in `N` threads (default: one for each processor)")
	f.BoolVar(&o.force, "force", false, "replace outputs that exist; read a disk that is in use")
}

// offline tells whether an image is meant; what is for a machine alone is then
// a mistake, and the reverse.
func (o *sealOptions) offlineWanted(c *cobra.Command) (bool, error) {
	set := func(names []string) string {
		for _, n := range names {
			if c.Flags().Changed(n) {
				return n
			}
		}
		return ""
	}
	if !c.Flags().Changed("input") {
		if n := set(offlineFlags); n != "" {
			return false, usagef("--%s is for images: no --input\nhint: --input IMAGE; without it this machine is sealed", n)
		}
		return false, nil
	}
	if n := set([]string{"dry-run", "files-only", "poweroff", "yes"}); n != "" {
		return true, usagef("--%s is for the running machine, --input for an image", n)
	}
	return true, nil
}

// sealResult is what --json prints.
type sealResult struct {
	*export.Result
	Sealed *repack.Report `json:"sealed"`
}

func runSealOffline(ctx context.Context, a *app, o sealOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	c := o.image
	if c.output == "" && c.outputDir == "" {
		return usagef("no output\nhint: --output FILE or --output-dir DIR; the input is never changed")
	}
	if c.output == "-" {
		if terminalFD(a.stdout) >= 0 {
			return usagef("--output -: standard output is a terminal\nhint: send it to a file or a pipe")
		}
		a.ui = ui.New(a.stderr, a.uiMode())
	}
	if len(c.formats) == 0 {
		format, err := formatOfInput(ctx, c)
		if err != nil {
			return err
		}
		c.formats = []string{string(format)}
	}
	r, err := c.request(a)
	if err != nil {
		return err
	}
	keep, err := o.options()
	if err != nil {
		return err
	}
	result := sealResult{}
	r.Remake = func(ctx context.Context, in diskimage.Disk, raw *os.File) (err error) {
		result.Sealed, err = repack.Disk(ctx, in, raw, repack.Options{Seal: keep, UI: a.ui})
		return err
	}
	if result.Result, err = export.Convert(ctx, r); err != nil {
		return asUsage(err)
	}
	a.ui.Result(sealImageText(&result, c), convertBrief(result.Result, c), result)
	return nil
}

// formatOfInput looks at what the input is.
func formatOfInput(ctx context.Context, c convertOptions) (diskimage.Format, error) {
	if c.inputFormat != "" {
		format, err := inputFormat(c.inputFormat)
		return format, err
	}
	if c.input == "-" {
		return "", usagef("no --format\nhint: standard input is read once: --format qcow2, or another of %s", strings.Join(export.Names(), ", "))
	}
	f, err := export.Open(ctx, c.input, diskimage.OpenOptions{NoBacking: true})
	if err != nil {
		return "", err
	}
	return f.Info().Format, f.Close()
}

// sealImageText is the report for a person.
func sealImageText(r *sealResult, c convertOptions) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-18s  %-13s  %s\n", "ITEM", "STATE", "FILES")
	for _, s := range r.Sealed.Seal {
		state := "already clean"
		if len(s.Changed) > 0 {
			state = "done"
		}
		fmt.Fprintln(&b, strings.TrimRight(fmt.Sprintf("%-18s  %-13s  %s", s.Item, state, sealFiles(s.Changed)), " "))
	}
	for _, l := range r.Sealed.LeftOut {
		fmt.Fprintf(&b, "left out: %s\n", l)
	}
	for _, n := range r.Sealed.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	return b.String() + convertText(r.Result, c)
}
