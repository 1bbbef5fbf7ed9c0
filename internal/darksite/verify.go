package darksite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/kldload/kldload/internal/ui"
)

// Verify opens a darksite, hashes every package, refuses files nobody
// named, and proves that each profile on each kernel installs from it alone.
// The error names every package that is missing or damaged.
func Verify(ctx context.Context, dir string, u *ui.UI) (*Darksite, error) {
	if u == nil {
		u = ui.New(io.Discard, ui.Quiet)
	}
	// The hashes first: they name all damage, where Open stops at sizes.
	l, _, err := readLock(dir)
	if err != nil {
		return nil, err
	}
	st := u.Stage("hash")
	err = errors.Join(hashAll(ctx, st, dir, l), strays(dir, l))
	if err != nil {
		st.Fail()
		return nil, fmt.Errorf("verifying darksite %q: %w\nhint: kldload darksite create repairs it", dir, err)
	}
	st.Done(fmt.Sprintf("%d packages, %s", len(l.Packages), ui.Bytes(l.Size())))
	st = u.Stage("signature")
	d, err := Open(dir)
	if err != nil {
		st.Fail()
		return nil, err
	}
	st.Done("key " + l.KeyFingerprint)
	if err := d.prove(ctx, u); err != nil {
		return nil, fmt.Errorf("verifying darksite %q: %w", dir, err)
	}
	return d, nil
}

// hashAll hashes each package; the error names each bad one.
func hashAll(ctx context.Context, st *ui.Stage, dir string, l *Lock) error {
	var bad []error
	var done int64
	total := l.Size()
	for _, p := range l.Packages {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := checkFile(filepath.Join(dir, p.Filename), p); err != nil {
			bad = append(bad, fmt.Errorf("package %s %s: %s: %w", p.Name, p.Version, p.Filename, err))
		}
		done += p.Size
		st.Progress(done, total, p.Name)
	}
	return errors.Join(bad...)
}

// strays refuses what is in the folder and in no list.
func strays(dir string, l *Lock) error {
	known := map[string]bool{lockName: true, keyName: true, indexDir(l.Release) + "/InRelease": true,
		packagesName(l): true, packagesName(l) + ".gz": true}
	for _, p := range l.Packages {
		known[p.Filename] = true
	}
	var bad []error
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err == nil && !known[filepath.ToSlash(rel)] {
			bad = append(bad, fmt.Errorf("%s: not part of the darksite", rel))
		}
		return err
	})
	return errors.Join(append(bad, err)...)
}

// prove lets apt, with the darksite as its only source and the darksite's
// key as its only trust, simulate the installation of every profile on every
// kernel, with and without each optional set.
func (d *Darksite) prove(ctx context.Context, u *ui.UI) (err error) {
	st := u.Stage("install")
	defer func() {
		if err != nil {
			st.Fail()
		}
	}()
	s := d.source()
	if s.signedBy, err = armouredKey(d.KeyPath()); err != nil {
		return err
	}
	root, err := newAptRoot(d.Lock.Arch, []source{s}, "", "")
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.update(ctx); err != nil {
		return err
	}
	sets := d.Lock.combinations()
	for i, c := range sets {
		st.Progress(0, 0, c.what)
		args := append([]string{"apt-get", "-q", "--simulate", "install"}, baseArgs()...)
		if _, err := root.output(ctx, fmt.Sprintf("simulating %s (%d of %d)", c.what, i+1, len(sets)), append(args, c.names...)...); err != nil {
			return err
		}
	}
	st.Done(fmt.Sprintf("%d combinations of profile and kernel install from it alone", len(sets)))
	return nil
}

// combination is a set of packages that must install together.
type combination struct {
	what  string
	names []string
}

// combinations lists what must install: each profile on each kernel, bare and
// with each optional set, and with all extra packages.
func (l *Lock) combinations() []combination {
	flavours := []string{}
	for _, k := range l.Kernels {
		flavours = append(flavours, k.Flavour)
	}
	if len(flavours) == 0 {
		flavours = []string{""}
	}
	var out []combination
	add := func(profile, flavour, with string, names []string) {
		what := []string{"profile " + profile}
		if flavour != "" {
			what = append(what, "kernel "+flavour)
		}
		if with != "" {
			what = append(what, "with "+with)
		}
		out = append(out, combination{strings.Join(what, ", "), names})
	}
	for _, profile := range l.ProfileNames() {
		for _, flavour := range flavours {
			names, err := l.Install(profile, flavour)
			if err != nil {
				continue // both names come from the lock itself
			}
			add(profile, flavour, "", names)
			for _, o := range sortedKeys(l.Optional) {
				if more, err := l.Install(profile, flavour, o); err == nil {
					add(profile, flavour, o, more)
				}
			}
			if len(l.Extra) > 0 {
				add(profile, flavour, "the extra packages", append(names, l.Extra...))
			}
		}
	}
	return out
}

// exists tells whether name is there at all.
func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}
