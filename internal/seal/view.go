package seal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Bounds of what is read of a tree.
const (
	maxPart   = 255      // bytes between two slashes, as Linux has it
	maxFollow = 40       // links in one name, as Linux has it
	maxText   = 16 << 20 // bytes of a file that is looked into
	maxFound  = 1 << 20  // names that one pattern may match
)

// view looks at a tree as the sealed machine would. The names it gives are
// real: no part of them but the last is a link, so that they can be used
// without following any.
type view struct{ fsys FS }

// system are the folders at the root that hold the system itself. A link that
// leads to them from a folder whose whole content goes is not followed.
var system = []string{".", "bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "sbin", "sys", "usr"}

// glob gives what a pattern matches, in byte order, dangling links too.
func (v view) glob(pattern string) ([]string, error) {
	names := []string{"."}
	parts := strings.Split(pattern, "/")
	for i, part := range parts {
		var next []string
		for _, name := range names {
			dir, err := v.folder(name)
			if err != nil {
				return nil, err
			}
			if dir == "" || part == "*" && i == len(parts)-1 && led(name, dir) {
				continue
			}
			found, err := v.match(dir, part)
			if err != nil {
				return nil, fmt.Errorf("pattern %q: %w", pattern, err)
			}
			if next = append(next, found...); len(next) > maxFound {
				return nil, fmt.Errorf("pattern %q: more than %d names match", pattern, maxFound)
			}
		}
		names = next
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// led tells that a link led from a folder into the system.
func led(name, real string) bool {
	top, _, _ := strings.Cut(real, "/")
	return name != real && slices.Contains(system, top)
}

// match gives the entries of a real folder.
func (v view) match(dir, part string) ([]string, error) {
	if !strings.ContainsAny(part, `*?[\`) {
		name := path.Join(dir, part)
		if _, err := v.fsys.Lstat(name); err != nil {
			return nil, unlessAbsent(err)
		}
		return []string{name}, nil
	}
	entries, err := fs.ReadDir(v.fsys, dir)
	if err != nil {
		return nil, unlessAbsent(err)
	}
	var found []string
	for _, e := range entries {
		ok, err := path.Match(part, e.Name())
		if err != nil {
			return nil, err
		}
		if ok {
			found = append(found, path.Join(dir, e.Name()))
		}
	}
	return found, nil
}

// folder gives the real name of a directory, "" when there is none.
func (v view) folder(name string) (string, error) {
	real, info, err := v.resolve(name)
	if err != nil || info == nil || !info.IsDir() {
		return "", err
	}
	return real, nil
}

// resolve follows the links of a name inside the tree. What is not there, or
// goes round in circles, has no info.
func (v view) resolve(name string) (string, fs.FileInfo, error) {
	done, rest := ".", strings.Split(path.Clean("/" + name)[1:], "/")
	info, err := v.fsys.Lstat(".")
	for follows := 0; err == nil && len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			done = path.Dir(done)
			info, err = v.fsys.Lstat(done)
			continue
		}
		if !info.IsDir() || len(part) > maxPart || strings.ContainsRune(part, 0) {
			return "", nil, nil
		}
		next := path.Join(done, part)
		if info, err = v.fsys.Lstat(next); err != nil {
			break
		}
		if info.Mode().Type() != fs.ModeSymlink {
			done = next
			continue
		}
		if follows++; follows > maxFollow {
			return "", nil, nil
		}
		var target string
		if target, err = v.fsys.ReadLink(next); err != nil {
			break
		}
		if strings.HasPrefix(target, "/") {
			done = "."
		}
		rest = append(strings.Split(target, "/"), rest...)
		info, err = v.fsys.Lstat(done)
	}
	if err != nil {
		return "", nil, unlessAbsent(err)
	}
	return done, info, nil
}

// filesBelow lists what in a folder is no folder.
func (v view) filesBelow(name string) ([]string, error) {
	dir, err := v.folder(name)
	if err != nil || dir == "" || led(path.Clean(name), dir) {
		return nil, err
	}
	var out []string
	err = fs.WalkDir(v.fsys, dir, func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a running machine tidies up
		}
		if err == nil && !d.IsDir() {
			out = append(out, name)
		}
		if len(out) > maxFound {
			return fmt.Errorf("more than %d files", maxFound)
		}
		return err
	})
	return out, err
}

// text reads a regular file with a real name.
func (v view) text(name string) (string, error) {
	f, err := v.fsys.Open(name)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxText+1))
	if err == nil && len(b) > maxText {
		err = fmt.Errorf("reading %q: more than %d bytes", name, maxText)
	}
	return string(b), errors.Join(err, f.Close())
}

func unlessAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
