package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kldload/kldload/internal/cache"
	"github.com/kldload/kldload/internal/machine"
	"github.com/kldload/kldload/internal/pipeline"
	"github.com/kldload/kldload/internal/scan"
	"github.com/kldload/kldload/internal/template"
)

// templateFlags are Packer's, shared by build and validate.
type templateFlags struct {
	vars     []string
	varFiles []string
}

func (f *templateFlags) add(c *cobra.Command) {
	c.Flags().StringArrayVar(&f.vars, "var", nil, "set a variable: `name=value`")
	c.Flags().StringArrayVar(&f.varFiles, "var-file", nil, "read variables from a .pkrvars.hcl `file`")
}

// load reads the template; the clock is SOURCE_DATE_EPOCH where it is set,
// and that is returned, too.
func (f *templateFlags) load(path string) (*template.Template, time.Time, error) {
	epoch, err := sourceDateEpoch()
	if err != nil {
		return nil, epoch, err
	}
	vars := map[string]string{}
	for _, v := range f.vars {
		name, value, ok := strings.Cut(v, "=")
		if !ok || name == "" {
			return nil, epoch, usagef("-var %q: want name=value", v)
		}
		vars[name] = value
	}
	now := time.Now()
	if !epoch.IsZero() {
		now = epoch
	}
	t, err := template.Load(path, template.Options{Vars: vars, VarFiles: f.varFiles, Env: os.LookupEnv, Now: now.UTC()})
	return t, epoch, err
}

// sourceDateEpoch reads SOURCE_DATE_EPOCH (reproducible-builds.org); zero
// when it is not set.
func sourceDateEpoch() (time.Time, error) {
	text, ok := os.LookupEnv("SOURCE_DATE_EPOCH")
	if !ok || text == "" {
		return time.Time{}, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return time.Time{}, usagef("SOURCE_DATE_EPOCH %q: want seconds since 1970", text)
	}
	return time.Unix(n, 0), nil
}

type buildOptions struct {
	templateFlags
	onError  string
	force    bool
	accel    string
	cacheDir string
	signKey  string
}

func newBuildCommand(a *app) *cobra.Command {
	var o buildOptions
	c := &cobra.Command{
		Use:     "build [flags] TEMPLATE",
		GroupID: groupMake,
		Short:   "Build sealed golden images from a Packer template and a darksite",
		Long: `Build every image of TEMPLATE (a .pkr.hcl file or a folder of them): install the
packages from the darksite without network, provision, seal, write the disk in
every format, assert that it can boot, boot it, write bills of materials and a
provenance and sign them. Nothing appears under its final name unless all of it
went well. No root is needed, nothing is mounted.

SOURCE_DATE_EPOCH sets the newest time in the image; unset, it is the
darksite's. The same darksite, template and epoch give the same bytes.`,
		Example: `  kldload build packer/kldload-server
  kldload build -var-file=packer/kldload-server/profiles/core.pkrvars.hcl -var image_version=1.2.0 -force packer/kldload-server`,
		Args: exactArgs("TEMPLATE"),
		RunE: func(c *cobra.Command, args []string) error { return runBuild(c.Context(), a, o, args[0]) },
	}
	o.add(c)
	c.Flags().StringVar(&o.onError, "on-error", "cleanup", "after a failure: `cleanup`, or abort to keep the tree for a look")
	c.Flags().BoolVar(&o.force, "force", false, "replace output folders that exist, once the build is good")
	c.Flags().StringVar(&o.accel, "accel", string(machine.Auto), "accelerator of the boot: auto, kvm or tcg")
	c.Flags().StringVar(&o.cacheDir, "cache-dir", "", "cache `folder` (default: kldload in the user's cache folder)")
	c.Flags().StringVar(&o.signKey, "sign-key", "", "sign the evidence with the private key in `FILE` (default: "+signKeyEnv+", the template's sign_key, your own)")
	return c
}

