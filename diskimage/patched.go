package diskimage

import (
	"io"
	"slices"
)

// maxPatchedSize bounds a patchedFile: far beyond what any format here allows.
const maxPatchedSize = 1 << 50

// patchedFile is a file with changes laid over it in memory.
type patchedFile struct {
	r       io.ReaderAt
	stored  int64       // bytes in r
	size    int64       // with the changes; what is not in r reads as zeros
	patches []filePatch // sorted and apart
}

// filePatch is what a part of the file holds now.
type filePatch struct {
	start, end int64
	data       []byte // nil for zeros
}

// cut returns the part of the patch in [start, end).
func (p filePatch) cut(start, end int64) filePatch {
	if p.data != nil {
		p.data = p.data[start-p.start : end-p.start]
	}
	p.start, p.end = start, end
	return p
}

// paint lays p over what is there.
func (f *patchedFile) paint(p filePatch) {
	if p.start >= p.end {
		return
	}
	from, to := f.touched(p.start, p.end)
	replaced := make([]filePatch, 0, 3)
	if from < to && f.patches[from].start < p.start {
		replaced = append(replaced, f.patches[from].cut(f.patches[from].start, p.start))
	}
	replaced = append(replaced, p)
	if from < to && f.patches[to-1].end > p.end {
		replaced = append(replaced, f.patches[to-1].cut(p.end, f.patches[to-1].end))
	}
	f.patches = slices.Replace(f.patches, from, to, replaced...)
	f.size = max(f.size, p.end)
}

// touched returns the range of the patches that share bytes with [start, end).
func (f *patchedFile) touched(start, end int64) (from, to int) {
	byEnd := func(p filePatch, at int64) int {
		if p.end <= at {
			return -1
		}
		return 1
	}
	from, _ = slices.BinarySearchFunc(f.patches, start, byEnd)
	for to = from; to < len(f.patches) && f.patches[to].start < end; {
		to++
	}
	return from, to
}

// ReadAt implements io.ReaderAt.
func (f *patchedFile) ReadAt(p []byte, off int64) (int, error) {
	n := int(min(int64(len(p)), max(0, f.size-off)))
	inFile := int(min(int64(n), max(0, f.stored-off)))
	if err := readFull(f.r, p[:inFile], off); err != nil {
		return 0, err
	}
	clear(p[inFile:n])
	end := off + int64(n)
	from, to := f.touched(off, end)
	for _, x := range f.patches[from:to] {
		x = x.cut(max(x.start, off), min(x.end, end))
		dst := p[x.start-off : x.end-off]
		if clear(dst); x.data != nil {
			copy(dst, x.data)
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
