package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kldload/kldload/internal/export"
	"github.com/kldload/kldload/internal/remote"
	"github.com/kldload/kldload/internal/ui"
)

func newKexportCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "kexport",
		Aliases: []string{"export"},
		GroupID: groupShip,
		Short:   "Convert, inspect, check, compare, seal and verify disk images",
		Long: `Disk images in every format that hypervisors and clouds take, read once and
written all at once. Formats are told by content, never by name.`,
		Example: `  kexport convert --format qcow2,vmdk,vhd --input /dev/vda --output-dir /images/kldload-server-v1.0.0/
  kexport check kldload-server.qcow2`,
		Args: knownCommand,
		RunE: showHelp,
	}
	c.AddCommand(newConvertCommand(a), newInfoCommand(a), newCheckCommand(a), newCompareCommand(a), newSealCommand(a), newVerifyCommand(a))
	return c
}

type convertOptions struct {
	input, inputFormat      string
	output, outputDir, name string
	formats, subformats     []string
	checksum                string
	scpTarget, sshConfig    string
	jobs                    int
	force                   bool
}

func newConvertCommand(a *app) *cobra.Command {
	var o convertOptions
	c := &cobra.Command{
		Use:   "convert --format FORMAT[,FORMAT…] --input FILE {--output FILE | --output-dir DIR | --scp-target HOST:DIR/}",
		Short: "Write a disk in several formats in one pass",
		Long: `Read a disk once and write it in every format asked for. The input is a file of
any of the formats, with its backing files, or a block device; "-" is standard
input. The outputs, a FILE.sha256 beside each and a manifest get their names
when all of them are complete; until then, and after a failure, there is nothing
new under a final name. "--output -" writes to standard output.

A disk that is mounted or in use is refused; --force reads it all the same, and
replaces outputs that exist.

Formats, and what --subformat can set on each (the default first):
` + formatHelp() + `
--subformat vhd.block_size=2M sets it on one format, --subformat KEY=VALUE on
all that have the key and take the value, and --subformat fixed is short for
subformat=fixed.`,
		Example: `  kexport convert --format qcow2 --input /dev/vda --output /images/kldload-server-v1.0.0.qcow2
  kexport convert --format qcow2,vmdk,vhd --input /dev/vda --output-dir /images/kldload-server-v1.0.0/
  kexport convert --format qcow2 --input /dev/vda --output /images/kldload-server-v1.0.0.qcow2 \
      --scp-target images@build.example.com:/exports/
  zcat disk.raw.gz | kexport convert --format qcow2 --input - --output - | ssh host 'cat > disk.qcow2'`,
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error { return runConvert(c.Context(), a, o) },
	}
	o.addFlags(c)
	for flag, words := range map[string][]string{
		"format": append(export.Names(), "all"), "input-format": export.Names(), "checksum": {"sha256", "none"},
	} {
		if err := c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)); err != nil {
			panic(err) // the flag is not there: a mistake in here
		}
	}
	return c
}

func (o *convertOptions) addFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.input, "input", "", "`FILE` or block device to read; - for standard input")
	f.StringVarP(&o.inputFormat, "input-format", "f", "", "take the input as `FORMAT` without looking at its content")
	f.StringSliceVarP(&o.formats, "format", "O", nil, "`FORMAT`s to write, or all (repeatable)")
	f.StringVarP(&o.output, "output", "o", "", "`FILE` to write, of one format; - for standard output")
	f.StringVar(&o.outputDir, "output-dir", "", "`folder` for one NAME.EXTENSION of each format; made if need be")
	f.StringVar(&o.name, "name", "", "`NAME` of the files in --output-dir (default: the input's)")
	f.StringArrayVar(&o.subformats, "subformat", nil, "set `[FORMAT.]KEY=VALUE` on the formats (repeatable)")
	f.StringVar(&o.checksum, "checksum", "sha256", "`sha256`, or none")
	f.StringVar(&o.scpTarget, "scp-target", "", "copy the finished files to `[USER@]HOST:[DIR/]`")
	f.StringVar(&o.sshConfig, "ssh-config", "", "`FILE` for ssh to use in the place of ~/.ssh/config")
	f.IntVar(&o.jobs, "jobs", 0, "compress in `N` threads (default: one for each processor)")
	f.BoolVar(&o.force, "force", false, "replace outputs that exist; read a disk that is in use")
}

// helpColumn is the width of the keys in formatHelp.
const helpColumn = 36

// formatHelp lists the formats and their keys.
func formatHelp() string {
	var b strings.Builder
	for _, f := range export.Formats() {
		fmt.Fprintf(&b, "  %-6s %-8s %s\n", f.Name, f.Extension, f.About)
		for _, k := range f.Keys {
			set := "      " + k.Name + "=" + cmp.Or(strings.Join(k.Values, "|"), k.Form)
			if len(set) > helpColumn {
				fmt.Fprintln(&b, set)
				set = ""
			}
			if k.Help != "" || set != "" {
				fmt.Fprintln(&b, strings.TrimRight(fmt.Sprintf("%-*s  %s", helpColumn, set, k.Help), " "))
			}
		}
	}
	return b.String()
}

