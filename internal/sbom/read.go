package sbom

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// Bounds of what is read from an image.
const (
	maxDatabase  = 64 << 20 // a desktop's status file has 3 MiB
	maxCopyright = 2 << 20
	maxPackages  = 100_000
)

const (
	statusFile   = "var/lib/dpkg/status"
	statusFolder = "var/lib/dpkg/status.d" // of images without dpkg itself
)

// ErrNoDatabase says that a root has no package database that is read.
var ErrNoDatabase = errors.New("no package database")

// foreign are databases that are known and not read.
var foreign = []struct{ path, kind string }{
	{"var/lib/rpm/rpmdb.sqlite", "rpm"}, {"var/lib/rpm/Packages.db", "rpm"}, {"var/lib/rpm/Packages", "rpm"},
	{"usr/lib/sysimage/rpm/rpmdb.sqlite", "rpm"}, {"usr/lib/sysimage/rpm/Packages.db", "rpm"}, {"usr/lib/sysimage/rpm/Packages", "rpm"},
	{"lib/apk/db/installed", "apk"}, {"usr/lib/apk/db/installed", "apk"}, {"var/lib/pacman/local", "pacman"},
}

// Read takes the inventory of a root file system.
func Read(fsys FS) (*Inventory, error) {
	r := reader{fsys: fsys, inv: &Inventory{Texts: map[string]Text{}}}
	if err := r.readOS(); err != nil {
		return nil, err
	}
	if err := r.database(); err != nil {
		return nil, err
	}
	slices.SortFunc(r.installed, func(a, b stanza) int {
		return cmp.Or(strings.Compare(a["package"], b["package"]), strings.Compare(a["architecture"], b["architecture"]), strings.Compare(a["version"], b["version"]))
	})
	r.installed = slices.CompactFunc(r.installed, func(a, b stanza) bool {
		return a["package"] == b["package"] && a["architecture"] == b["architecture"]
	})
	for _, st := range r.installed {
		p, err := r.read(st)
		if err != nil {
			return nil, err
		}
		r.inv.Packages = append(r.inv.Packages, p)
	}
	return r.inv, r.depends()
}

// reader is one reading of a root.
type reader struct {
	fsys      FS
	inv       *Inventory
	installed []stanza
	licences  map[string]string // a copyright file's resolved name to its expression
}

// file reads a file of at most limit bytes, links followed.
func (r *reader) file(name string, limit int64) ([]byte, error) {
	resolved, err := r.fsys.Resolve(name)
	if err != nil {
		return nil, err
	}
	f, err := r.fsys.Open(resolved)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("reading %q: not a regular file", name)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("reading %q: %w", name, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("reading %q: more than %d MiB", name, limit>>20)
	}
	if t := st.ModTime(); name == statusFile || path.Dir(name) == statusFolder && t.After(r.inv.Changed) {
		r.inv.Changed = t
	}
	return data, nil
}

// readOS reads os-release(5); one that is not there is no error.
func (r *reader) readOS() error {
	r.inv.OS = OS{ID: "linux", Name: "Linux"}
	var text []byte
	for _, name := range []string{"etc/os-release", "usr/lib/os-release"} {
		data, err := r.file(name, 1<<20)
		if err == nil {
			text = data
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	s := bufio.NewScanner(bytes.NewReader(text))
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		key, value, _ := strings.Cut(strings.TrimSpace(s.Text()), "=")
		value = clean(strings.Trim(value, `"'`))
		switch {
		case value == "":
		case key == "ID":
			r.inv.OS.ID = value
		case key == "VERSION_ID":
			r.inv.OS.VersionID = value
		case key == "PRETTY_NAME":
			r.inv.OS.Name = value
		case key == "HOME_URL":
			r.inv.OS.Home = value
		}
	}
	return s.Err()
}

// database collects the stanzas of what is installed.
func (r *reader) database() error {
	found := false
	text, err := r.file(statusFile, maxDatabase)
	switch {
	case err == nil:
		found = true
		eachStanza(text, r.take)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	folder, err := r.fsys.Resolve(statusFolder)
	if err == nil {
		err = r.folder(folder, &found)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(r.installed) > maxPackages {
		return fmt.Errorf("reading the package database: more than %d packages", maxPackages)
	}
	if found {
		return nil
	}
	for _, f := range foreign {
		if _, err := r.fsys.Resolve(f.path); err == nil {
			if _, err := fs.Stat(r.fsys, f.path); err == nil {
				return fmt.Errorf("%w that is read: /%s is of %s\nhint: this version reads dpkg's, of Debian and its relatives", ErrNoDatabase, f.path, f.kind)
			}
		}
	}
	return fmt.Errorf("%w: want /%s", ErrNoDatabase, statusFile)
}

// folder reads status.d, whose files hold a stanza each, beside their digests.
func (r *reader) folder(name string, found *bool) error {
	entries, err := r.fsys.ReadDir(name)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".md5sums") || !e.Type().IsRegular() {
			continue
		}
		text, err := r.file(path.Join(statusFolder, e.Name()), maxDatabase)
		if err != nil {
			return err
		}
		*found = true
		eachStanza(text, func(st stanza) {
			if st["status"] == "" {
				st["status"] = "install ok installed"
			}
			r.take(st)
		})
	}
	return nil
}

// take keeps a stanza whose package's files are there: dpkg(1), "Package
// states". One that was removed with its configuration kept is not.
func (r *reader) take(st stanza) {
	state := strings.Fields(st["status"])
	if len(state) != 3 || state[2] == "not-installed" || state[2] == "config-files" || st["package"] == "" || st["version"] == "" {
		return
	}
	for k, v := range st {
		st[k] = clean(v)
	}
	r.installed = append(r.installed, st)
}

// clean makes text of foreign bytes fit for JSON.
func clean(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

func (r *reader) read(st stanza) (Package, error) {
	p := Package{
		Name: st["package"], Version: st["version"], Architecture: st["architecture"], Maintainer: first(st["maintainer"]),
		Homepage: first(st["homepage"]), Section: first(st["section"]), Summary: first(st["description"]),
		Source: st["package"], SourceVersion: st["version"],
	}
	if source := first(st["source"]); source != "" { // "NAME" or "NAME (VERSION)": Policy 5.6.1
		name, version, versioned := strings.Cut(source, "(")
		p.Source = strings.TrimSpace(name)
		if versioned {
			p.SourceVersion = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(version), ")"))
		}
	}
	var err error
	p.License, err = r.license(p.Name)
	return p, err
}
