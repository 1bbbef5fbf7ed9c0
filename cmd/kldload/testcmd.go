package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kldload/kldload/internal/atomicfile"
	"github.com/kldload/kldload/internal/machine"
)

// testGrowth is how much larger than the image a test's disk is, so that the
// growth of the root file system is seen.
const testGrowth = "+2G"

type testOptions struct {
	bootOptions
	checks, report string
}

func newTestCommand(a *app) *cobra.Command {
	var opts testOptions
	c := &cobra.Command{
		Use:     "test IMAGE",
		GroupID: groupLook,
		Short:   "Boot a clone of an image and run its smoke checks",
		Long: `Boot a throw-away clone of IMAGE, wait for the end of cloud-init, run the smoke
checks in it as root and print what came of each. Exit status 0 means that all
passed, 3 that the image booted and a check failed. The serial log is kept on
failure, beside the image or in --serial.

A checks file has one check per line, "name: command"; indented lines continue
it, # starts a comment. A command that ends with status 77 skips its check.`,
		Example: `  kldload test output/kldload-server/kldload-server.qcow2
  kldload test kldload-server.qcow2 --checks my.checks --report evidence.json`,
		Args: exactArgs("IMAGE"),
		RunE: func(c *cobra.Command, args []string) error {
			return runTest(c.Context(), a, args[0], opts)
		},
	}
	opts.addFlags(c)
	disk := c.Flags().Lookup("disk-size")
	disk.Usage, disk.DefValue = "disk of the clone, as 20G or +2G", testGrowth
	opts.diskSize = testGrowth
	c.Flags().StringVar(&opts.checks, "checks", "", "run the checks in `FILE` (default: the built-in ones)")
	c.Flags().StringVar(&opts.report, "report", "", "write the evidence to `FILE`, in JSON")
	c.Flags().StringVar(&opts.serial, "serial", "", "write the serial log to `FILE` and keep it")
	return c
}

func runTest(ctx context.Context, a *app, image string, opts testOptions) error {
	cfg, err := opts.config(image)
	if err != nil {
		return err
	}
	checks := machine.DefaultChecks()
	if opts.checks != "" {
		if checks, err = machine.ReadChecks(opts.checks); err != nil {
			return err
		}
	}
	stage := a.ui.Stage("boot")
	cfg.Progress = func(note string) { stage.Progress(0, 0, note) }
	report, err := machine.Test(ctx, cfg, checks)
	if err != nil {
		stage.Fail()
		report.Error = err.Error()
		return errors.Join(err, writeEvidence(ctx, opts.report, image, report))
	}
	stage.Done(report.Summary())
	if err := writeEvidence(ctx, opts.report, image, report); err != nil {
		return err
	}
	brief := "pass"
	if !report.Passed {
		brief = "fail"
	}
	if report.Kept != "" {
		a.ui.Print("kept: %s", report.Kept)
	}
	a.ui.Result(checkTable(report), brief, report)
	if report.Passed {
		return nil
	}
	return codedError{fmt.Errorf("%d of %d checks failed in %q\nserial log: %s\nhint: kldload boot %s  gives a clone to look at",
		report.Count(machine.Fail), len(report.Checks), image, report.SerialLog, image), exitChecks}
}

// checkTable prints one line per check, 80 columns wide unless a name is long.
func checkTable(r machine.Report) string {
	width := len("check")
	for _, c := range r.Checks {
		width = max(width, len(c.Name))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%-*s  result  seconds\n", width, "check")
	for _, c := range r.Checks {
		line := fmt.Sprintf("%-*s  %-6s  %7.1f", width, c.Name, c.Status, c.Seconds)
		if c.Status != machine.Pass {
			brief := []rune(c.Brief())
			if room := max(20, 78-len(line)); len(brief) > room {
				brief = append(brief[:room-1], '…')
			}
			line += "  " + string(brief)
		}
		b.WriteString(line + "\n")
	}
	fmt.Fprintf(&b, "login after %.0f s, cloud-init done after %.0f s, %s, %s",
		r.LoginSeconds, r.ReadySeconds, r.Kernel, r.Verdict)
	return b.String()
}

// writeEvidence writes the report with the digest of what was tested.
func writeEvidence(ctx context.Context, name, image string, r machine.Report) error {
	if name == "" || ctx.Err() != nil {
		return nil
	}
	f, err := os.Open(image)
	if err != nil {
		return fmt.Errorf("hashing the image: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return fmt.Errorf("hashing the image: %w", err)
	}
	r.SHA256 = hex.EncodeToString(h.Sum(nil))
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.WriteFile(name, append(b, '\n'), 0o644)
}
