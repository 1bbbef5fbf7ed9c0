package repack

import (
	"fmt"
	"io/fs"
	"path"
	"sort"
	"strings"
	"time"

	"github.com/kldload/kldload/internal/seal"
)

// planTrees plans the seal twice: of the system as a boot joins it, and of
// each tree alone in its place, for what lies below other mountpoints and in
// datasets that no boot mounts. The first also writes; the second only removes
// and edits.
func (j *job) planTrees() error {
	joined, err := seal.NewPlan(j.root, j.seal)
	if err != nil {
		return fmt.Errorf("the input: %w", err)
	}
	j.report.Seal = joined.Results
	for _, t := range j.trees {
		t.removes, t.writes = func(string) bool { return false }, map[string]seal.File{}
		if t.at == "" {
			if err := t.wantEmpty(); err != nil {
				return err
			}
			continue
		}
		alone, err := seal.NewPlan(placed{t.files, t.at}, j.seal)
		if err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		j.join(t, joined, alone)
	}
	return nil
}

// join merges both plans for a tree.
func (j *job) join(t *fileTree, joined, alone *seal.Plan) {
	t.removes = func(name string) bool { return alone.Removes(name) || t.joined && joined.Removes(name) }
	for _, f := range alone.Files() {
		if rel, ok := t.inside(f.Path); ok && f.Edit {
			t.writes[rel] = f
		}
	}
	seen := map[string]bool{}
	for _, r := range joined.Results {
		for _, name := range r.Changed {
			seen[name] = true
		}
	}
	for i, r := range alone.Results {
		for _, name := range r.Changed {
			if rel, ok := t.inside(name); ok && !(t.joined && seen[name]) && t.has(rel) {
				j.report.Seal[i].Changed = append(j.report.Seal[i].Changed, t.name+":"+rel)
			}
		}
	}
	if !t.joined {
		return
	}
	for _, f := range joined.Files() {
		if rel, ok := t.inside(f.Path); ok && j.owner(f.Path) == t {
			t.writes[rel] = f
		}
	}
}

// has tells whether a name exists in the tree.
func (t *fileTree) has(name string) bool {
	_, err := t.files.Lstat(name)
	return err == nil
}

// inside turns a name of the whole system into one of the tree.
func (t *fileTree) inside(name string) (string, bool) {
	switch {
	case t.at == ".":
		return name, true
	case name == t.at:
		return ".", true
	}
	return strings.CutPrefix(name, t.at+"/")
}

// outside is the reverse.
func (t *fileTree) outside(name string) string { return path.Join(t.at, name) }

// owner is the joined tree that a name of the whole system lies in.
func (j *job) owner(name string) *fileTree {
	var best *fileTree
	for _, t := range j.trees {
		if _, ok := t.inside(name); ok && t.joined && (best == nil || best.at == "." || len(t.at) > len(best.at)) {
			best = t
		}
	}
	return best
}

// wantEmpty refuses a tree that cannot be sealed, as nobody knows where its
// files would be, unless nothing is in it.
func (t *fileTree) wantEmpty() error {
	list, err := t.files.ReadDir(".")
	if err != nil {
		return fmt.Errorf("%s: %w", t.name, err)
	}
	for _, e := range list {
		if e.Name() != "lost+found" {
			hint := "name it in the machine's /etc/fstab, or take its files away"
			if t.dataset.Name != "" {
				hint = fmt.Sprintf("in the running machine, zfs set mountpoint=/PATH %s, or zfs destroy %s", t.dataset.Name, t.dataset.Name)
			}
			return fmt.Errorf("sealing %s: it holds %q and is mounted nowhere: want a mountpoint, which tells what its files are\nhint: %s", t.name, e.Name(), hint)
		}
	}
	return nil
}

// checkSeal asserts on the new disk's root that no item of the seal is broken,
// for disks that package verify does not get that far into.
func (j *job) checkSeal(opts seal.Options) error {
	fresh, err := j.reopen()
	if err != nil {
		return err
	}
	plan, err := seal.NewPlan(fresh, opts)
	if err != nil {
		return err
	}
	for _, r := range plan.Results {
		if len(r.Changed) > 0 {
			return fmt.Errorf("the new image is not sealed: %s: %s", r.Item, strings.Join(r.Changed, ", "))
		}
	}
	return nil
}

// placed is a tree at its place in a system that has nothing else.
type placed struct {
	files source
	at    string
}

// inside gives the name in the tree; above says that it is a folder that leads
// to it.
func (p placed) inside(op, name string) (rel string, above bool, err error) {
	t := fileTree{at: p.at}
	if rel, ok := t.inside(name); ok {
		return rel, false, nil
	}
	if name == "." || strings.HasPrefix(p.at, name+"/") {
		return "", true, nil
	}
	return "", false, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
}

func (p placed) Lstat(name string) (fs.FileInfo, error) {
	rel, above, err := p.inside("stat", name)
	if err != nil {
		return nil, err
	}
	if above {
		return leading(path.Base(name)), nil
	}
	return p.files.Lstat(rel)
}

func (p placed) ReadLink(name string) (string, error) {
	rel, above, err := p.inside("readlink", name)
	if err == nil && above {
		err = &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
	}
	if err != nil {
		return "", err
	}
	return p.files.ReadLink(rel)
}

func (p placed) Open(name string) (fs.File, error) {
	rel, above, err := p.inside("open", name)
	if err == nil && above {
		err = &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	if err != nil {
		return nil, err
	}
	return p.files.Open(rel)
}

func (p placed) ReadDir(name string) ([]fs.DirEntry, error) {
	rel, above, err := p.inside("readdir", name)
	if err != nil {
		return nil, err
	}
	if !above {
		return p.files.ReadDir(rel)
	}
	next, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(p.at, name), "/"), "/")
	return []fs.DirEntry{fs.FileInfoToDirEntry(leading(next))}, nil
}

// leading is a folder that leads to a tree.
type leading string

func (l leading) Name() string           { return string(l) }
func (leading) Size() int64              { return 0 }
func (leading) Mode() fs.FileMode        { return fs.ModeDir | 0o755 }
func (leading) ModTime() time.Time       { return time.Time{} }
func (leading) IsDir() bool              { return true }
func (leading) Sys() any                 { return leading("") }
func (leading) Owner() (uid, gid uint32) { return 0, 0 }

// newNames are the names that the seal puts into a folder, in order.
func (t *fileTree) newNames(dir string) []string {
	var names []string
	for name := range t.writes {
		if name != "." && path.Dir(name) == dir {
			names = append(names, path.Base(name))
		}
	}
	sort.Strings(names)
	return names
}
