package verify

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/kldload/kldload/internal/seal"
)

// otherRoots asserts that what a boot of the pool does not mount is sealed like
// the root that is started: boot environments, datasets that nothing mounts,
// and all snapshots. What a snapshot keeps is in the image.
func (m *image) otherRoots(opts seal.Options) Check {
	var violations []seal.Violation
	c := run("snapshots", Seal, func() (string, error) {
		names, err := m.roots()
		if err != nil {
			return "", err
		}
		judged := map[string]bool{}
		for _, mount := range m.volume.Tree.Mounts() {
			judged[mount.Dataset] = true
		}
		for _, name := range names {
			more, err := m.checkRoot(name, judged, opts)
			if err != nil {
				return "", err
			}
			violations = append(violations, more...)
		}
		alone, err := m.alone(judged)
		if err != nil {
			return "", err
		}
		for _, a := range alone {
			more, err := m.checkAlone(a, opts)
			if err != nil {
				return "", err
			}
			names, violations = append(names, a.name), append(violations, more...)
		}
		detail := fmt.Sprintf("%d, sealed: %s", len(names), strings.Join(names, " "))
		if len(names) == 0 {
			detail = "none"
		}
		return detail, violated(violations)
	})
	c.Violations = violations
	return c
}

// roots lists the datasets at "/" and their snapshots, but the one started.
func (m *image) roots() ([]string, error) {
	all, err := m.volume.Volume.Pool.Datasets()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, d := range all {
		if d.Mountpoint != "/" || d.Encrypted {
			continue
		}
		if d.Name != m.volume.Dataset {
			names = append(names, d.Name)
		}
		for _, s := range d.Snapshots {
			names = append(names, s.Name)
		}
	}
	return names, nil
}

// checkRoot gives the violations of another root, with its name before them.
// It notes which datasets and snapshots were looked at with it.
func (m *image) checkRoot(name string, judged map[string]bool, opts seal.Options) ([]seal.Violation, error) {
	tree, err := m.volume.Volume.Pool.Tree(name)
	if err != nil {
		return nil, err
	}
	items, err := seal.Check(tree, opts)
	if err != nil {
		return nil, err
	}
	for _, mount := range tree.Mounts() {
		judged[mount.Dataset] = true
	}
	var all []seal.Violation
	for _, item := range items {
		for _, v := range item.Violations {
			v.Path = name + ":/" + v.Path
			all = append(all, v)
		}
	}
	return all, nil
}

// lone is a dataset or snapshot that no root was joined with.
type lone struct {
	name string
	at   string // clean and relative; "" where nothing says where it is mounted
}

// alone lists what is in no judged tree and holds something: each state of a
// dataset once, as a snapshot of an image is most often as the dataset is.
func (m *image) alone(judged map[string]bool) ([]lone, error) {
	all, err := m.volume.Volume.Pool.Datasets()
	if err != nil {
		return nil, err
	}
	var out []lone
	for _, d := range all {
		if d.Encrypted || d.Type != "filesystem" {
			continue
		}
		names := []string{d.Name}
		for _, s := range d.Snapshots {
			names = append(names, s.Name)
		}
		names, err := m.states(names, judged)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			out = append(out, lone{name, m.place(d.Name, d.Mountpoint)})
		}
	}
	return out, nil
}

// states leaves out of a dataset and its snapshots those that are judged, those
// that are like one before, and those without files.
func (m *image) states(names []string, judged map[string]bool) ([]string, error) {
	pool := m.volume.Volume.Pool
	var known, out []string
	for _, name := range names {
		if judged[name] {
			known = append(known, name)
		}
	}
	for _, name := range names {
		if slices.ContainsFunc(known, func(k string) bool { return pool.Unchanged(k, name) }) {
			continue
		}
		known = append(known, name)
		files, err := pool.Dataset(name)
		if err != nil {
			return nil, err
		}
		list, err := files.ReadDir(".")
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if len(list) > 1 || len(list) == 1 && list[0].Name() != "lost+found" {
			out = append(out, name)
		}
	}
	return out, nil
}

