package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kldload/kldload/diskimage"
	"github.com/kldload/kldload/internal/export"
	"github.com/kldload/kldload/internal/ui"
	"github.com/kldload/kldload/internal/zpool"
	"github.com/kldload/kldload/zfs"
)

func newZFSCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:     "zfs",
		GroupID: groupMake,
		Short:   "Make ZFS pools from folders and archives, and look into pools",
		Long: `ZFS pools in files, without a kernel module, without root and without a machine:
made from a folder or a tar archive, listed, read and checked.`,
		Example: `  kldload zfs create --from rootfs.tar.zst --output data.img --size 20G --pool data
  kldload zfs ls kldload-server.qcow2:rpool/ROOT/default@golden/etc`,
		Args: knownCommand,
		RunE: showHelp,
	}
	c.AddCommand(newZFSCreateCommand(a), newZFSLsCommand(a), newZFSCatCommand(a), newZFSCheckCommand(a))
	return c
}

type zfsCreateOptions struct {
	pool, from, output, size   string
	datasets                   []string
	properties, poolProperties []string
	layout, root               string
	snapshot, seed, format     string
	jobs                       int
	force, oneFileSystem       bool
}

func newZFSCreateCommand(a *app) *cobra.Command {
	var o zfsCreateOptions
	c := &cobra.Command{
		Use:   "create --from DIR|TAR --output FILE --size SIZE",
		Short: "Write a pool from a folder or a tar archive",
		Long: `Write a complete pool into an image: every kind of file with owner, mode, time to
the nanosecond, extended attributes, ACLs and capabilities, hard links and
holes. Sources are a folder, or a tar archive: plain or packed with gzip, zstd
or bzip2; "-" is an archive on standard input. The image gets its name when it
is complete; until then, and after a failure, there is nothing under it.

As zpool create does, it makes the root dataset and mounts it at /POOL: there
the tree lies. --dataset adds datasets and the parents they need, each with what
of the tree lies below its mountpoint. Where one is mounted at /, the tree lies
there; --root says it where that is not what is meant. --layout root begins with
the datasets of a machine, as kldload build makes them.

SOURCE_DATE_EPOCH is the time of creation; unset, it is the time of the source's
last change. The same tree, options and epoch give the same bytes.`,
		Example: `  kldload zfs create --from /srv/data --output data.img --size 20G --pool data -O compression=zstd-3
  kldload zfs create --from rootfs.tar.zst --output root.img --size 8G --layout root --snapshot golden \
      --dataset home:quota=2G,compression=zstd`,
		Args: exactArgs(),
		RunE: func(c *cobra.Command, _ []string) error { return runZFSCreate(c.Context(), a, o) },
	}
	o.addFlags(c)
	for flag, words := range map[string][]string{"layout": {"plain", "root"}, "format": export.Names()} {
		if err := c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)); err != nil {
			panic(err) // the flag is not there: a mistake in here
		}
	}
	return c
}

func (o *zfsCreateOptions) addFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.pool, "pool", "rpool", "`NAME` of the pool")
	f.StringVar(&o.from, "from", "", "`folder` or tar archive; - for an archive on standard input")
	f.StringVar(&o.output, "output", "", "`FILE` to write")
	f.StringVar(&o.size, "size", "", "`SIZE` of the pool, as 20G")
	f.StringVar(&o.layout, "layout", "plain", "datasets to begin with: `plain` for the pool's alone, root for a machine's")
	f.StringArrayVar(&o.datasets, "dataset", nil, "add a dataset, or set properties of one: `NAME[:PROPERTY=VALUE,…]` (repeatable)")
	f.StringArrayVarP(&o.properties, "property", "O", nil, "set `PROPERTY=VALUE` of the pool's root dataset (repeatable)")
	f.StringArrayVarP(&o.poolProperties, "pool-property", "o", nil, "set `PROPERTY=VALUE` of the pool (repeatable)")
	f.StringVar(&o.root, "root", "", "`mountpoint` or folder below one where the tree lies (default: see above)")
	f.StringVar(&o.snapshot, "snapshot", "", "take the snapshot `NAME` of every dataset")
	f.StringVar(&o.seed, "seed", "", "`text` that the GUIDs follow from (default: from names, size and time)")
	f.StringVar(&o.format, "format", "raw", "`FORMAT` of the image: "+strings.Join(export.Names(), ", "))
	f.IntVar(&o.jobs, "jobs", 0, "compress in `N` threads (default: one for each processor)")
	f.BoolVar(&o.force, "force", false, "replace an output that exists")
	f.BoolVar(&o.oneFileSystem, "one-file-system", false, "leave out what is mounted in the folder")
}

