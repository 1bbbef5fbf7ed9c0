package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/kldload/kldload/internal/darksite"
	"github.com/kldload/kldload/internal/ui"
)

func newDarksiteCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "darksite",
		GroupID: groupMake,
		Short:   "Make, prove and serve the offline mirror that builds draw from",
		Long: `A darksite is a folder with a signed apt repository: every package that some
profiles of a release need, the kernel, and ZFS modules compiled for exactly
that kernel. Making one is the only step that uses the network.`,
		Example: `  kldload darksite create --distro debian --release bookworm --profile server --output darksites/bookworm
  kldload darksite verify darksites/bookworm`,
		Args: knownCommand,
		RunE: showHelp,
	}
	c.AddCommand(newDarksiteCreateCommand(a), newDarksiteVerifyCommand(a), newDarksiteShowCommand(a), newDarksiteServeCommand(a))
	return c
}

func newDarksiteCreateCommand(a *app) *cobra.Command {
	var o darksite.CreateOptions
	c := &cobra.Command{
		Use:   "create --distro DISTRO --release RELEASE --profile PROFILE… --output DIR",
		Short: "Mirror what profiles need; resumes, and does nothing when complete",
		Long: `Resolves the closure of the profiles' package lists with apt in a private
root, fetches it, compiles the ZFS modules of each kernel once, signs the
repository and proves that every profile installs from it alone. The mirrors
are those of the host's apt sources for the release, or --mirror.

DIR appears whole or not at all; an interrupted run goes on in DIR.partial.`,
		Example: `  kldload darksite create --distro debian --release bookworm --profile core,server --output darksites/bookworm
  kldload darksite create --distro debian --release bookworm --profile k8s-node --kernel generic,cloud \
      --extra-package qemu-guest-agent --output darksites/k8s --dry-run`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.UI = a.ui
			return runDarksiteCreate(cmd.Context(), a, o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Distro, "distro", "debian", "`distribution` to mirror")
	f.StringVar(&o.Release, "release", "bookworm", "`release` of it")
	f.StringVar(&o.Arch, "arch", "amd64", "`architecture`")
	f.StringSliceVar(&o.Profiles, "profile", nil, "`profile` to mirror: core, server, desktop, k8s-node, or a list of --package-dir (repeatable)")
	f.StringSliceVar(&o.Kernels, "kernel", []string{"generic"}, "`flavour` of kernel: generic, cloud, or none (repeatable)")
	f.StringSliceVar(&o.ExtraPackages, "extra-package", nil, "mirror this `package`, too (repeatable)")
	f.StringVar(&o.PackageDir, "package-dir", "", "`folder` whose NAME.list files replace or add to the built-in lists")
	f.StringArrayVar(&o.Mirrors, "mirror", nil, "`\"URL [SUITE [COMPONENT…]]\"` to use instead of the host's apt sources (repeatable)")
	f.StringVar(&o.Keyring, "keyring", "", "`file` of the keys that sign the mirrors (default: the distribution's)")
	f.StringVar(&o.SigningKey, "signing-key", "", "private OpenPGP key `file` (default: your own, made on first use)")
	f.StringVarP(&o.Output, "output", "o", "", "`folder` of the darksite")
	f.StringVar(&o.CacheDir, "cache-dir", "", "`folder` of compiled ZFS modules (default: your cache folder/kldload)")
	f.BoolVar(&o.Update, "update", false, "ask the mirrors for newer packages even if the darksite is complete")
	f.BoolVar(&o.DryRun, "dry-run", false, "resolve and print what would be mirrored, then stop")
	return c
}

func runDarksiteCreate(ctx context.Context, a *app, o darksite.CreateOptions) error {
	if len(o.Profiles) == 0 || o.Output == "" {
		return usagef("darksite create: want --profile and --output\nhint: kldload darksite create --profile server --output darksites/bookworm")
	}
	l, err := darksite.Create(ctx, o)
	if err != nil {
		return err
	}
	if o.DryRun {
		text := fmt.Sprintf("would mirror %d packages, %s, into %s%s", len(l.Packages), ui.Bytes(l.Size()), o.Output, wouldCompile(l))
		a.ui.Result(text, fmt.Sprint(len(l.Packages)), l)
		return nil
	}
	d, err := darksite.Open(o.Output)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%s  %d packages  %s  %s…", o.Output, len(l.Packages), ui.Bytes(l.Size()), d.Digest()[:15])
	a.ui.Result(text, o.Output, darksiteEvent{o.Output, d.Digest(), d.Lock})
	return nil
}

func wouldCompile(l *darksite.Lock) string {
	var b strings.Builder
	for _, k := range l.Kernels {
		fmt.Fprintf(&b, "\n  and %s %s, compiled here or cached", k.ZFSModules.Package, k.ZFSModules.Version)
	}
	return b.String()
}

// darksiteEvent is the result of a darksite command with --json.
type darksiteEvent struct {
	Dir    string         `json:"dir"`
	Digest string         `json:"digest"`
	Lock   *darksite.Lock `json:"lock"`
}

func newDarksiteVerifyCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "verify DIR",
		Short: "Hash everything, check the signature, prove that each profile installs",
		Example: `  kldload darksite verify darksites/bookworm
  kldload darksite verify --json darksites/bookworm`,
		Args: exactArgs("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := darksite.Verify(cmd.Context(), args[0], a.ui)
			if err != nil {
				return err
			}
			a.ui.Result(fmt.Sprintf("%s is whole  %s…", args[0], d.Digest()[:15]), d.Digest(),
				darksiteEvent{args[0], d.Digest(), d.Lock})
			return nil
		},
	}
}

