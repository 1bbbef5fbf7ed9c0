package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kldload/kldload/internal/ui"
)

// app is what every command needs: the streams, and the UI once the flags
// that choose it are parsed.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	ui             *ui.UI
	json, quiet    bool
}

// Command groups of the first help screen: what a person wants.
const (
	groupMake = "make"
	groupLook = "look"
	groupKeep = "keep"
	groupShip = "ship"
)

func newRootCommand(a *app) *cobra.Command {
	root := a.asRoot(&cobra.Command{
		Use:   "kldload",
		Short: "The image factory: a template and an offline mirror in, a sealed golden image out",
		Example: `  kldload darksite create --distro debian --release bookworm --profile server --output darksites/bookworm
  kldload build packer/kldload-server`,
		Args: knownCommand,
		RunE: showHelp,
	})
	root.AddGroup(
		&cobra.Group{ID: groupMake, Title: "Make:"},
		&cobra.Group{ID: groupLook, Title: "Look:"},
		&cobra.Group{ID: groupKeep, Title: "Keep:"},
		&cobra.Group{ID: groupShip, Title: "Ship:"},
	)
	root.AddCommand(newBootCommand(a), newTestCommand(a))
	root.AddCommand(newDarksiteCommand(a))
	root.AddCommand(newBuildCommand(a), newValidateCommand(a), newCacheCommand(a))
	root.AddCommand(newSBOMCommand(a), newKeyCommand(a))
	root.AddCommand(newScanCommand(a))
	root.AddCommand(newZFSCommand(a))
	root.AddCommand(newKexportCommand(a))
	return root
}

// asRoot gives c what the command has that holds all others.
func (a *app) asRoot(c *cobra.Command) *cobra.Command {
	c.GroupID = ""
	c.SilenceErrors, c.SilenceUsage = true, true
	c.Version = version()
	c.PersistentPreRunE = func(*cobra.Command, []string) error {
		if a.json && a.quiet {
			return usagef("--json and --quiet exclude each other")
		}
		a.ui = ui.New(a.stdout, a.uiMode())
		return nil
	}
	c.PersistentFlags().BoolVar(&a.json, "json", false, "print events as JSON lines")
	c.PersistentFlags().BoolVarP(&a.quiet, "quiet", "q", false, "print the result alone")
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usagef("%w\nhint: %s --help", err, c.CommandPath())
	})
	return c
}

// uiMode is the mode the flags chose.
func (a *app) uiMode() ui.Mode {
	switch {
	case a.json:
		return ui.JSON
	case a.quiet:
		return ui.Quiet
	}
	return ui.Auto
}

// knownCommand is reached with arguments when the first is no command.
func knownCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := c.CommandPath() + " --help lists the commands"
	c.SuggestionsMinimumDistance = 2
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		hint = fmt.Sprintf("did you mean %q?", near[0])
	}
	return usagef("unknown command %q\nhint: %s", args[0], hint)
}

// showHelp is what a command does that only holds others.
func showHelp(c *cobra.Command, _ []string) error { return c.Help() }

// packerArgs lets long flags be spelled with one dash, as Packer users and
// their scripts do (-var, -var-file=…, -on-error=…): an argument of one dash
// whose name is a long flag of some command gets its second dash. Arguments
// after "--" are left alone.
func packerArgs(root *cobra.Command, args []string) []string {
	long := map[string]bool{}
	var collect func(*cobra.Command)
	collect = func(c *cobra.Command) {
		for _, name := range flagNames(c) {
			long[name] = true
		}
		for _, sub := range c.Commands() {
			collect(sub)
		}
	}
	collect(root)
	out := make([]string, 0, len(args))
	for i, arg := range args {
		if arg == "--" {
			return append(out, args[i:]...)
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(arg, "-"), "=")
		if strings.HasPrefix(arg, "-") && !strings.HasPrefix(arg, "--") && len(name) > 1 && long[name] {
			arg = "-" + arg
		}
		out = append(out, arg)
	}
	return out
}
