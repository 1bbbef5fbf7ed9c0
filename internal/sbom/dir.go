package sbom

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
)

// Dir is the tree in a folder, as a root: links lead inside of it.
type Dir struct {
	fs.FS
	root *os.Root
}

// OpenDir opens a folder that holds a root file system.
func OpenDir(name string) (*Dir, error) {
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	return &Dir{root.FS(), root}, nil
}

// Close ends the use of the folder.
func (d *Dir) Close() error { return d.root.Close() }

// ReadDir lists a folder, sorted.
func (d *Dir) ReadDir(name string) ([]fs.DirEntry, error) { return fs.ReadDir(d.FS, name) }

// maxLinks is Linux's limit (path_resolution(7)).
const maxLinks = 40

// Resolve follows the links of a path; absolute ones start at the folder.
func (d *Dir) Resolve(name string) (string, error) {
	done, rest, links := ".", strings.Split(path.Clean(name), "/"), 0
	for len(rest) > 0 {
		if rest[0] == ".." {
			done, rest = path.Dir(done), rest[1:]
			continue
		}
		next := path.Join(done, rest[0])
		rest = rest[1:]
		st, err := d.root.Lstat(next)
		if err != nil {
			return "", err
		}
		if st.Mode()&fs.ModeSymlink == 0 {
			done = next
			continue
		}
		if links++; links > maxLinks {
			return "", &fs.PathError{Op: "resolve", Path: name, Err: errors.New("too many links")}
		}
		target, err := d.root.Readlink(next)
		if err != nil {
			return "", err
		}
		if path.IsAbs(target) {
			done = "."
		}
		rest = append(strings.Split(strings.Trim(path.Clean(target), "/"), "/"), rest...)
	}
	return done, nil
}