func runBuild(ctx context.Context, a *app, o buildOptions, path string) error {
	if o.onError != "cleanup" && o.onError != "abort" {
		return usagef("-on-error %q: want cleanup or abort", o.onError)
	}
	accel := machine.Accel(o.accel)
	if accel != machine.Auto && accel != machine.KVM && accel != machine.TCG {
		return usagef("--accel %q: want auto, kvm or tcg", o.accel)
	}
	t, epoch, err := o.load(path)
	if err != nil {
		return err
	}
	a.ui.Mask(secrets(t.Sensitive())...)
	if err := distinctOutputs(t.Builds); err != nil {
		return err
	}
	store, err := cache.Open(o.cacheDir)
	if err != nil {
		return err
	}
	for _, b := range t.Builds {
		k := b.Source.Kldload
		a.ui.Print("%s: %s %s · %s · %s kernel · %s", b.ID(), k.Distro, k.Release, k.Profile, k.Kernel, k.Storage)
		result, err := pipeline.Run(ctx, b, pipeline.Options{
			UI: a.ui, Cache: store, Force: o.force, Abort: o.onError == "abort", Epoch: epoch, Accel: accel, Inputs: t.Inputs(), Now: time.Now,
			Files: t.Files(), TemplateDir: t.Dir, Version: version(), SignKey: signKeyPath(o.signKey),
			Sensitive: t.Secrets(),
		})
		if err != nil {
			return maskedError(a, err)
		}
		a.ui.Result(result.Summary(), result.Brief(), result)
	}
	return nil
}

// secrets adds the lines of values that have several, since scripts are heard
// line by line; the longest come first, so that no rest of one stays behind
// another that it begins with.
func secrets(values []string) []string {
	all := slices.Clone(values)
	for _, v := range values {
		for line := range strings.Lines(v) {
			if line = strings.TrimSpace(line); len(line) > 3 {
				all = append(all, line)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b string) int { return len(b) - len(a) })
	return slices.Compact(all)
}

// distinctOutputs refuses two builds that would replace each other's images.
func distinctOutputs(builds []template.Build) error {
	first := map[string]string{}
	for _, b := range builds {
		dirs := []string{b.Source.Kldload.OutputDirectory}
		for _, chain := range b.PostProcessors {
			for _, p := range chain {
				if p.Kexport != nil && p.Kexport.OutputDirectory != "" {
					dirs = append(dirs, p.Kexport.OutputDirectory)
				}
			}
		}
		for _, dir := range dirs {
			if other, ok := first[dir]; ok && other != b.ID() {
				return fmt.Errorf("builds %s and %s both write to %q\nhint: give each source its own output_directory, with source.name in it", other, b.ID(), dir)
			}
			first[dir] = b.ID()
		}
	}
	return nil
}

// maskedError keeps sensitive values out of an error.
func maskedError(a *app, err error) error {
	if masked := a.ui.Masked(err.Error()); masked != err.Error() {
		return fmt.Errorf("%s", masked)
	}
	return err
}

func newValidateCommand(a *app) *cobra.Command {
	var o templateFlags
	c := &cobra.Command{
		Use:     "validate [flags] TEMPLATE",
		GroupID: groupLook,
		Short:   "Check a template without building it",
		Example: `  kldload validate packer/kldload-server
  kldload validate -var-file=packer/kldload-server/profiles/k8s-node.pkrvars.hcl packer/kldload-server`,
		Args: exactArgs("TEMPLATE"),
		RunE: func(_ *cobra.Command, args []string) error { return runValidate(a, o, args[0]) },
	}
	o.add(c)
	return c
}

func runValidate(a *app, o templateFlags, path string) error {
	t, _, err := o.load(path)
	if err != nil {
		return err
	}
	names := make([]string, 0, len(t.Builds))
	for _, b := range t.Builds {
		names = append(names, b.ID())
		if file := b.Source.Kldload.ScanAllow; file != "" {
			if _, err := scan.ReadAllowList(file, time.Now()); err != nil {
				return err
			}
		}
	}
	a.ui.Result("The configuration is valid: "+strings.Join(names, ", "), "valid",
		map[string]any{"valid": true, "builds": names, "variables": json.RawMessage(t.Inputs())})
	return nil
}
