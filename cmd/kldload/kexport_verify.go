package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kldload/kldload/diskimage"
	"github.com/kldload/kldload/internal/export"
	"github.com/kldload/kldload/internal/seal"
	"github.com/kldload/kldload/internal/verify"
)

type verifyOptions struct {
	format, hostname, keys string
}

func newVerifyCommand(a *app) *cobra.Command {
	var o verifyOptions
	c := &cobra.Command{
		Use:   "verify IMAGE",
		Short: "Prove from outside that an image is sealed and can boot",
		Long: `Open an image of any format as a stranger would, from the partition table down,
and hold every item of the seal and everything a boot needs against what is in
it. Roots are ZFS and ext4. Exit status 0 means that all holds, 3 that something
does not; nothing is written.

What an image may say of itself is asked for: --hostname for a default name that
its template set, --authorized-keys for the keys that may log in.`,
		Example: `  kexport verify kldload-server.qcow2
  kexport verify --hostname web --authorized-keys ops.pub --json web.ova`,
		Args: exactArgs("IMAGE"),
		RunE: func(c *cobra.Command, args []string) error { return runVerify(c.Context(), a, args[0], o) },
	}
	f := c.Flags()
	f.StringVarP(&o.format, "input-format", "f", "", "take the image as `FORMAT` without looking at its content")
	f.StringVar(&o.hostname, "hostname", "", "the `NAME` that the image may have")
	f.StringVar(&o.keys, "authorized-keys", "", "`FILE` with the public keys that the image may have")
	return c
}

func runVerify(ctx context.Context, a *app, path string, o verifyOptions) (err error) {
	format, err := inputFormat(o.format)
	if err != nil {
		return err
	}
	opts := verify.Options{Seal: seal.Options{Hostname: o.hostname}}
	if opts.Seal.Keys, err = keyLines(o.keys); err != nil {
		return err
	}
	f, err := export.Open(ctx, path, diskimage.OpenOptions{Format: format, Backing: true})
	if err != nil {
		return broken(err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	stage := a.ui.Stage("verify")
	checks := verify.Disk(f, f.Info().VirtualSize, opts)
	failed := 0
	for _, c := range checks {
		if c.Err != nil {
			failed++
		}
	}
	detail := fmt.Sprintf("%d assertions", len(checks))
	if failed > 0 {
		stage.Fail()
	} else {
		stage.Done(detail)
	}
	a.ui.Result(verifyText(path, checks, failed), map[bool]string{true: "ok", false: "not as wanted"}[failed == 0], map[string]any{
		"file": path, "format": f.Info().Format, "ok": failed == 0, "failed": failed, "checks": checks,
	})
	if failed == 0 {
		return nil
	}
	return codedError{fmt.Errorf("verifying %q: %d of %s do not hold", path, failed, detail), exitChecks}
}

// maxKeys bounds a file of keys.
const maxKeys = 1 << 20

// keyLines reads a file of public keys; "" is none.
func keyLines(name string) ([]string, error) {
	if name == "" {
		return nil, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("--authorized-keys: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxKeys))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("--authorized-keys: %w", err)
	}
	return strings.Split(string(b), "\n"), nil
}

// verifyText is a line for each assertion, and one for each thing that is not
// as it has to be.
func verifyText(path string, checks []verify.Check, failed int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-6s %-18s %-6s %s\n", "GROUP", "ASSERTION", "", "FOUND")
	for _, c := range checks {
		if c.Err == nil {
			fmt.Fprintln(&b, strings.TrimRight(fmt.Sprintf("%-6s %-18s ok     %s", c.Group, c.Name, c.Detail), " "))
			continue
		}
		for i, line := range strings.Split(c.Error, "\n") {
			if i == 0 {
				fmt.Fprintf(&b, "%-6s %-18s FAILED %s\n", c.Group, c.Name, line)
			} else {
				fmt.Fprintf(&b, "%-32s %s\n", "", line)
			}
		}
	}
	if failed == 0 {
		fmt.Fprintf(&b, "%s: sealed, and can boot", path)
	} else {
		fmt.Fprintf(&b, "%s: %d of %d assertions do not hold", path, failed, len(checks))
	}
	return b.String()
}
