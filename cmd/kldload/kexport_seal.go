package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kldload/kldload/internal/liveseal"
	"github.com/kldload/kldload/internal/seal"
)

type sealOptions struct {
	hostname, keys                   string
	yes, dryRun, filesOnly, poweroff bool
	image                            convertOptions // with --input
}

func newSealCommand(a *app) *cobra.Command {
	var o sealOptions
	c := &cobra.Command{
		Use:   "seal",
		Short: "Take this machine's identity and traces out, so that images can be made of its disk",
		Long: `Seal the machine this runs on: machine-id, SSH host keys, host id, WireGuard keys,
leases, passwords, users' SSH keys, logs, histories, caches and whatever else
would make two machines one, or tell of this one's life. Each item is reported
as done, or as already clean. docs/seal.md lists them.

The machine stays usable over SSH until it is off: host keys, users' keys, sudo
rules and passwords are kept in memory. While it powers off, whoever asks for
it, it is sealed once more, after its services have stopped. Do not start
anything on it that should not be in the image, and cut no power.

It refuses without --yes where neither Packer nor kldload runs it in a build
(PACKER_BUILD_NAME) nor a file /etc/kldload/image-template marks the machine as
one to be sealed. In a container or a chroot it seals the files and leaves
services alone.` + sealOfflineHelp,
		Example: `  sudo kexport seal --dry-run
  sudo kexport seal --yes --poweroff` + sealOfflineExample,
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error {
			offline, err := o.offlineWanted(c)
			if err != nil {
				return err
			}
			if offline {
				return runSealOffline(c.Context(), a, o)
			}
			return runSeal(c.Context(), a, o)
		},
	}
	o.addFlags(c)
	o.image.sealFlags(c)
	return c
}

func (o *sealOptions) addFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.hostname, "hostname", "", "leave `NAME` as the host name that machines have by default")
	f.StringVar(&o.keys, "authorized-keys", "", "`FILE` with the public keys that users of the image may have")
	f.BoolVar(&o.dryRun, "dry-run", false, "show what would change, and change nothing")
	f.BoolVar(&o.filesOnly, "files-only", false, "leave services, swap and mounts of a running machine alone")
	f.BoolVar(&o.poweroff, "poweroff", false, "power off when sealed")
	f.BoolVarP(&o.yes, "yes", "y", false, "seal a machine that is not marked as an image template")
}

// hostName is what a name in /etc/hostname may look like (hostname(5)).
var hostName = regexp.MustCompile(`^[0-9A-Za-z]([0-9A-Za-z.-]{0,62}[0-9A-Za-z])?$`)

func (o *sealOptions) check() error {
	switch {
	case o.hostname != "" && !hostName.MatchString(o.hostname):
		return usagef("--hostname %q: want a host name of at most 64 letters, digits, dashes and dots", o.hostname)
	case o.poweroff && o.dryRun:
		return usagef("--poweroff and --dry-run exclude each other")
	case o.poweroff && o.filesOnly:
		return usagef("--poweroff and --files-only exclude each other")
	}
	return nil
}

// options are what the sealed image may still say of itself.
func (o *sealOptions) options() (opts seal.Options, err error) {
	opts.Hostname = o.hostname
	if opts.Epoch, err = sourceDateEpoch(); err != nil {
		return opts, err
	}
	opts.Keys, err = keyLines(o.keys)
	return opts, err
}

func runSeal(ctx context.Context, a *app, o sealOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	if !o.yes && !o.dryRun {
		if err := liveseal.CheckTemplate("/", os.Getenv); err != nil {
			return err
		}
	}
	if err := liveseal.CheckRoot(os.Geteuid()); err != nil {
		return err
	}
	keep, err := o.options()
	if err != nil {
		return err
	}
	stage := a.ui.Stage("seal")
	r, err := liveseal.Run(ctx, liveseal.Options{
		Seal: keep, DryRun: o.dryRun, FilesOnly: o.filesOnly, Poweroff: o.poweroff,
	})
	if err != nil {
		stage.Fail()
		return err
	}
	brief := fmt.Sprintf("%d items, %d changed", len(r.Items), r.Count(liveseal.Done))
	if r.DryRun {
		brief = fmt.Sprintf("%d items, %d to change", len(r.Items), r.Count(liveseal.Pending))
	}
	stage.Done(brief)
	a.ui.Result(sealText(r), brief, r)
	return nil
}

// sealText is the report for a person, 80 columns wide unless a path is long.
func sealText(r *liveseal.Report) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-18s  %-13s  %s\n", "ITEM", "STATE", "FILES")
	for _, l := range r.Items {
		fmt.Fprintln(&b, strings.TrimRight(fmt.Sprintf("%-18s  %-13s  %s", l.Item, l.State, sealFiles(l.Changed)), " "))
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", w)
	}
	for _, u := range r.Unsealed {
		fmt.Fprintf(&b, "not sealed: %s\n", u)
	}
	if len(r.InMemory) > 0 {
		fmt.Fprintf(&b, "kept in memory until it is off: %s\n", strings.Join(r.InMemory, " "))
	}
	b.WriteString(sealNext(r))
	return b.String()
}

// sealFiles is the first of an item's files and how many more there are.
func sealFiles(names []string) string {
	switch len(names) {
	case 0:
		return ""
	case 1:
		return "/" + names[0]
	}
	return fmt.Sprintf("/%s and %d more", names[0], len(names)-1)
}

// sealNext is what to do then.
func sealNext(r *liveseal.Report) string {
	switch {
	case r.DryRun:
		return "nothing was changed"
	case r.Poweroff:
		return "sealed; the machine powers off now"
	case r.Running:
		return "sealed; next: power off, and start nothing before"
	}
	return "sealed"
}
