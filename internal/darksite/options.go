package darksite

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kldload/kldload/internal/distro"
	"github.com/kldload/kldload/internal/ui"
)

// NoKernel as the only kernel makes a darksite without one.
const NoKernel = "none"

// CreateOptions says what to mirror. Distro, Release, Profiles and Output
// are required.
type CreateOptions struct {
	Distro, Release string
	Arch            string   // "" is amd64
	Profiles        []string // names of package lists
	Kernels         []string // generic, cloud; nil is generic; NoKernel alone for none
	ExtraPackages   []string
	PackageDir      string // lists here replace the embedded ones of the same name
	// Mirrors are "URL [SUITE [COMPONENT…]]"; nil takes the host's apt
	// sources for the release.
	Mirrors []string
	// Keyring checks upstream's signatures; "" is what the host's sources
	// name, or the distribution's own keyring.
	Keyring string
	// SigningKey is a private OpenPGP key; "" is the user's own in
	// $XDG_DATA_HOME/kldload/keys, made when missing.
	SigningKey string
	Output     string
	CacheDir   string // "" is os.UserCacheDir()/kldload
	Update     bool   // ask upstream even when Output is complete
	DryRun     bool   // resolve and report; nothing is written to Output
	UI         *ui.UI // nil is silent
}

// request is CreateOptions checked, with its lists read.
type request struct {
	CreateOptions
	release  release
	profiles map[string][]distro.Entry
	optional map[string][]distro.Entry
	extra    []distro.Entry
}

func newRequest(o CreateOptions) (*request, error) {
	if o.Arch == "" {
		o.Arch = "amd64"
	}
	if o.UI == nil {
		o.UI = ui.New(io.Discard, ui.Quiet)
	}
	rel, err := findRelease(o.Distro, o.Release, o.Arch)
	if err != nil {
		return nil, err
	}
	q := &request{CreateOptions: o, release: rel, profiles: map[string][]distro.Entry{}, optional: map[string][]distro.Entry{}}
	if err := q.paths(); err != nil {
		return nil, err
	}
	if err := q.kernels(); err != nil {
		return nil, err
	}
	return q, q.lists()
}

func (q *request) paths() error {
	if q.Output == "" {
		return fmt.Errorf("no output folder\nhint: --output DIR")
	}
	var err error
	if q.Output, err = filepath.Abs(q.Output); err != nil {
		return err
	}
	if q.CacheDir == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return fmt.Errorf("finding the cache folder: %w", err)
		}
		q.CacheDir = filepath.Join(dir, "kldload")
	}
	if err := os.MkdirAll(q.CacheDir, 0o755); err != nil {
		return fmt.Errorf("making the cache folder: %w", err)
	}
	return nil
}

func (q *request) kernels() error {
	switch {
	case len(q.Kernels) == 0:
		q.Kernels = []string{"generic"}
	case len(q.Kernels) == 1 && q.Kernels[0] == NoKernel:
		q.Kernels = nil
	}
	q.Kernels = sortedSet(q.Kernels)
	for _, k := range q.Kernels {
		if _, ok := q.release.kernels[k]; !ok {
			return fmt.Errorf("kernel %q: no such flavour for %s (have %s, or %s)", k, q.release.name,
				strings.Join(sortedKeys(q.release.kernels), ", "), NoKernel)
		}
	}
	return nil
}

func (q *request) lists() error {
	if len(q.Profiles) == 0 {
		return fmt.Errorf("no profile\nhint: --profile NAME, of %s", strings.Join(distro.Profiles(q.Distro), ", "))
	}
	for _, name := range q.Profiles {
		entries, err := distro.List(q.Distro, name, q.PackageDir)
		if err != nil {
			return fmt.Errorf("profile %q: %w", name, err)
		}
		q.profiles[name] = entries
	}
	if len(q.Kernels) > 0 {
		entries, err := distro.List(q.Distro, distro.ZFSRoot, q.PackageDir)
		if err != nil {
			return err
		}
		q.optional[distro.ZFSRoot] = entries
	}
	for _, name := range sortedSet(q.ExtraPackages) {
		q.extra = append(q.extra, distro.Entry{Name: name, From: "--extra-package"})
	}
	return nil
}

// newLock starts the lock of what is asked for; kernels and packages are
// still to be found.
func (q *request) newLock() *Lock {
	l := &Lock{Schema: lockSchema, Distro: q.Distro, Release: q.Release, Arch: q.Arch,
		Profiles: map[string][]string{}, Optional: map[string][]string{},
		Extra: names(q.extra), Kernels: []Kernel{}, Packages: []Package{}}
	for name, entries := range q.profiles {
		l.Profiles[name] = names(entries)
	}
	for name, entries := range q.optional {
		l.Optional[name] = names(entries)
	}
	return l
}

// names gives the sorted package names of a list.
func names(entries []distro.Entry) []string {
	out := make([]string, 0, len(entries))
	for _, e := range entries {
		out = append(out, e.Name)
	}
	return sortedSet(out)
}

func sortedSet(in []string) []string {
	out := slices.Clone(in)
	if out == nil {
		out = []string{}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
