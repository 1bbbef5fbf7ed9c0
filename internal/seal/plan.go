package seal

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"syscall"
)

// writtenMode and madeMode are of files that an item writes and of folders
// that have to be made for them.
const (
	writtenMode = fs.FileMode(0o644)
	madeMode    = fs.ModeDir | 0o755
)

// partSuffix ends the name of a file that is being written, beside the one it
// will replace. One that is found was left by a run that was interrupted.
const partSuffix = ".kldload-seal"

// Plan is what sealing changes in one tree. Its names are real: no part but
// the last is a link.
type Plan struct {
	// Results has each item with the names it changes.
	Results []Result

	changes []change
	removes map[string]bool
}

// File is one to make or to replace with all its content. A folder to make
// has fs.ModeDir in its mode and comes before what is in it.
type File struct {
	Path     string
	Mode     fs.FileMode
	UID, GID uint32
	Content  string
	Item     string
	// Edit says that the file is there: its extended attributes stay, as do
	// the owner and mode that are given here.
	Edit bool
}

// change is one step of a plan: file is nil where something goes.
type change struct {
	path string
	want string
	file *File
}

// NewPlan finds what has to change in a tree to seal it. It changes nothing.
func NewPlan(fsys FS, opts Options) (*Plan, error) {
	p, err := newPlanner(fsys, opts)
	if err != nil {
		return nil, fmt.Errorf("planning the seal: %w", err)
	}
	plan := &Plan{removes: map[string]bool{}}
	all := make([][]change, len(Items(opts)))
	for i, item := range Items(opts) {
		if all[i], err = p.plan(item); err != nil {
			return nil, fmt.Errorf("planning the seal: %s: %w", item.Name, err)
		}
		all[i] = plan.add(all[i])
	}
	for i, item := range Items(opts) {
		r := Result{Item: item.Name}
		for _, c := range all[i] {
			if c.file != nil && c.file.Edit && plan.Removes(c.path) {
				continue // another item takes it
			}
			r.Changed = append(r.Changed, c.path)
			plan.changes = append(plan.changes, c)
		}
		r.Changed = slices.Compact(r.Changed)
		plan.Results = append(plan.Results, r)
	}
	return plan, nil
}

// add notes what goes, and drops what an item before took.
func (p *Plan) add(changes []change) []change {
	return slices.DeleteFunc(changes, func(c change) bool {
		if c.file != nil {
			return false
		}
		was := p.removes[c.path]
		p.removes[c.path] = true
		return was
	})
}

// Removes tells whether a name goes: by itself or with a folder above it. What
// Files has comes after and replaces it.
func (p *Plan) Removes(name string) bool {
	for ; name != "."; name = path.Dir(name) {
		if p.removes[name] {
			return true
		}
	}
	return false
}

// Files are those to write, in order. One that is planned by several items is
// there once.
func (p *Plan) Files() []File {
	var out []File
	seen := map[string]bool{}
	for _, c := range p.changes {
		if c.file != nil && !seen[c.path] {
			seen[c.path] = true
			out = append(out, *c.file)
		}
	}
	return out
}

// planner plans items of one tree.
type planner struct {
	view
	homes []string
	opts  Options
}

func newPlanner(fsys FS, opts Options) (*planner, error) {
	p := &planner{view: view{fsys}, opts: opts}
	var err error
	p.homes, err = p.findHomes()
	return p, err
}

// plan gives the changes of one item: what goes, then what is written.
func (p *planner) plan(i Item) ([]change, error) {
	var out []change
	for _, step := range []func(Item) ([]change, error){p.gone, p.written, p.editedFiles} {
		more, err := step(i)
		if out = append(out, more...); err != nil {
			return out, err
		}
	}
	return out, nil
}

// gone lists what exists of Remove, RemoveIn and RemoveIf.
func (p *planner) gone(i Item) ([]change, error) {
	var names []string
	for _, pattern := range i.Remove {
		found, err := p.globHomes(pattern)
		if err != nil {
			return nil, err
		}
		names = append(names, found...)
	}
	for _, dir := range i.RemoveIn {
		found, err := p.filesBelow(dir)
		if err != nil {
			return nil, err
		}
		names = append(names, found...)
	}
	for _, pattern := range slices.Sorted(maps.Keys(i.RemoveIf)) {
		found, err := p.holding(pattern, i.RemoveIf[pattern])
		if err != nil {
			return nil, err
		}
		names = append(names, found...)
	}
	var out []change
	for _, name := range unique(names) {
		out = append(out, change{path: name, want: "must not be there"})
	}
	return out, nil
}

// globHomes is glob with "~" for each home.
func (p *planner) globHomes(pattern string) ([]string, error) {
	rest, ok := strings.CutPrefix(pattern, "~/")
	if !ok {
		return p.glob(pattern)
	}
	var all []string
	for _, home := range p.homes {
		names, err := p.glob(escape(home) + "/" + rest)
		if err != nil {
			return nil, err
		}
		all = append(all, names...)
	}
	return unique(all), nil
}

// holding gives the regular files of a pattern that have a text in them.
func (p *planner) holding(pattern, text string) ([]string, error) {
	names, err := p.globHomes(pattern)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, name := range names {
		info, err := p.fsys.Lstat(name)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		content, err := p.text(name)
		if err != nil {
			return nil, err
		}
		if strings.Contains(content, text) {
			out = append(out, name)
		}
	}
	return out, nil
}

// written plans the files of Write.
func (p *planner) written(i Item) ([]change, error) {
	var out []change
	for _, name := range slices.Sorted(maps.Keys(i.Write)) {
		changes, err := p.write(i.Name, name, i.Write[name])
		if err != nil {
			return out, err
		}
		out = append(out, changes...)
	}
	return out, nil
}

