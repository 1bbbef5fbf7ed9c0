// Package seal takes the identity out of a root tree, so that every machine
// made from it gets its own. There is one list of items (Items); applying them
// to a folder and checking them on a finished image use the same list.
//
// It does not look for secrets that people left behind (that is scanning), and
// it does not touch a running machine.
package seal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"
)

// Item is one thing to take out: small, named, with the reason.
type Item struct {
	Name string
	Why  string

	// Remove are glob patterns (path.Match, relative to the root) of what
	// must not exist; a directory goes with its content.
	Remove []string
	// RemoveIn are directories below which no regular file may exist; the
	// directories themselves stay, programs expect them.
	RemoveIn []string
	// RemoveIf are glob patterns of files that must not hold the text.
	RemoveIf map[string]string
	// Write are files with exactly this content.
	Write map[string]string
	// Edit rewrites files, line by line; nil keeps a line.
	Edit map[string]func(line string) string
}

// Options are what a sealed image may still say of itself.
type Options struct {
	// Hostname is a default name that the template asked for; "" is none.
	Hostname string
	// Epoch bounds the dates in /etc/shadow.
	Epoch time.Time
}

// Result tells what an item changed.
type Result struct {
	Item    string   `json:"item"`
	Changed []string `json:"changed,omitempty"`
}

// Apply seals the tree at dir. It must run as root of the tree's ids, and
// never leaves the tree, whatever its symbolic links say.
func Apply(dir string, opts Options) ([]Result, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("sealing: %w", err)
	}
	var results []Result
	for _, item := range Items(opts) {
		changed, err := item.apply(root)
		if err != nil {
			return results, errors.Join(fmt.Errorf("sealing: %s: %w", item.Name, err), root.Close())
		}
		results = append(results, Result{Item: item.Name, Changed: changed})
	}
	return results, root.Close()
}

// Violation is an item that a tree breaks.
type Violation struct {
	Item string `json:"item"`
	Path string `json:"path"`
	Want string `json:"want"`
}

func (v Violation) String() string { return fmt.Sprintf("%s: /%s: %s", v.Item, v.Path, v.Want) }

// Check tells what of the list a tree breaks. The file system must not follow
// symbolic links in Open beyond itself.
func Check(fsys fs.FS, opts Options) ([]Violation, error) {
	var out []Violation
	for _, item := range Items(opts) {
		v, err := item.check(fsys)
		if err != nil {
			return out, fmt.Errorf("checking the seal: %s: %w", item.Name, err)
		}
		out = append(out, v...)
	}
	return out, nil
}

func (i Item) apply(root *os.Root) ([]string, error) {
	fsys := root.FS()
	var changed []string
	gone, err := i.unwanted(fsys)
	if err != nil {
		return nil, err
	}
	for _, name := range gone {
		if err := root.RemoveAll(name); err != nil {
			return changed, err
		}
		changed = append(changed, name)
	}
	for name, content := range i.Write {
		did, err := writeFile(root, name, content)
		if err != nil {
			return changed, err
		}
		changed = append(changed, did...)
	}
	for name, edit := range i.Edit {
		did, err := editFile(root, name, edit)
		if err != nil {
			return changed, err
		}
		changed = append(changed, did...)
	}
	return changed, nil
}

func (i Item) check(fsys fs.FS) ([]Violation, error) {
	var out []Violation
	left, err := i.unwanted(fsys)
	if err != nil {
		return nil, err
	}
	for _, name := range left {
		out = append(out, Violation{i.Name, name, "must not be there"})
	}
	for name, want := range i.Write {
		got, err := fs.ReadFile(fsys, name)
		switch {
		case err != nil:
			out = append(out, Violation{i.Name, name, "must be there: " + err.Error()})
		case string(got) != want:
			out = append(out, Violation{i.Name, name, fmt.Sprintf("must hold %q", want)})
		}
	}
	for name, edit := range i.Edit {
		got, err := fs.ReadFile(fsys, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if edited(string(got), edit) != string(got) {
			out = append(out, Violation{i.Name, name, "has lines that are not sealed"})
		}
	}
	return out, nil
}

// unwanted lists what exists of Remove, RemoveIn and RemoveIf.
func (i Item) unwanted(fsys fs.FS) ([]string, error) {
	var out []string
	for _, pattern := range i.Remove {
		names, err := glob(fsys, pattern)
		if err != nil {
			return nil, err
		}
		out = append(out, names...)
	}
	for _, dir := range i.RemoveIn {
		names, err := filesBelow(fsys, dir)
		if err != nil {
			return nil, err
		}
		out = append(out, names...)
	}
	for pattern, text := range i.RemoveIf {
		names, err := glob(fsys, pattern)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			b, err := fs.ReadFile(fsys, name)
			if err == nil && strings.Contains(string(b), text) {
				out = append(out, name)
			}
		}
	}
	return out, nil
}

// glob is fs.Glob that, unlike it, finds dangling links, and does not look
// through links to directories.
func glob(fsys fs.FS, pattern string) ([]string, error) {
	names := []string{"."}
	for _, part := range strings.Split(pattern, "/") {
		var next []string
		for _, dir := range names {
			entries, err := fs.ReadDir(fsys, dir)
			if err != nil {
				continue // not a directory, or not there
			}
			for _, e := range entries {
				ok, err := path.Match(part, e.Name())
				if err != nil {
					return nil, fmt.Errorf("pattern %q: %w", pattern, err)
				}
				if ok {
					next = append(next, path.Join(dir, e.Name()))
				}
			}
		}
		names = next
	}
	return names, nil
}

func filesBelow(fsys fs.FS, dir string) ([]string, error) {
	var out []string
	err := fs.WalkDir(fsys, dir, func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && !d.IsDir() {
			out = append(out, name)
		}
		return err
	})
	return out, err
}

// writtenMode is the mode of every file an item writes.
const writtenMode = fs.FileMode(0o644)

func writeFile(root *os.Root, name, content string) ([]string, error) {
	if st, err := root.Lstat(name); err == nil {
		if got, err := root.ReadFile(name); err == nil && string(got) == content && st.Mode() == writtenMode {
			return nil, nil
		}
		if err := root.RemoveAll(name); err != nil {
			return nil, err
		}
	}
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return nil, err
	}
	return []string{name}, errors.Join(root.WriteFile(name, []byte(content), writtenMode), root.Chmod(name, writtenMode))
}

// editFile rewrites a file in place, so that owner and mode stay.
func editFile(root *os.Root, name string, edit func(string) string) ([]string, error) {
	got, err := root.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	want := edited(string(got), edit)
	if want == string(got) {
		return nil, nil
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return nil, err
	}
	_, err = f.WriteString(want)
	return []string{name}, errors.Join(err, f.Close())
}

func edited(text string, edit func(string) string) string {
	lines := strings.SplitAfter(text, "\n")
	for i, line := range lines {
		if body := strings.TrimSuffix(line, "\n"); body != "" {
			lines[i] = edit(body) + line[len(body):]
		}
	}
	return strings.Join(lines, "")
}