// place gives where a dataset is mounted: by its mountpoint, or by fstab(5)
// where that is legacy.
func (m *image) place(dataset, mountpoint string) string {
	if dataset == m.volume.Dataset {
		return "."
	}
	if text, err := m.read("etc/fstab"); mountpoint == "legacy" && err == nil {
		for line := range strings.SplitSeq(text, "\n") {
			if f := strings.Fields(line); len(f) >= 3 && f[0] == dataset {
				mountpoint = f[1]
			}
		}
	}
	if !strings.HasPrefix(mountpoint, "/") {
		return ""
	}
	at := path.Clean(mountpoint)[1:]
	for up := at; up != "" && up != "."; up = path.Dir(up) {
		if real, err := m.root.Resolve(up); err == nil {
			return path.Join(real, strings.TrimPrefix(at, up))
		}
	}
	return path.Join(".", at)
}

// checkAlone gives the violations in a dataset or snapshot, seen in its place
// in the system that is started. What the seal would write is not asked of it.
func (m *image) checkAlone(a lone, opts seal.Options) ([]seal.Violation, error) {
	files, err := m.volume.Volume.Pool.Dataset(a.name)
	if err != nil {
		return nil, err
	}
	if a.at == "" {
		return []seal.Violation{{Item: "snapshots", Path: a.name + ":/", Want: "must be mounted somewhere, or hold nothing: its files cannot be judged without a place"}}, nil
	}
	view := overlay{m.root, files, a.at}
	items, err := seal.Check(view, opts)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.name, err)
	}
	var all []seal.Violation
	for _, item := range items {
		for _, v := range item.Violations {
			if v.Path != "" && !view.has(v.Path) {
				continue
			}
			v.Path = a.name + ":/" + v.Path
			all = append(all, v)
		}
	}
	return all, nil
}

// overlay is a root with other files at a place, of which the folders above
// may be missing.
type overlay struct {
	root  seal.FS
	files seal.FS
	at    string // clean and relative
}

// inside gives the name in the files that lie over the root.
func (o overlay) inside(name string) (string, bool) {
	switch {
	case o.at == ".":
		return name, true
	case name == o.at:
		return ".", true
	}
	return strings.CutPrefix(name, o.at+"/")
}

// above tells whether a folder leads to the place.
func (o overlay) above(name string) bool { return name == "." || strings.HasPrefix(o.at, name+"/") }

// has tells whether there is such a name in the files over the root; one that
// cannot be read is.
func (o overlay) has(name string) bool {
	rel, ok := o.inside(name)
	if !ok {
		return false
	}
	_, err := o.files.Lstat(rel)
	return !errors.Is(err, fs.ErrNotExist)
}

// named puts the name in the whole in place of that in the files.
func named(err error, name string) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return &fs.PathError{Op: p.Op, Path: name, Err: p.Err}
	}
	return err
}

func (o overlay) Open(name string) (fs.File, error) {
	if rel, ok := o.inside(name); ok {
		f, err := o.files.Open(rel)
		return f, named(err, name)
	}
	return o.root.Open(name)
}

func (o overlay) ReadLink(name string) (string, error) {
	if rel, ok := o.inside(name); ok {
		target, err := o.files.ReadLink(rel)
		return target, named(err, name)
	}
	return o.root.ReadLink(name)
}

func (o overlay) Lstat(name string) (fs.FileInfo, error) {
	if rel, ok := o.inside(name); ok {
		info, err := o.files.Lstat(rel)
		return info, named(err, name)
	}
	info, err := o.root.Lstat(name)
	if o.above(name) && (err != nil || !info.IsDir()) {
		return o.root.Lstat(".")
	}
	return info, err
}

// Stat is Lstat: names have no links on the way.
func (o overlay) Stat(name string) (fs.FileInfo, error) { return o.Lstat(name) }

func (o overlay) ReadDir(name string) ([]fs.DirEntry, error) {
	if rel, ok := o.inside(name); ok {
		list, err := fs.ReadDir(o.files, rel)
		return list, named(err, name)
	}
	list, err := fs.ReadDir(o.root, name)
	if !o.above(name) || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return list, err
	}
	next, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(o.at, name), "/"), "/")
	info, err := o.Lstat(path.Join(name, next))
	if err != nil {
		return nil, err
	}
	out := []fs.DirEntry{entry{fs.FileInfoToDirEntry(info), next}}
	for _, e := range list {
		if e.Name() != next {
			out = append(out, e)
		}
	}
	return out, nil
}

// entry is the place, or a folder that leads to it, under its name there.
type entry struct {
	fs.DirEntry
	name string
}

func (e entry) Name() string { return e.name }
