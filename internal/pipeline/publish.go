package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kldload/kldload/internal/atomicfile"
	"github.com/kldload/kldload/internal/export"
	"github.com/kldload/kldload/internal/template"
	"github.com/kldload/kldload/internal/ui"
)

// place is one output folder: filled under another name beside it, then
// renamed whole.
type place struct {
	final   string
	staging string
	arts    []*Artifact
}

// planOutputs settles where everything goes and refuses, before any work,
// what could not be put there.
func (b *build) planOutputs() error {
	for _, chain := range b.spec.PostProcessors {
		for _, p := range chain {
			if p.Kexport != nil {
				if err := b.plan(*p.Kexport); err != nil {
					return fmt.Errorf("post-processor %q: %w", p.Type, err)
				}
			}
		}
	}
	if len(b.places) == 0 {
		if err := b.plan(template.Kexport{Formats: []string{"raw"}}); err != nil {
			return err
		}
	}
	if err := b.apart(); err != nil {
		return err
	}
	for _, p := range b.places {
		if err := b.checkPlace(p); err != nil {
			return errors.Join(err, b.dropPlaces())
		}
	}
	return nil
}

// plan adds what one kexport asks for.
func (b *build) plan(k template.Kexport) error {
	dir := filepath.Clean(orDefault(k.OutputDirectory, b.src.OutputDirectory))
	choices, err := export.Choose(k.Formats)
	if err != nil {
		return err
	}
	for _, s := range k.Settings {
		if err := export.Set(choices, s); err != nil {
			return err
		}
	}
	p, name := b.place(dir), orDefault(k.VMName, b.src.VMName)
	for _, c := range choices {
		path := filepath.Join(dir, name+c.Extension())
		have := p.find(path)
		switch {
		case have == nil:
			p.arts = append(p.arts, &Artifact{Format: string(c.Format()), Path: path, name: name, choice: c})
		case !maps.Equal(have.choice.Options(), c.Options()):
			return fmt.Errorf("another one writes %q with other settings\nhint: give one of them its own vm_name or output_directory", path)
		}
	}
	return nil
}

// place gives the output folder dir.
func (b *build) place(dir string) *place {
	for _, have := range b.places {
		if absolute(have.final) == absolute(dir) {
			return have
		}
	}
	p := &place{final: dir}
	b.places = append(b.places, p)
	return p
}

// apart refuses an output folder inside another: each appears in one step.
func (b *build) apart() error {
	for _, p := range b.places {
		for _, q := range b.places {
			if _, in := below(p.final, q.final); in && p != q {
				return fmt.Errorf("output folder %q is inside output folder %q: want them apart", q.final, p.final)
			}
		}
	}
	return nil
}

// below gives path relative to dir when it is dir or inside of it.
func below(dir, path string) (string, bool) {
	rel, err := filepath.Rel(absolute(dir), absolute(path))
	return rel, err == nil && filepath.IsLocal(rel)
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return filepath.Clean(path)
}

func (p *place) find(path string) *Artifact {
	for _, a := range p.arts {
		if a.Path == path {
			return a
		}
	}
	return nil
}

func (b *build) checkPlace(p *place) error {
	st, err := os.Lstat(p.final)
	switch {
	case err == nil && !st.IsDir():
		return fmt.Errorf("output folder %q: there is a file of that name", p.final)
	case err == nil && !b.opts.Force:
		return fmt.Errorf("output folder %q exists\nhint: -force replaces it when the build is good; until then it stays", p.final)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	parent := filepath.Dir(p.final)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return fmt.Errorf("output folder %q: %w", p.final, err)
	}
	if err := sweepStaging(p.final); err != nil {
		return err
	}
	p.staging, err = os.MkdirTemp(parent, "."+filepath.Base(p.final)+stagingInfix+fmt.Sprint(os.Getpid())+"-*")
	if err != nil {
		return fmt.Errorf("output folder %q: %w", p.final, err)
	}
	for _, a := range p.arts {
		a.staged = filepath.Join(p.staging, filepath.Base(a.Path))
	}
	return os.Chmod(p.staging, 0o755)
}

// stagingInfix and the owner's process id are in a staging folder's name.
const stagingInfix = ".partial-"

// sweepStaging removes what killed builds left beside an output folder.
func sweepStaging(final string) error {
	prefix := filepath.Join(filepath.Dir(final), "."+filepath.Base(final)+stagingInfix)
	left, err := filepath.Glob(globQuote(prefix) + "*")
	if err != nil {
		return err
	}
	for _, dir := range left {
		pid, _, _ := strings.Cut(strings.TrimPrefix(dir, prefix), "-")
		if _, err := os.Stat("/proc/" + pid); err == nil {
			continue // its owner lives
		}
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("removing what a killed build left: %w", err)
		}
	}
	return nil
}

func globQuote(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}

// artifacts lists every artifact in order.
func (b *build) artifacts() []*Artifact {
	var out []*Artifact
	for _, p := range b.places {
		out = append(out, p.arts...)
	}
	return out
}

// staged is where a path under an output folder lies for now.
func (b *build) staged(path string) (string, bool) {
	for _, p := range b.places {
		if rel, in := below(p.final, path); in {
			return filepath.Join(p.staging, rel), true
		}
	}
	return path, false
}

// publish runs the post-processors that describe the artifacts, then gives
// everything its final name.
func (b *build) publish(context.Context, *ui.Stage) (outcome, error) {
	if err := os.Remove(b.raw); err != nil {
		return outcome{}, err
	}
	files, err := b.describe()
	if err != nil {
		return outcome{}, err
	}
	for _, p := range b.places {
		if err := p.rename(b.opts.Force); err != nil {
			return outcome{}, err
		}
	}
	for name, text := range files { // those outside of the output folders
		if err := atomicfile.WriteFile(name, text, 0o644); err != nil {
			return outcome{}, err
		}
	}
	b.result.Artifacts = b.artifacts()
	var dirs []string
	for _, p := range b.places {
		dirs = append(dirs, p.final)
	}
	return outcome{detail: fmt.Sprintf("%s  images %d, files beside %d", strings.Join(dirs, ", "), len(b.artifacts()), len(b.result.Files))}, nil
}

// rename makes a place visible, in one step even where it replaces another.
func (p *place) rename(replace bool) error {
	err := atomicfile.SyncDir(p.staging)
	if err == nil {
		// An empty folder is replaced; one with anything in it is not.
		err = os.Rename(p.staging, p.final)
	}
	if replace && (errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTEMPTY)) {
		err = p.swap()
	}
	if err != nil {
		return fmt.Errorf("publishing %q: %w", p.final, err)
	}
	p.staging = ""
	return atomicfile.SyncDir(filepath.Dir(p.final))
}

// swap exchanges the old folder and the new one, then removes the old. Where
// the file system cannot exchange, the old one is out of its name for a moment.
func (p *place) swap() error {
	err := unix.Renameat2(unix.AT_FDCWD, p.staging, unix.AT_FDCWD, p.final, unix.RENAME_EXCHANGE)
	if err == nil {
		return os.RemoveAll(p.staging)
	}
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	old := p.staging + ".old"
	if err := os.Rename(p.final, old); err != nil {
		return err
	}
	if err := os.Rename(p.staging, p.final); err != nil {
		return errors.Join(err, os.Rename(old, p.final))
	}
	return os.RemoveAll(old)
}

// dropPlaces removes what was not published.
func (b *build) dropPlaces() error {
	var errs []error
	for _, p := range b.places {
		if p.staging != "" {
			errs = append(errs, os.RemoveAll(p.staging))
		}
	}
	return errors.Join(errs...)
}