func newDarksiteShowCommand(a *app) *cobra.Command {
	var packages bool
	c := &cobra.Command{
		Use:   "show DIR",
		Short: "Tell what is inside",
		Example: `  kldload darksite show darksites/bookworm
  kldload darksite show --packages darksites/bookworm`,
		Args: exactArgs("DIR"),
		RunE: func(_ *cobra.Command, args []string) error {
			d, err := darksite.Open(args[0])
			if err != nil {
				return err
			}
			a.ui.Result(strings.TrimRight(darksiteTable(d, packages), "\n"), d.Digest(), darksiteEvent{args[0], d.Digest(), d.Lock})
			return nil
		},
	}
	c.Flags().BoolVar(&packages, "packages", false, "list every package")
	return c
}

// darksiteTable is a darksite for a person.
func darksiteTable(d *darksite.Darksite, packages bool) string {
	l := d.Lock
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	row("release", "%s %s %s", l.Distro, l.Release, l.Arch)
	row("digest", "%s…", d.Digest()[:23])
	row("epoch", "%d", l.Epoch)
	row("key", "%s", l.KeyFingerprint)
	row("packages", "%d, %s", len(l.Packages), ui.Bytes(l.Size()))
	for _, p := range l.ProfileNames() {
		row("profile", "%s: %d packages named", p, len(l.Profiles[p]))
	}
	for _, k := range l.Kernels {
		row("kernel", "%s: %s (%s)", k.Flavour, k.ABI, k.Version)
		if k.ZFSModules.Package != "" {
			row("", "ZFS %s", k.ZFSModules.ZFSVersion)
		}
	}
	if len(l.Extra) > 0 {
		row("extra", "%s", strings.Join(l.Extra, " "))
	}
	w.Flush()
	if packages {
		fmt.Fprintln(&b)
		fmt.Fprintln(w, "PACKAGE\tVERSION\tSIZE")
		for _, p := range l.Packages {
			fmt.Fprintf(w, "%s\t%s\t%s\n", middle(p.Name, 34), middle(p.Version, 30), ui.Bytes(p.Size))
		}
		w.Flush()
	}
	return b.String()
}

// middle shortens s in its middle to at most n characters.
func middle(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n/2]) + "…" + string(r[len(r)-(n-n/2-1):])
}

func newDarksiteServeCommand(a *app) *cobra.Command {
	var listen string
	c := &cobra.Command{
		Use:   "serve DIR",
		Short: "Serve it over HTTP, on loopback unless told otherwise",
		Example: `  kldload darksite serve darksites/bookworm
  kldload darksite serve --listen 10.0.0.1:8080 darksites/bookworm`,
		Args: exactArgs("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return darksite.Serve(cmd.Context(), args[0], listen, func(d *darksite.Darksite, addr string) {
				a.ui.Print("serving %s at http://%s until Ctrl-C", args[0], addr)
				a.ui.Print("key     %s", d.KeyPath())
				a.ui.Print("%s", d.AptSource("http://"+addr))
			})
		},
	}
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:8080", "`address` to listen on; port 0 picks one")
	return c
}
