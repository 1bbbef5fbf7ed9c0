package repack

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/kldload/kldload/internal/seal"
	"github.com/kldload/kldload/internal/tree"
)

// ahead is how many files are read before they are written.
const ahead = 16

// item is a file on its way from one file system to another.
type item struct {
	*tree.Entry
	body    io.Reader // of regular files that are no link
	noHoles bool
}

// sink takes files, parents before children.
type sink interface {
	create(it *item) error
	Link(name, target string) error
}

// copyTree writes the sealed tree. Files are read by goroutines ahead of the
// writer, in a fixed order.
func (j *job) copyTree(t *fileTree, to sink) (stats VolumeStats, err error) {
	ctx, cancel := context.WithCancel(j.ctx)
	defer cancel()
	w := &walker{ctx: ctx, tree: t, items: make(chan *item, ahead), names: map[uint64]string{}}
	walked := make(chan error, 1)
	go func() {
		defer close(w.items)
		walked <- w.dir(".")
	}()
	for it := range w.items {
		stats.Files++
		if it.HardLink != "" {
			err = to.Link(it.Path, it.HardLink)
		} else {
			stats.Bytes += it.Size
			j.done += it.Size
			j.stage.Progress(j.done, 0, t.outside(it.Path))
			err = to.create(it)
		}
		if err != nil {
			cancel()
			for range w.items { // until the walker has seen it
			}
			return stats, fmt.Errorf("%s: %w", t.name, err)
		}
	}
	if err := <-walked; err != nil {
		return stats, fmt.Errorf("%s: %w", t.name, err)
	}
	return stats, nil
}

// walker reads a tree.
type walker struct {
	ctx   context.Context
	tree  *fileTree
	items chan *item
	names map[uint64]string // the first of a file with several
}

func (w *walker) send(it *item) error {
	select {
	case w.items <- it:
		return nil
	case <-w.ctx.Done():
		return context.Cause(w.ctx)
	}
}

// dir sends a folder that exists and what is below it.
func (w *walker) dir(name string) error {
	e, _, _, err := w.tree.files.entry(name)
	if err != nil {
		return err
	}
	e.Size = 0
	if err := w.send(&item{Entry: e}); err != nil {
		return err
	}
	list, err := w.tree.files.ReadDir(name)
	if err != nil {
		return err
	}
	return w.children(name, list)
}

// children sends what a folder has and what the seal puts there.
func (w *walker) children(dir string, list []fs.DirEntry) error {
	have := map[string]fs.DirEntry{}
	names := w.tree.newNames(dir)
	for _, e := range list {
		have[e.Name()] = e
		names = append(names, e.Name())
	}
	slices.Sort(names)
	for _, base := range slices.Compact(names) {
		name := path.Join(dir, base)
		var err error
		if f, ok := w.tree.writes[name]; ok {
			err = w.sealed(name, f)
		} else if !w.tree.removes(w.tree.outside(name)) {
			err = w.file(name, have[base].IsDir())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sealed sends what the seal writes.
func (w *walker) sealed(name string, f seal.File) error {
	e := &tree.Entry{Mode: unix.S_IFREG | uint32(f.Mode.Perm()), UID: f.UID, GID: f.GID}
	if f.Edit { // owner, mode and attributes stay
		var err error
		if e, _, _, err = w.tree.files.entry(name); err != nil {
			return err
		}
	}
	e.Path, e.Size = name, int64(len(f.Content))
	e.ModTime, e.AccessTime, e.ChangeTime = zeroTime, zeroTime, zeroTime
	if !f.Mode.IsDir() {
		return w.send(&item{Entry: e, body: bytes.NewReader([]byte(f.Content))})
	}
	e.Mode = unix.S_IFDIR | uint32(f.Mode.Perm())
	if err := w.send(&item{Entry: e}); err != nil {
		return err
	}
	return w.children(name, nil)
}

// file sends a file that exists.
func (w *walker) file(name string, isDir bool) error {
	if isDir {
		return w.dir(name)
	}
	e, id, links, err := w.tree.files.entry(name)
	if err != nil {
		return err
	}
	if links > 1 {
		if first := w.names[id]; first != "" {
			e.HardLink = first
			return w.send(&item{Entry: e})
		}
		w.names[id] = name
	}
	it := &item{Entry: e}
	if e.Mode&unix.S_IFMT != unix.S_IFREG {
		e.Size = 0
		return w.send(it)
	}
	content, err := w.tree.files.content(name)
	if err != nil {
		return err
	}
	if fresh, err := freshSwapFile(e, content); err != nil {
		return fmt.Errorf("%q: %w", name, err)
	} else if fresh != nil {
		content, it.noHoles = fresh, true
	}
	if it.body, err = readAhead(w.ctx, content, e.Size); err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	return w.send(it)
}