// request checks the flags.
func (o *convertOptions) request(a *app) (export.Request, error) {
	r := export.Request{Input: o.input, Output: o.output, OutputDir: o.outputDir, Name: o.name, Force: o.force, Jobs: o.jobs,
		NoChecksum: o.checksum == "none", UI: a.ui, Stdout: a.stdout}
	if o.input == "" {
		return r, usagef("no --input\nhint: --input FILE, a block device such as /dev/vda, or - for standard input")
	}
	if o.checksum != "sha256" && o.checksum != "none" {
		return r, usagef("--checksum %q: want sha256 or none", o.checksum)
	}
	if o.jobs < 0 {
		return r, usagef("--jobs %d: want a number of threads", o.jobs)
	}
	var err error
	if r.InputFormat, err = inputFormat(o.inputFormat); err != nil {
		return r, err
	}
	if r.Timestamp, err = sourceDateEpoch(); err != nil {
		return r, err
	}
	if r.Choices, err = choices(o.formats, o.subformats); err != nil {
		return r, err
	}
	r.Stdin, _ = a.stdin.(*os.File)
	return r, o.checkOutputs(len(r.Choices))
}

// checkOutputs tells whether there is one place for the files.
func (o *convertOptions) checkOutputs(formats int) error {
	switch {
	case o.output != "" && o.outputDir != "":
		return usagef("--output and --output-dir exclude each other")
	case o.output == "" && o.outputDir == "" && o.scpTarget == "":
		return usagef("no output\nhint: --output FILE, --output-dir DIR or --scp-target HOST:DIR/")
	case o.output != "" && formats > 1:
		return usagef("--output is one file, for %d formats\nhint: --output-dir DIR", formats)
	case o.output != "" && o.name != "":
		return usagef("--name is for --output-dir; --output names the file itself")
	case o.output == "-" && o.scpTarget != "":
		return usagef("--output - and --scp-target exclude each other")
	case o.scpTarget != "" && o.checksum == "none":
		return usagef("--scp-target compares checksums at the other end: it needs --checksum sha256")
	case o.sshConfig != "" && o.scpTarget == "":
		return usagef("--ssh-config is for --scp-target")
	case strings.ContainsAny(o.name, "/\x00") || o.name == "." || o.name == "..":
		return usagef("--name %q: want a file name without a folder", o.name)
	}
	return nil
}

// choices reads --format and --subformat.
func choices(formats, settings []string) ([]*export.Choice, error) {
	for i := range formats {
		formats[i] = strings.TrimSpace(formats[i])
	}
	if len(formats) == 0 {
		return nil, usagef("no --format\nhint: --format qcow2,vmdk, or all; have %s", strings.Join(export.Names(), ", "))
	}
	list, err := export.Choose(formats)
	if err != nil {
		return nil, usagef("--format: %w", err)
	}
	for _, s := range settings {
		if err := export.Set(list, s); err != nil {
			return nil, usagef("--subformat: %w", err)
		}
	}
	return list, nil
}

func runConvert(ctx context.Context, a *app, o convertOptions) error {
	if o.output == "-" {
		if terminalFD(a.stdout) >= 0 {
			return usagef("--output -: standard output is a terminal\nhint: send it to a file or a pipe")
		}
		a.ui = ui.New(a.stderr, a.uiMode())
	}
	r, err := o.request(a)
	if err != nil {
		return err
	}
	if o.scpTarget != "" {
		session, err := a.dial(ctx, o.scpTarget, o.sshConfig)
		if err != nil {
			return err
		}
		defer session.Close()
		r.Send = sender(session)
	}
	result, err := export.Convert(ctx, r)
	if err != nil {
		return asUsage(err)
	}
	a.ui.Result(convertText(result, o), convertBrief(result, o), result)
	return nil
}

// dial connects before any work, so that a wrong target does not cost it.
func (a *app) dial(ctx context.Context, target, config string) (*remote.Session, error) {
	t, err := remote.Parse(target)
	if err != nil {
		return nil, usagef("--scp-target: %w", err)
	}
	session, err := remote.Dial(ctx, t, remote.Options{ConfigFile: config, Interactive: terminalFD(a.stderr) >= 0})
	if err != nil {
		return nil, err
	}
	if !session.IsFolder() {
		err := usagef("--scp-target %q: want a folder of the host\nhint: end it with a slash, and make it first", target)
		return nil, errors.Join(err, session.Close())
	}
	return session, nil
}

func sender(s *remote.Session) export.Sender {
	return func(ctx context.Context, local string, size int64, sum, name string, progress func(done, total int64)) error {
		_, err := s.Put(ctx, local, size, sum, name, progress)
		return err
	}
}

// asUsage gives a mistake in what was asked for its exit code.
func asUsage(err error) error {
	var m *export.Mistake
	if errors.As(err, &m) {
		return codedError{err, exitUsage}
	}
	return err
}
