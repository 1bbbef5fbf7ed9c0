package fat

import (
	"fmt"
	"io/fs"
)

// What the bytes are that [FS.Unused] and [FS.Slack] go over.
const (
	FreeSpace = "free space"      // clusters of no file
	Reserved  = "reserved space"  // sectors in front of the allocation tables, and what is behind the last cluster
	FileTail  = "slack"           // of a file's last cluster
	DirSlack  = "directory slack" // entries that were deleted, and those behind the last one
)

// Unused goes over the bytes of the volume that belong to no file: reserved sectors,
// the boot sector's own among them, free clusters, and what is behind the last one.
// off and size are bytes of the volume. An error of yield ends it and is
// returned.
func (f *FS) Unused(yield func(kind string, off, size int64) error) error {
	g := &f.g
	if err := yield(Reserved, 0, g.reserved*g.sector); err != nil {
		return err
	}
	start, at := uint32(0), uint32(2) // a run of free clusters up to at; 0 is none
	flush := func() error {
		if start == 0 {
			return nil
		}
		from := g.clusterOffset(start)
		start = 0
		return yield(FreeSpace, from, g.clusterOffset(at)-from)
	}
	walk := f.walkChain()
	for ; int64(at) < g.clusters+2; at++ {
		v, err := walk.entry(at)
		if err != nil {
			return fmt.Errorf("reading FAT free space: %w", err)
		}
		switch {
		case v == 0 && start == 0:
			start = at
		case v != 0:
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	if end, last := g.sectors*g.sector, g.clusterOffset(at); last < end {
		return yield(Reserved, last, end-last)
	}
	return nil
}

// Slack goes over the bytes that a file or directory occupies beyond its content:
// the rest of its last cluster, entries of files that were deleted. off and size are bytes
// of the volume. An error of yield ends it and is returned.
func (f *FS) Slack(name string, yield func(kind string, off, size int64) error) error {
	e, err := f.find("finding the slack of", name)
	if err != nil {
		return err
	}
	if e.dir {
		err = f.dirSlack(e, yield)
	} else {
		err = f.fileSlack(e, yield)
	}
	if err != nil {
		return &fs.PathError{Op: "finding the slack of", Path: name, Err: err}
	}
	return nil
}

func (f *FS) fileSlack(e *entry, yield func(kind string, off, size int64) error) error {
	x, err := f.chain(e)
	if err != nil || len(x.runs) == 0 {
		return err
	}
	last := x.runs[len(x.runs)-1]
	if used := x.size - last.at; used < last.length {
		return yield(FileTail, last.to+used, last.length-used)
	}
	return nil
}

// dirSlack goes over the entries that are not in use. Two kinds of them tell of
// themselves: 0xE5 is deleted, 0 is the end (MS "FAT Directory Structure").
func (f *FS) dirSlack(e *entry, yield func(kind string, off, size int64) error) error {
	s := scanner{FS: f, seen: map[uint32]bool{}}
	b, place, err := s.content(e)
	if err != nil {
		return err
	}
	var from, to int64
	end := false
	for i := 0; i+entrySize <= len(b); i += entrySize {
		end = end || b[i] == 0
		if !end && b[i] != 0xE5 {
			continue
		}
		if at := place(i); at == to {
			to += entrySize
			continue
		}
		if to > from {
			if err := yield(DirSlack, from, to-from); err != nil {
				return err
			}
		}
		from, to = place(i), place(i)+entrySize
	}
	if from == to {
		return nil
	}
	return yield(DirSlack, from, to-from)
}
