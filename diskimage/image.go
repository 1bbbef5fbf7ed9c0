package diskimage

import (
	"context"
	"fmt"
	"os"
)

// Image is a Disk that knows the file it is stored in.
type Image interface {
	Disk

	// Info describes the image from its header; it reads nothing.
	Info() Info
}

// Info describes an image file.
type Info struct {
	Format Format `json:"format"`
	// Subformat is the variant as its users call it ("streamOptimized",
	// "dynamic"); empty where a format has one only.
	Subformat string `json:"subformat,omitempty"`
	// VirtualSize is the guest-visible size in bytes.
	VirtualSize int64 `json:"virtual_size"`
	// FileSize is the length of the file in bytes, Allocated what it takes
	// on its file system; both are set by Open.
	FileSize  int64 `json:"file_size"`
	Allocated int64 `json:"allocated"`
	// BlockSize is the unit of allocation in bytes (cluster, grain, block).
	BlockSize int64 `json:"block_size,omitempty"`
	// Compression is how data may be packed ("deflate", "zstd"), or empty.
	Compression string `json:"compression,omitempty"`
	// Backing is the file below this one, as the header names it.
	Backing string `json:"backing,omitempty"`
	// Details are the format's own fields, in the order to show them.
	Details []Detail `json:"details,omitempty"`
}

// Detail is a field of a header: a name in lower case and its value as text.
type Detail struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Problem is something in an image that contradicts its format.
type Problem struct {
	Structure string `json:"structure"` // for example "L2 table"
	Offset    int64  `json:"offset"`    // in the file, in bytes
	Text      string `json:"text"`
}

func (p Problem) String() string {
	return fmt.Sprintf("%s at offset %#x: %s", p.Structure, p.Offset, p.Text)
}

// maxProblems bounds what a CheckResult keeps; further ones are counted.
const maxProblems = 100

// CheckResult is what Check found.
type CheckResult struct {
	// Problems are the first 100 found, in the order of the walk.
	Problems []Problem `json:"problems"`
	// Errors counts all that were found.
	Errors int64 `json:"errors"`
	// Leaked counts bytes of the file that are marked used and belong to
	// nothing: harmless, but wasted.
	Leaked int64 `json:"leaked"`
	// Used counts the bytes of the disk that have a place in the file.
	Used int64 `json:"used"`
	// NoStructure tells that the format (raw) has nothing to check.
	NoStructure bool `json:"no_structure,omitempty"`
}

// OK tells whether nothing is wrong; leaks are not.
func (r *CheckResult) OK() bool { return r.Errors == 0 }

// add notes a problem.
func (r *CheckResult) add(structure string, offset int64, format string, args ...any) {
	r.Errors++
	if len(r.Problems) < maxProblems {
		r.Problems = append(r.Problems, Problem{structure, offset, fmt.Sprintf(format, args...)})
	}
}

// checker is an Image whose structures can be checked. Check walks all of
// them, data included where it carries a checksum or is compressed, and goes
// on after what it finds. An error means that it could not finish; progress,
// when not nil, is told bytes of the file or disk done and in all.
type checker interface {
	Check(ctx context.Context, progress func(done, total int64)) (CheckResult, error)
}

// File is an open image: an Image and the files it holds.
type File struct {
	Image
	close []func() error
	stat  os.FileInfo
}

// Close closes the files.
func (f *File) Close() error { return closeAll(f.close) }

// Info implements Image and adds what the file system knows.
func (f *File) Info() Info {
	i := f.Image.Info()
	i.FileSize, i.Allocated = f.stat.Size(), allocated(f.stat)
	if f.stat.Mode()&os.ModeDevice != 0 {
		i.FileSize, i.Allocated = i.VirtualSize, i.VirtualSize
	}
	return i
}

// Check checks every structure of the image, and data where it is compressed
// or carries a checksum. What is wrong is in the result; an error means that
// the check could not be finished. progress may be nil.
func (f *File) Check(ctx context.Context, progress func(done, total int64)) (CheckResult, error) {
	c, ok := f.Image.(checker)
	if !ok {
		return CheckResult{NoStructure: true, Problems: []Problem{}}, nil
	}
	r, err := c.Check(ctx, progress)
	if r.Problems == nil {
		r.Problems = []Problem{}
	}
	return r, err
}
