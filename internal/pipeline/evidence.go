package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/kldload/kldload/internal/darksite"
	"github.com/kldload/kldload/internal/evidence"
	"github.com/kldload/kldload/internal/export"
	"github.com/kldload/kldload/internal/sbom"
	"github.com/kldload/kldload/internal/ui"
	"github.com/kldload/kldload/internal/volume"
)

// Names of the evidence beside an image.
const (
	spdxSuffix      = ".spdx.json"
	cycloneDXSuffix = ".cdx.json"
	publicSuffix    = ".pub"
)

// openKey reads the key that signs, so that a wrong one costs no build. The
// user's own is made when it is needed.
func (b *build) openKey() (err error) {
	name := orDefault(b.opts.SignKey, b.src.SignKey)
	if name == "" {
		if name, err = evidence.DefaultKeyPath(); err != nil {
			return fmt.Errorf("%w\nhint: --sign-key FILE names a key", err)
		}
		if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	b.key, err = evidence.Load(name)
	return err
}

// evidence writes, for each image in each output folder, the bills of
// materials of what is on the finished disk and the provenance, signed.
func (b *build) evidence(ctx context.Context, s *ui.Stage) (outcome, error) {
	if b.key == nil {
		key, name, made, err := evidence.Own()
		if err != nil {
			return outcome{}, err
		}
		if b.key = key; made {
			s.Log("made your signing key " + name + ": give others kldload key public, keep a copy offline")
		}
	}
	s.Progress(0, 0, "reading the package database of the image")
	inv, err := b.inventory()
	if err != nil {
		return outcome{}, fmt.Errorf("listing the packages of the image: %w", err)
	}
	git := commit(ctx, b.opts.TemplateDir)
	for _, g := range b.groups() {
		if err := b.writeEvidence(g, inv, git); err != nil {
			return outcome{}, err
		}
	}
	b.result.SignedBy = b.key.Public.Fingerprint()
	return outcome{detail: fmt.Sprintf("%d packages in SPDX and CycloneDX · provenance · signed by %s", len(inv.Packages), short(b.result.SignedBy))}, nil
}

// inventory reads the disk that all formats were written from: what ships.
func (b *build) inventory() (*sbom.Inventory, error) {
	f, err := os.Open(b.raw)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	d, err := volume.Open(f, b.src.DiskSize)
	if err != nil {
		return nil, err
	}
	root, err := d.Root()
	if err != nil {
		return nil, err
	}
	inv, err := sbom.Read(root)
	if err != nil {
		return nil, err
	}
	inv.SetDigests(packageFiles(b.site.Lock))
	return inv, nil
}

func packageFiles(l *darksite.Lock) []sbom.PackageFile {
	files := make([]sbom.PackageFile, 0, len(l.Packages))
	for _, p := range l.Packages {
		files = append(files, sbom.PackageFile{Name: p.Name, Version: p.Version, Architecture: p.Architecture, SHA256: p.SHA256, File: filepath.Base(p.Filename)})
	}
	return files
}

// group is the artifacts of one name in one folder: one image.
type group struct {
	path string // without an extension
	arts []*Artifact
}

func (b *build) groups() []group {
	var all []group
	at := map[string]int{}
	for _, a := range b.artifacts() {
		path := filepath.Join(filepath.Dir(a.Path), a.name)
		i, ok := at[path]
		if !ok {
			i, at[path] = len(all), len(all)
			all = append(all, group{path: path})
		}
		all[i].arts = append(all[i].arts, a)
	}
	return all
}

// writeEvidence writes the files of one image.
func (b *build) writeEvidence(g group, inv *sbom.Inventory, git *evidence.Git) error {
	doc := sbom.Document{Name: filepath.Base(g.path), Version: b.opts.Version, Created: b.epoch}
	p := b.provenance(git)
	for _, a := range g.arts {
		doc.Artifacts = append(doc.Artifacts, sbom.Artifact{Name: filepath.Base(a.Path), SHA256: a.SHA256})
		p.Subjects = append(p.Subjects, evidence.File(filepath.Base(a.Path), a.SHA256))
		p.Formats = append(p.Formats, a.Format)
	}
	spdx, errA := inv.SPDX(doc)
	cdx, errB := inv.CycloneDX(doc)
	errC := errors.Join(b.putBeside(g.path+spdxSuffix, spdx), b.putBeside(g.path+cycloneDXSuffix, cdx))
	if err := errors.Join(errA, errB, errC); err != nil {
		return err
	}
	for _, suffix := range []string{spdxSuffix, cycloneDXSuffix, export.ManifestSuffix} {
		sum, err := b.signBeside(g.path + suffix)
		if err != nil {
			return err
		}
		p.Subjects = append(p.Subjects, evidence.File(filepath.Base(g.path)+suffix, sum))
	}
	for _, a := range g.arts {
		if _, err := b.signBeside(a.Path + export.ChecksumSuffix); err != nil {
			return err
		}
	}
	statement, err := evidence.Provenance(p)
	if err != nil {
		return err
	}
	line, err := b.key.SignStatement(statement)
	if err != nil {
		return err
	}
	return errors.Join(b.putBeside(g.path+evidence.EnvelopeSuffix, line), b.putBeside(g.path+publicSuffix, b.key.Public.PEM()))
}

// signBeside signs a file of an output folder and gives its digest.
func (b *build) signBeside(name string) (string, error) {
	at, _ := b.staged(name)
	signature, err := b.key.SignFile(at)
	if err == nil {
		err = b.putBeside(name+evidence.SignatureSuffix, signature)
	}
	if err != nil {
		return "", fmt.Errorf("signing %q: %w", name, err)
	}
	return evidence.Digest(at)
}

// signTexts adds a signature for each of the files that publish writes.
func (b *build) signTexts(texts map[string][]byte) {
	signatures := map[string][]byte{}
	for name, text := range texts {
		signatures[name+evidence.SignatureSuffix] = b.key.Sign(text)
	}
	for name, signature := range signatures {
		texts[name] = signature
	}
}

// provenance is what is the same for all images of a build.
func (b *build) provenance(git *evidence.Git) evidence.Build {
	var inputs []evidence.Input
	for _, in := range b.opts.Files {
		inputs = append(inputs, evidence.Input{Path: in.Path, Role: in.Role, SHA256: in.SHA256})
	}
	return evidence.Build{
		Name: b.spec.ID(), Variables: b.opts.Inputs, Epoch: b.epoch.Unix(), Inputs: append(inputs, b.inputs...),
		Darksite: b.site.Digest(), Git: git, Version: b.opts.Version,
	}
}
