package export

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kldload/kldload/diskimage"
)

// Image is one output on its way.
type Image struct {
	Choice *Choice
	// File is open for reading and writing. What it holds is dropped.
	File *os.File
	// Path is the name the file will have.
	Path string
}

// WriteOptions are the options of Write.
type WriteOptions struct {
	Jobs int // see diskimage.WriteOptions
	// Timestamp is put where a format stores the time of its making; zero
	// leaves the epoch there.
	Timestamp time.Time
	NoDigest  bool
	Progress  func(done, total int64)
}

// Output describes a finished image. Size is that of the file, VirtualSize
// that of the disk in it, in bytes: some formats round it up.
type Output struct {
	File        string            `json:"file"` // without a folder
	Path        string            `json:"path,omitempty"`
	Format      diskimage.Format  `json:"format"`
	Subformat   string            `json:"subformat,omitempty"`
	Options     map[string]string `json:"options,omitempty"` // as they were set
	Size        int64             `json:"size"`
	VirtualSize int64             `json:"virtual_size"`
	SHA256      string            `json:"sha256,omitempty"` // in hex
}

// Write reads d once and writes all images, to their files as they are open:
// giving those their names is the caller's. The files are synced. After an
// error they hold unusable parts of images.
func Write(ctx context.Context, d diskimage.Disk, images []Image, o WriteOptions) (outs []Output, err error) {
	var sinks []diskimage.Sink
	for _, img := range images {
		s := &surroundings{path: img.Path, outputs: paths(images), temp: filepath.Dir(img.File.Name()), timestamp: o.Timestamp, noDigest: o.NoDigest}
		sink, openErr := img.Choice.sink.sink(img.File, s)
		if openErr != nil {
			return nil, fmt.Errorf("writing %q: %w", img.Path, openErr)
		}
		defer func() {
			for _, c := range s.close {
				err = errors.Join(err, c())
			}
		}()
		sinks = append(sinks, sink)
	}
	results, err := diskimage.Write(ctx, d, diskimage.WriteOptions{Jobs: o.Jobs, Progress: o.Progress}, sinks...)
	if err != nil {
		return nil, fmt.Errorf("writing %s: %w", formatList(images), err)
	}
	for i, img := range images {
		if err := img.File.Sync(); err != nil {
			return nil, fmt.Errorf("writing %q: %w", img.Path, err)
		}
		out, err := describe(img, d.Size(), results[i])
		if err != nil {
			return nil, fmt.Errorf("reading back %q: %w", img.Path, err)
		}
		outs = append(outs, out)
	}
	return outs, nil
}

// describe takes what only the finished image tells from its header.
func describe(img Image, size int64, r diskimage.Result) (Output, error) {
	out := Output{File: filepath.Base(img.Path), Path: img.Path, Format: img.Choice.Format(), Options: img.Choice.Options(), Size: r.Size, SHA256: r.SHA256}
	if n := img.Choice.f.rounding; n > 0 {
		out.VirtualSize = max(1, (size+n-1)/n) * n
		return out, nil
	}
	f, err := diskimage.Open(descriptorPath(img.File), diskimage.OpenOptions{Format: out.Format, NoBacking: true})
	if err != nil {
		return out, err
	}
	info := f.Info()
	out.Subformat, out.VirtualSize = info.Subformat, info.VirtualSize
	return out, f.Close()
}

// descriptorPath is a name of an open file that needs no other (proc(5)).
func descriptorPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

func paths(images []Image) []string {
	var all []string
	for _, img := range images {
		all = append(all, img.Path)
	}
	return all
}

func formatList(images []Image) string {
	var names []string
	for _, img := range images {
		names = append(names, string(img.Choice.Format()))
	}
	return strings.Join(names, ", ")
}

// stem is a file's name without its folder and, when that is one of a format,
// its extension.
func stem(path string) string {
	base := filepath.Base(path)
	for _, f := range formats() {
		if cut, ok := strings.CutSuffix(base, f.extension); ok && cut != "" {
			return cut
		}
	}
	if cut, ok := strings.CutSuffix(base, ".img"); ok && cut != "" {
		return cut
	}
	return base
}
