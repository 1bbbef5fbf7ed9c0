package pipeline

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"

	"github.com/kldload/kldload/diskimage"
	"github.com/kldload/kldload/internal/scan"
	"github.com/kldload/kldload/internal/ui"
	"github.com/kldload/kldload/internal/volume"
)

// scanOptions says what the scan looks for and what it accepts: the user's
// list, and the keys that the template gives its users.
func (b *build) scanOptions() (scan.Options, error) {
	var opts scan.Options
	if b.src.ScanAllow != "" {
		list, err := scan.ReadAllowList(b.src.ScanAllow, b.opts.Now())
		if err != nil {
			return opts, err
		}
		opts.Allow = list
	}
	for _, s := range b.opts.Sensitive {
		opts.Literals = append(opts.Literals, scan.Literal{Name: s.Name, Value: s.Value})
	}
	for _, u := range b.src.Users {
		opts.Declared = append(opts.Declared, u.SSHAuthorizedKeys...)
	}
	return opts, nil
}

// scan looks for secrets on the finished disk: what is found there, ships.
func (b *build) scan(ctx context.Context, s *ui.Stage) (outcome, error) {
	opts, err := b.scanOptions()
	if err != nil {
		return outcome{}, err
	}
	logShort(s, opts.Literals)
	clean := b.opts.Cache.Keys("scan")
	opts.Clean = clean
	eng, err := scan.New(opts)
	if err != nil {
		return outcome{}, err
	}
	f, err := os.Open(b.raw)
	if err != nil {
		return outcome{}, err
	}
	defer f.Close()
	raw, err := diskimage.OpenRaw(f) // it knows of holes, which are most of the disk
	if err != nil {
		return outcome{}, err
	}
	disk, err := volume.Open(raw, b.src.DiskSize)
	if err != nil {
		return outcome{}, fmt.Errorf("scanning the disk: %w", err)
	}
	var done atomic.Int64
	err = scan.Image(ctx, eng, disk, scan.ImageOptions{Progress: func(n int64) { s.Progress(done.Add(n), 0, "") }})
	if err != nil {
		return outcome{}, fmt.Errorf("scanning the disk: %w", err)
	}
	if err := clean.Save(); err != nil {
		return outcome{}, err
	}
	r := eng.Report()
	b.result.Scan = r
	logAllowNotes(s, r)
	if err := scanned(r); err != nil {
		return outcome{}, err
	}
	return outcome{detail: r.Summary()}, nil
}

// logShort tells which sensitive values are not looked for.
func logShort(s *ui.Stage, list []scan.Literal) {
	for _, l := range list {
		if l.Short() {
			s.Log(fmt.Sprintf("the value of %s is not looked for: it has fewer than %d bytes", l.Name, scan.MinLiteral))
		}
	}
}

// logAllowNotes tells which entries of the allow-list nothing used.
func logAllowNotes(s *ui.Stage, r *scan.Report) {
	for _, n := range r.Notes {
		if n.Location == (scan.Location{}) {
			s.Log(n.Text)
		}
	}
}

// scanned says why an image may not ship. What could not be read is a reason,
// too: what it holds is not known.
func scanned(r *scan.Report) error {
	if len(r.Findings) > 0 {
		return foundError(r)
	}
	if unread := r.Unread(); len(unread) > 0 {
		at := scan.Finding{Location: unread[0].Location}
		return fmt.Errorf("scanning the disk: not all of it could be read: the first of %d is %s: %s", len(unread), at.Place(), unread[0].Text)
	}
	return nil
}

// foundError lists what was found, masked.
func foundError(r *scan.Report) error {
	const most = 20
	var b strings.Builder
	for i, f := range r.Findings {
		if i == most {
			fmt.Fprintf(&b, "\n  … and %d more: kldload scan lists them", len(r.Findings)-most)
			break
		}
		b.WriteString(strings.TrimRight(fmt.Sprintf("\n  %s  %s  %s  %s", f.Rule, f.Place(), f.Shown(), f.Fingerprint), " "))
	}
	return fmt.Errorf("the image holds what must not ship:%s\nhint: take it out in a provisioner; to accept it, scan_allow = \"FILE\" with %s", b.String(), r.AllowHint())
}
