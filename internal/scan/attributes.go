package scan

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// names looks at names for secrets that tell of themselves: those which a word
// before them gives away are in no name.
func (e *Engine) names(ctx context.Context, loc Location, text string) error {
	if text == "" {
		return nil
	}
	u := e.unit(ctx, loc)
	u.raw, u.known = true, true
	err := u.bytesAt([]byte(text))
	u.known = false
	e.keep(u.finish())
	return err
}

// lines are the names in a folder, one to a line.
func lines(list []fs.DirEntry) string {
	var b strings.Builder
	for _, d := range list {
		b.WriteString(d.Name())
		b.WriteByte('\n')
	}
	return b.String()
}

// xattrs looks at extended attributes: names and values. At gives the location
// of "xattr user.x".
func (e *Engine) xattrs(ctx context.Context, at func(where string) Location, all map[string][]byte) error {
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if structured(key) {
			continue
		}
		// As a line that says what the value is called, which some rules ask for.
		line := strings.TrimPrefix(key, "user.") + "=" + string(all[key])
		if err := e.Raw(ctx, at("xattr "+key), 0, strings.NewReader(line)); err != nil {
			return err
		}
	}
	return nil
}

// structured are the attributes whose values a kernel parses: they hold no text.
func structured(key string) bool {
	return strings.HasPrefix(key, "system.posix_acl_") || key == "security.capability" || key == "security.selinux" ||
		key == "security.ima" || key == "security.evm"
}

// around looks at what a folder's file has beside its content: attributes, the
// target of a link, the names in a folder. What is gone by now is nothing.
func (e *Engine) around(ctx context.Context, root *os.Root, name string, mode fs.FileMode) error {
	at := func(where string) Location { return Location{Path: pathOf(name), Where: where} }
	var err error
	switch mode.Type() {
	case fs.ModeSymlink:
		target, lerr := root.Readlink(name)
		if err = lerr; err == nil {
			err = e.names(ctx, at("link target"), target)
		}
	case 0, fs.ModeDir:
		var all map[string][]byte
		var list []fs.DirEntry
		if all, list, err = readAround(root, name, mode); err == nil {
			err = errors.Join(e.names(ctx, at("file names"), lines(list)), e.xattrs(ctx, at, all))
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// readAround reads the attributes of a file or folder, and a folder's names.
func readAround(root *os.Root, name string, mode fs.FileMode) (all map[string][]byte, list []fs.DirEntry, err error) {
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	if mode.IsDir() {
		if list, err = f.ReadDir(-1); err != nil {
			return nil, nil, err
		}
	}
	all, err = xattrsOf(f)
	return all, list, err
}

// xattrsOf reads the extended attributes of an open file.
func xattrsOf(f *os.File) (map[string][]byte, error) {
	n, err := unix.Flistxattr(int(f.Fd()), nil)
	if errors.Is(err, unix.ENOTSUP) || n == 0 && err == nil {
		return nil, nil // most have none
	}
	names := make([]byte, 64<<10) // XATTR_LIST_MAX, as is XATTR_SIZE_MAX: xattr(7)
	if err == nil {
		n, err = unix.Flistxattr(int(f.Fd()), names)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "listing extended attributes of", Path: f.Name(), Err: err}
	}
	all, value := map[string][]byte{}, make([]byte, 64<<10)
	for key := range strings.SplitSeq(strings.TrimRight(string(names[:n]), "\x00"), "\x00") {
		n, err := unix.Fgetxattr(int(f.Fd()), key, value)
		if errors.Is(err, unix.ENODATA) {
			continue // gone in the meantime
		}
		if err != nil {
			return nil, &fs.PathError{Op: "reading extended attribute " + key + " of", Path: f.Name(), Err: err}
		}
		all[key] = slices.Clone(value[:n])
	}
	return all, nil
}
