package export

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/kldload/kldload/internal/atomicfile"
)

// plan is what a request writes and where.
type plan struct {
	images   []Image
	dir      string   // of all files
	made     []string // folders that are ours to remove when nothing comes of it
	scratch  bool     // dir is temporary
	manifest string
	stdout   bool
	force    bool

	files     []*atomicfile.File // in the order of their publication
	paths     []string           // their names
	published int
	stream    *os.File
}

// plan settles all names and refuses what could not be written, before
// anything is read or made.
func (r *Request) plan() (*plan, error) {
	p := &plan{force: r.Force, dir: r.OutputDir}
	switch {
	case r.Output == "-":
		p.stdout = true
		p.images = []Image{{Choice: r.Choices[0], Path: r.name() + r.Choices[0].Extension()}}
		return p, nil
	case r.Output != "":
		p.dir = filepath.Dir(r.Output)
		p.images = []Image{{Choice: r.Choices[0], Path: r.Output}}
		p.manifest = r.Output + ManifestSuffix
	default:
		p.scratch = r.OutputDir == ""
		if p.scratch {
			p.dir = os.TempDir()
		}
		for _, c := range r.Choices {
			p.images = append(p.images, Image{Choice: c, Path: filepath.Join(p.dir, r.name()+c.Extension())})
		}
		p.manifest = filepath.Join(p.dir, r.name()+ManifestSuffix)
	}
	if p.scratch {
		return p, p.makeScratch()
	}
	for _, path := range p.all() {
		if err := p.checkPath(path); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// makeScratch puts the files of the plan into a folder of their own.
func (p *plan) makeScratch() error {
	dir, err := os.MkdirTemp("", "kexport-*")
	if err != nil {
		return err
	}
	p.dir = dir
	for i := range p.images {
		p.images[i].Path = filepath.Join(dir, filepath.Base(p.images[i].Path))
	}
	p.manifest = filepath.Join(dir, filepath.Base(p.manifest))
	return nil
}

// name is what the files are called, without an extension.
func (r *Request) name() string {
	if r.Name != "" {
		return r.Name
	}
	if r.Input == "-" {
		return "disk"
	}
	return stem(r.Input)
}

// inputName is what a manifest calls the input.
func (r *Request) inputName() string {
	if r.Input == "-" {
		return ""
	}
	return filepath.Base(r.Input)
}

func (r *Request) spoolDir() string {
	if r.Output != "" && r.Output != "-" {
		return filepath.Dir(r.Output)
	}
	if st, err := os.Stat(r.OutputDir); err == nil && st.IsDir() {
		return r.OutputDir
	}
	return os.TempDir()
}

// all lists every name the plan takes, checksum files included.
func (p *plan) all() []string {
	var paths []string
	for _, img := range p.images {
		paths = append(paths, img.Path, img.Path+ChecksumSuffix)
	}
	return append(paths, p.manifest)
}

func (p *plan) checkPath(path string) error {
	st, err := os.Stat(path)
	var at *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("output %q is a symbolic link to nothing", path)
		}
		return nil
	case errors.As(err, &at):
		return fmt.Errorf("output %q: %w", path, at.Err)
	case err != nil:
		return fmt.Errorf("output %q: %w", path, err)
	case st.IsDir():
		return fmt.Errorf("output %q is a folder\nhint: --output-dir puts files into it", path)
	case !st.Mode().IsRegular():
		return fmt.Errorf("output %q is not a file\nhint: write a raw image to a file, then copy it: dd of=%s bs=4M conv=sparse", path, path)
	case !p.force:
		return fmt.Errorf("output %q exists\nhint: --force replaces it when the new one is complete; until then it stays", path)
	}
	return nil
}

// open makes the folder and the temporary files of the images.
func (p *plan) open(in *input) error {
	if p.stdout {
		f, err := unnamed("")
		p.stream, p.images[0].File = f, f
		return err
	}
	for _, path := range p.all() {
		if in.is(path) {
			return fmt.Errorf("output %q is a file the input is made of", path)
		}
	}
	var err error
	if p.made, err = makeDirs(p.dir); err != nil {
		return err
	}
	for i := range p.images {
		f, err := p.create(p.images[i].Path)
		if err != nil {
			return err
		}
		p.images[i].File = f.File
	}
	return nil
}

// makeDirs is os.MkdirAll that tells which folders it made, outermost first.
func makeDirs(dir string) (made []string, err error) {
	err = os.Mkdir(dir, 0o755)
	if errors.Is(err, fs.ErrNotExist) && filepath.Dir(dir) != dir {
		if made, err = makeDirs(filepath.Dir(dir)); err != nil {
			return made, err
		}
		err = os.Mkdir(dir, 0o755)
	}
	if err == nil {
		return append(made, dir), nil
	}
	if st, statErr := os.Stat(dir); statErr == nil && st.IsDir() {
		return made, nil
	}
	return made, err
}

// create starts a file, in the place of what a killed run left of it.
func (p *plan) create(path string) (*atomicfile.File, error) {
	if err := atomicfile.Sweep(path); err != nil {
		return nil, fmt.Errorf("removing what a killed run left: %w", err)
	}
	f, err := atomicfile.Create(path, 0o644)
	if err != nil {
		return nil, err
	}
	p.files, p.paths = append(p.files, f), append(p.paths, path)
	return f, nil
}

// beside writes the checksum files and the manifest.
func (p *plan) beside(result *Result, noChecksum bool) error {
	text := map[string][]byte{}
	for _, o := range result.Outputs {
		if !noChecksum {
			text[o.Path+ChecksumSuffix] = o.Checksum()
			result.Files = append(result.Files, o.Path+ChecksumSuffix)
		}
	}
	var err error
	if text[p.manifest], err = MarshalManifest(result.Input, result.Outputs); err != nil {
		return err
	}
	result.Files = append(result.Files, p.manifest)
	for _, path := range result.Files {
		f, err := p.create(path)
		if err != nil {
			return err
		}
		if _, err := f.Write(text[path]); err != nil {
			return fmt.Errorf("writing %q: %w", path, err)
		}
	}
	return nil
}

// commit gives all files their names, the manifest last. When one cannot have
// it, those that have are taken back unless they replaced another.
func (p *plan) commit(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for i, f := range p.files {
		commit := f.CommitNew
		if p.force {
			commit = f.Commit
		}
		if err := commit(); err != nil {
			return p.takeBack(p.paths[:i], err)
		}
		p.published++
	}
	return nil
}

// takeBack removes what commit has published before it failed; what replaced
// another file is complete, and stays.
func (p *plan) takeBack(paths []string, err error) error {
	if p.force {
		return err
	}
	for _, path := range paths {
		err = errors.Join(err, os.Remove(path))
	}
	p.published = 0
	return err
}

// remove drops whatever was not published.
func (p *plan) remove() error {
	var errs []error
	for _, f := range p.files {
		errs = append(errs, f.Abort())
	}
	if p.stream != nil {
		errs = append(errs, p.stream.Close())
	}
	switch {
	case p.scratch:
		errs = append(errs, os.RemoveAll(p.dir))
	case p.published == 0:
		for _, dir := range slices.Backward(p.made) {
			_ = os.Remove(dir) // unless another process has put something there
		}
	}
	return errors.Join(errs...)
}