func (p *planner) write(item, name, content string) ([]change, error) {
	dir, out, err := p.parents(item, path.Dir(name))
	if err != nil {
		return nil, err
	}
	name = path.Join(dir, path.Base(name))
	f := File{Path: name, Mode: writtenMode, UID: p.opts.owner.uid, GID: p.opts.owner.gid, Content: content, Item: item}
	absent := change{name, fmt.Sprintf("must be there and hold %q", content), &f}
	if len(out) > 0 { // its folder is not there yet
		return append(out, absent), nil
	}
	if out, err = p.leftover(name); err != nil {
		return nil, err
	}
	info, err := p.fsys.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return append(out, absent), nil
	case err != nil:
		return nil, err
	case info.IsDir():
		out = append(out, change{path: name, want: "must not be a folder"})
	}
	want, err := p.differs(name, info, f)
	if want == "" || err != nil {
		return out, err
	}
	return append(out, change{name, want, &f}), nil
}

// differs says what of a file is not as written; "" when all is.
func (p *planner) differs(name string, info fs.FileInfo, want File) (string, error) {
	other := fmt.Sprintf("must be a file that holds %q", want.Content)
	if !info.Mode().IsRegular() || info.Size() != int64(len(want.Content)) {
		return other, nil
	}
	have, err := p.text(name)
	if have != want.Content || err != nil {
		return other, err
	}
	who, err := ownerOf(name, info)
	if info.Mode() != want.Mode || who != (owner{want.UID, want.GID}) {
		return fmt.Sprintf("must have mode %#o and be of %d:%d", want.Mode, want.UID, want.GID), err
	}
	return "", nil
}

// parents gives the real name of a folder, and what has to be made of it. A
// link that leads nowhere and a file in its place go.
func (p *planner) parents(item, dir string) (string, []change, error) {
	real, err := p.folder(dir)
	if err != nil || real != "" {
		return real, nil, err
	}
	up, out, err := p.parents(item, path.Dir(dir))
	if err != nil {
		return "", nil, err
	}
	real = path.Join(up, path.Base(dir))
	if len(out) == 0 {
		if _, err := p.fsys.Lstat(real); err == nil {
			out = append(out, change{path: real, want: "must be a folder"})
		}
	}
	f := File{Path: real, Mode: madeMode, UID: p.opts.owner.uid, GID: p.opts.owner.gid, Item: item}
	return real, append(out, change{real, "must be a folder", &f}), nil
}

// leftover plans to remove what an interrupted run left beside a file.
func (p *planner) leftover(name string) ([]change, error) {
	if _, err := p.fsys.Lstat(name + partSuffix); err != nil {
		return nil, unlessAbsent(err)
	}
	return []change{{path: name + partSuffix, want: "must not be there: sealing was interrupted"}}, nil
}

// editedFiles plans those of Edit. A link to a file is followed.
func (p *planner) editedFiles(i Item) ([]change, error) {
	var out []change
	for _, e := range i.Edit {
		names, err := p.globHomes(e.Pattern)
		if err != nil {
			return out, err
		}
		for _, name := range names {
			changes, err := p.edit(i.Name, name, e.Line)
			if err != nil {
				return out, err
			}
			out = append(out, changes...)
		}
	}
	return out, nil
}

func (p *planner) edit(item, name string, edit func(string) (string, bool)) ([]change, error) {
	name, info, err := p.resolve(name)
	if err != nil || info == nil || !info.Mode().IsRegular() {
		return nil, err
	}
	if of, left := strings.CutSuffix(name, partSuffix); left {
		return p.leftover(of)
	}
	out, err := p.leftover(name)
	if err != nil {
		return nil, err
	}
	have, err := p.text(name)
	if err != nil {
		return nil, err
	}
	want := edited(have, edit)
	if want == have {
		return out, nil
	}
	who, err := ownerOf(name, info)
	if err != nil {
		return nil, err
	}
	f := File{Path: name, Mode: info.Mode(), UID: who.uid, GID: who.gid, Content: want, Item: item, Edit: true}
	return append(out, change{name, "has lines that are not sealed", &f}), nil
}

func edited(text string, edit func(string) (string, bool)) string {
	var out strings.Builder
	for line := range strings.SplitAfterSeq(text, "\n") {
		body := strings.TrimSuffix(line, "\n")
		if body == "" {
			out.WriteString(line)
			continue
		}
		if want, keep := edit(body); keep {
			out.WriteString(want + line[len(body):])
		}
	}
	return out.String()
}

// ownerOf reads the owner where each kind of tree keeps it.
func ownerOf(name string, info fs.FileInfo) (owner, error) {
	switch sys := info.Sys().(type) {
	case *syscall.Stat_t:
		return owner{sys.Uid, sys.Gid}, nil
	case interface{ Owner() (uid, gid uint32) }:
		uid, gid := sys.Owner()
		return owner{uid, gid}, nil
	}
	return owner{}, fmt.Errorf("%q: the file system tells no owner", name)
}

// unreadable is the violation of an item that cannot be checked.
func unreadable(item string, err error) Violation {
	v := Violation{Item: item, Want: "must be readable: " + err.Error()}
	var where *fs.PathError
	if errors.As(err, &where) {
		v.Path, v.Want = where.Path, "must be readable: "+where.Err.Error()
	}
	return v
}

// unique drops what is there before, and keeps the order.
func unique(names []string) []string {
	seen := map[string]bool{}
	return slices.DeleteFunc(names, func(n string) bool {
		was := seen[n]
		seen[n] = true
		return was
	})
}