// request checks the flags.
func (o *zfsCreateOptions) request(a *app) (r zpool.Request, err error) {
	r = zpool.Request{From: o.from, Stdin: a.stdin, Output: o.output, Force: o.force, Root: o.root, Snapshot: o.snapshot,
		Seed: o.seed, Workers: o.jobs, OneFileSystem: o.oneFileSystem, Now: time.Now}
	switch {
	case o.from == "":
		return r, usagef("no --from\nhint: --from DIR, a tar archive, or - for one on standard input")
	case o.output == "":
		return r, usagef("no --output\nhint: --output FILE")
	case o.size == "":
		return r, usagef("no --size\nhint: --size 20G; what is not used takes no room in a sparse file")
	case o.jobs < 0:
		return r, usagef("--jobs %d: want a number of threads", o.jobs)
	}
	r.Size, err = ui.ParseBytes(o.size, 1)
	if err != nil || r.Size < zfs.MinSize || r.Size%(1<<20) != 0 {
		return r, usagef("--size %q: want at least 64M, whole MiB, as 20G", o.size)
	}
	if r.Epoch, err = sourceDateEpoch(); err != nil {
		return r, err
	}
	if r.Convert, err = o.converter(r.Epoch); err != nil {
		return r, err
	}
	r.Layout, err = o.poolLayout()
	return r, err
}

// converter writes the raw image in another format.
func (o *zfsCreateOptions) converter(epoch time.Time) (func(context.Context, *os.File, *os.File) error, error) {
	choice, err := export.NewChoice(o.format)
	if err != nil {
		return nil, usagef("--format: %w", err)
	}
	if choice.Format() == diskimage.Raw {
		return nil, nil
	}
	return func(ctx context.Context, raw, out *os.File) error {
		d, err := diskimage.OpenRaw(raw)
		if err != nil {
			return err
		}
		_, err = export.Write(ctx, d, []export.Image{{Choice: choice, File: out, Path: o.output}}, export.WriteOptions{Jobs: o.jobs, Timestamp: epoch, NoDigest: true})
		return err
	}, nil
}

// poolLayout reads --layout, --dataset, --property and --pool-property.
func (o *zfsCreateOptions) poolLayout() (*zpool.Layout, error) {
	var l *zpool.Layout
	switch o.layout {
	case "plain":
		l = zpool.NewLayout(o.pool)
	case "root":
		l = zpool.NewRootLayout(o.pool)
	default:
		return nil, usagef("--layout %q: want plain or root", o.layout)
	}
	own, err := assignments("--property", o.properties)
	if err != nil {
		return nil, err
	}
	if err := l.Set("", own); err != nil {
		return nil, usagef("--property: %w", err)
	}
	for _, text := range o.datasets {
		name, list, _ := strings.Cut(text, ":")
		var parts []string
		if list != "" {
			parts = strings.Split(list, ",")
		}
		properties, err := assignments("--dataset "+name, parts)
		if err != nil {
			return nil, err
		}
		if err := l.Set(name, properties); err != nil {
			return nil, usagef("--dataset: %w", err)
		}
	}
	pool, err := assignments("--pool-property", o.poolProperties)
	if err != nil {
		return nil, err
	}
	for name, value := range pool {
		if err := l.SetPool(name, value); err != nil {
			return nil, usagef("--pool-property: %w", err)
		}
	}
	return l, nil
}

// assignments reads name=value texts.
func assignments(flag string, texts []string) (map[string]string, error) {
	m := map[string]string{}
	for _, text := range texts {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, usagef("%s %q: want PROPERTY=VALUE", flag, text)
		}
		m[name] = value
	}
	return m, nil
}

func runZFSCreate(ctx context.Context, a *app, o zfsCreateOptions) error {
	r, err := o.request(a)
	if err != nil {
		return err
	}
	stage := a.ui.Stage("pool")
	r.Progress = func(files, bytes int64, name string) {
		stage.Progress(bytes, 0, fmt.Sprintf("%d files, at %s", files, name))
	}
	start := time.Now()
	result, err := zpool.Create(ctx, r)
	if err != nil {
		stage.Fail()
		return err
	}
	rate := int64(float64(result.Content) / max(time.Since(start).Seconds(), 0.001))
	stage.Done(fmt.Sprintf("%d files, %s, %s/s", result.Files, ui.Bytes(result.Content), ui.Bytes(rate)))
	a.ui.Result(fmt.Sprintf("%s  pool %q of %s, %s, %s stored, seed %q", o.output, result.Pool, ui.Bytes(result.Size),
		counted(len(result.Datasets), "dataset"), ui.Bytes(result.Allocated), result.Seed), o.output, result)
	return nil
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
