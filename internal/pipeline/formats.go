package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/kldload/kldload/diskimage"
	"github.com/kldload/kldload/internal/export"
	"github.com/kldload/kldload/internal/ui"
)

// formats writes every artifact in one pass over the disk, and beside them
// what kexport convert writes, too.
func (b *build) formats(ctx context.Context, s *ui.Stage) (outcome, error) {
	src, err := os.Open(b.raw)
	if err != nil {
		return outcome{}, err
	}
	defer src.Close()
	raw, err := diskimage.OpenRaw(src)
	if err != nil {
		return outcome{}, err
	}
	outs, err := b.writeFormats(ctx, raw, s)
	if err != nil {
		return outcome{}, err
	}
	var parts []string
	for i, a := range b.artifacts() {
		a.Size, a.SHA256 = outs[i].Size, outs[i].SHA256
		parts = append(parts, a.Format+" "+ui.Bytes(a.Size))
	}
	return outcome{detail: strings.Join(parts, " · ")}, b.beside(raw.Size(), outs)
}

func (b *build) writeFormats(ctx context.Context, d diskimage.Disk, s *ui.Stage) (outs []export.Output, err error) {
	var images []export.Image
	for _, a := range b.artifacts() {
		f, err := os.OpenFile(a.staged, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
		if err != nil {
			return nil, fmt.Errorf("creating %s: %w", a.Path, err)
		}
		defer f.Close()
		images = append(images, export.Image{Choice: a.choice, File: f, Path: a.Path})
	}
	return export.Write(ctx, d, images, export.WriteOptions{
		Timestamp: b.epoch,
		Progress:  func(done, total int64) { s.Progress(done, total, "") },
	})
}

// beside writes the checksum file of each artifact, and a manifest for those
// of one name in one folder.
func (b *build) beside(size int64, outs []export.Output) error {
	in := export.Input{Format: diskimage.Raw, Size: size, VirtualSize: size}
	described := map[string][]export.Output{}
	for i, a := range b.artifacts() {
		name := filepath.Join(filepath.Dir(a.Path), a.name) + export.ManifestSuffix
		described[name] = append(described[name], outs[i])
		if err := b.putBeside(a.Path+export.ChecksumSuffix, outs[i].Checksum()); err != nil {
			return err
		}
	}
	for name, outs := range described {
		text, err := export.MarshalManifest(in, outs)
		if err = errors.Join(err, b.putBeside(name, text)); err != nil {
			return err
		}
	}
	return nil
}

// putBeside writes a file that will be called name in an output folder.
func (b *build) putBeside(name string, text []byte) error {
	at, _ := b.staged(name)
	b.result.Files = append(b.result.Files, name)
	return os.WriteFile(at, text, 0o644)
}
