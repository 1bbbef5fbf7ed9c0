package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kldload/kldload/diskimage"
	"github.com/kldload/kldload/internal/export"
	"github.com/kldload/kldload/internal/scan"
	"github.com/kldload/kldload/internal/volume"
)

type scanOptions struct {
	allow, literals string
	allFiles        bool
	format          string
}

func newScanCommand(a *app) *cobra.Command {
	var o scanOptions
	c := &cobra.Command{
		Use:     "scan IMAGE|DIR",
		GroupID: groupLook,
		Short:   "Find secrets that an image or a folder would ship",
		Long: `Look for keys, tokens, password hashes, credentials, histories and what builds
leave behind: in all files of IMAGE, on every partition, dataset and snapshot, in
extended attributes, deleted files and slack; or in all files below DIR. Archives,
compressed files, initramfs, SQLite databases, journals, git packs, UTF-16 and
base64 are looked into.

Files that are what the package database says are looked at with the rules for
whole keys and tokens alone, unless --all-files is given. No secret is printed.
Nothing is sent anywhere.

Exit status 0 means that nothing was found that --allow does not accept, 3 that
something was or that a part could not be read, 1 that the scan did not come to
its end.`,
		Example: `  kldload scan kldload-server.qcow2
  kldload scan --allow allow.toml --json /srv/rootfs`,
		Args: exactArgs("IMAGE|DIR"),
		RunE: func(c *cobra.Command, args []string) error { return runScan(c.Context(), a, o, args[0]) },
	}
	c.Flags().StringVar(&o.allow, "allow", "", "accept the findings that `FILE` lists, with reasons")
	c.Flags().StringVar(&o.literals, "literals", "", "look for the values in `FILE`, a line each: NAME=VALUE")
	c.Flags().BoolVar(&o.allFiles, "all-files", false, "use every rule on files of packages, too")
	c.Flags().StringVarP(&o.format, "input-format", "f", "", "take the image as `FORMAT` without looking at its content")
	return c
}

func runScan(ctx context.Context, a *app, o scanOptions, path string) error {
	format, err := inputFormat(o.format)
	if err != nil {
		return err
	}
	st, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("scanning: %w", err)
	}
	eng, err := newScanEngine(o)
	if err != nil {
		return err
	}
	stage := a.ui.Stage("scan")
	if st.IsDir() {
		err = eng.Dir(ctx, path)
	} else {
		err = scanImage(ctx, eng, path, format)
	}
	if err != nil {
		stage.Fail()
		return broken(fmt.Errorf("scanning %q: %w", path, err))
	}
	r := eng.Report()
	stage.Done(r.Summary())
	brief := "clean"
	switch {
	case len(r.Findings) > 0:
		brief = "secrets"
	case len(r.Unread()) > 0:
		brief = "unread"
	}
	a.ui.Result(r.Text(), brief, struct {
		Path string `json:"path"`
		*scan.Report
	}{path, r})
	return scanVerdict(path, r)
}

// scanVerdict says why what was scanned is not clean.
func scanVerdict(path string, r *scan.Report) error {
	if len(r.Findings) > 0 {
		return codedError{fmt.Errorf("scanning %q: %s\nhint: take it out, or accept it in a file for --allow: %s", path, counted(len(r.Findings), "finding"), r.AllowHint()), exitChecks}
	}
	if unread := r.Unread(); len(unread) > 0 {
		at := scan.Finding{Location: unread[0].Location}
		return codedError{fmt.Errorf("scanning %q: nothing was found, and not all of it could be read: the first of %d is %s: %s", path, len(unread), at.Place(), unread[0].Text), exitChecks}
	}
	return nil
}

func newScanEngine(o scanOptions) (*scan.Engine, error) {
	opts := scan.Options{AllFiles: o.allFiles}
	var err error
	if o.allow != "" {
		if opts.Allow, err = scan.ReadAllowList(o.allow, time.Now()); err != nil {
			return nil, err
		}
	}
	if o.literals != "" {
		if opts.Literals, err = readLiterals(o.literals); err != nil {
			return nil, err
		}
	}
	return scan.New(opts)
}

// readLiterals reads lines NAME=VALUE; no error shows a value.
func readLiterals(path string) ([]scan.Literal, error) {
	text, err := scan.ReadList(path)
	if err != nil {
		return nil, fmt.Errorf("reading --literals: %w", err)
	}
	var list []scan.Literal
	sc := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok || name == "" || value == "" {
			return nil, fmt.Errorf("%s:%d: want NAME=VALUE", path, n)
		}
		l := scan.Literal{Name: name, Value: value}
		if l.Short() {
			return nil, fmt.Errorf("%s:%d: the value of %q is too short to be looked for: want %d bytes at least, as fewer are in every image by chance", path, n, name, scan.MinLiteral)
		}
		list = append(list, l)
	}
	return list, sc.Err()
}

func scanImage(ctx context.Context, eng *scan.Engine, path string, format diskimage.Format) (err error) {
	disk, err := export.Open(ctx, path, diskimage.OpenOptions{Format: format})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	if disk.Info().VirtualSize == 0 { // a copy that did not begin is not clean
		return codedError{errors.New("the image is empty"), exitChecks}
	}
	d, err := volume.Open(disk, disk.Info().VirtualSize)
	if err != nil {
		return codedError{err, exitChecks}
	}
	return scan.Image(ctx, eng, d, scan.ImageOptions{})
}
