// Package distro says how each distribution family is made of packages: the
// plain text lists of its profiles, embedded and overridable.
//
// It resolves no dependency and knows no mirror; internal/darksite does.
package distro

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

//go:embed packages
var embedded embed.FS

// ZFSRoot is the list of what a root on ZFS adds to a profile. It is no
// profile itself.
const ZFSRoot = "zfs-root"

// Entry is one package of a list and where it is asked for.
type Entry struct {
	Name string
	From string // "core.list:12", or "--extra-package"
}

// Profiles lists the profiles of a distribution, sorted; nil when it has none.
func Profiles(distro string) []string {
	files, err := fs.Glob(embedded, "packages/"+path.Base(distro)+"/*.list")
	if err != nil {
		return nil
	}
	var names []string
	for _, f := range files {
		if name := strings.TrimSuffix(path.Base(f), ".list"); name != ZFSRoot {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// List reads the list called name of a distribution with its includes, in
// the order of the files, each package once. A file of the same name in
// override ("" for none) replaces the embedded one.
//
// A list holds one package a line; "#" starts a comment; "@include NAME"
// takes another list in.
func List(distro, name, override string) ([]Entry, error) {
	r := reader{distro: distro, override: override, seen: map[string]bool{}}
	if err := r.read(name, nil); err != nil {
		return nil, err
	}
	return r.entries, nil
}

type reader struct {
	distro, override string
	seen             map[string]bool // packages
	entries          []Entry
}

// packageName is Debian Policy 5.6.7.
var packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`)

func (r *reader) read(name string, via []string) error {
	if slices.Contains(via, name) {
		return fmt.Errorf("%s.list: includes itself by way of %s", name, strings.Join(via, ", "))
	}
	data, err := r.open(name)
	if err != nil {
		if len(via) > 0 {
			return fmt.Errorf("%s.list: @include %s: %w", via[len(via)-1], name, err)
		}
		return err
	}
	for i, line := range strings.Split(string(data), "\n") {
		at := fmt.Sprintf("%s.list:%d", name, i+1)
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if inc, ok := strings.CutPrefix(line, "@include "); ok {
			if err := r.read(strings.TrimSpace(inc), append(slices.Clone(via), name)); err != nil {
				return err
			}
			continue
		}
		if !packageName.MatchString(line) {
			return fmt.Errorf("%s: %q is not a package name\nhint: one package a line, # for comments, @include NAME for another list", at, line)
		}
		if !r.seen[line] {
			r.seen[line] = true
			r.entries = append(r.entries, Entry{Name: line, From: at})
		}
	}
	return nil
}

func (r *reader) open(name string) ([]byte, error) {
	if name == "" || name != filepath.Base(name) || strings.HasPrefix(name, ".") {
		return nil, fmt.Errorf("%q is not the name of a list", name)
	}
	if r.override != "" {
		data, err := os.ReadFile(filepath.Join(r.override, name+".list"))
		if !errors.Is(err, fs.ErrNotExist) {
			return data, err
		}
	}
	data, err := embedded.ReadFile("packages/" + path.Base(r.distro) + "/" + name + ".list")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no package list %q for %s\nhint: the profiles are %s; --package-dir adds others",
			name, r.distro, strings.Join(Profiles(r.distro), ", "))
	}
	return data, err
}
