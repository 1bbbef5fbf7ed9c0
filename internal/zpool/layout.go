// Package zpool makes pools out of trees and finds them in images: which
// datasets there are and what lies in which, one pass from a folder or an
// archive into a file that appears whole, a pool in a disk of any format. What
// the bytes of a pool are, package zfs knows.
package zpool

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/kldload/kldload/internal/suggest"
	"github.com/kldload/kldload/zfs"
)

// Layout is a pool and its datasets, before anything is in it.
type Layout struct {
	Pool string
	// Properties of the pool, by zpool's names.
	Properties map[string]string
	// Datasets are the properties of each by its name below the pool, "" for the
	// pool's root dataset.
	Datasets map[string]map[string]string
}

// NewLayout is what zpool create makes: a root dataset alone.
func NewLayout(pool string) *Layout {
	return &Layout{Pool: pool, Properties: map[string]string{}, Datasets: map[string]map[string]string{"": {}}}
}

// Root is the dataset that the system of a root pool lies in, below the pool.
const Root = "ROOT/default"

// Compatibility is the newest set of features that Debian 12's ZFS, 2.1.11,
// and all later ones have (zpool-features(7)).
const Compatibility = "openzfs-2.1-linux"

// NewRootLayout is the pool of a machine: the system as a boot environment
// below ROOT, and what must not roll back with it in datasets of its own. var
// and var/lib are there to be parents only: what lies in them belongs to the
// boot environment, the package database first of all.
func NewRootLayout(pool string) *Layout {
	l := NewLayout(pool)
	l.Properties = map[string]string{"ashift": "12", "autoexpand": "on", "autotrim": "on", "compatibility": Compatibility, "bootfs": pool + "/" + Root}
	noSnapshots := "com.sun:auto-snapshot" // zfs-auto-snapshot's and sanoid's word
	l.Datasets = map[string]map[string]string{
		"": {"acltype": "posix", "canmount": "off", "compression": "lz4", "dnodesize": "auto", "relatime": "on", "xattr": "sa", "mountpoint": "none"},

		"ROOT": {"canmount": "off", "mountpoint": "none"},
		Root:   {"canmount": "noauto", "mountpoint": "/"},

		"home": {"mountpoint": "/home"},
		"root": {"mountpoint": "/root"},
		"srv":  {"mountpoint": "/srv"},
		"tmp":  {"mountpoint": "/tmp", noSnapshots: "false"},

		"var":       {"canmount": "off", "mountpoint": "/var"},
		"var/cache": {noSnapshots: "false"},
		"var/lib":   {"canmount": "off"},
		"var/log":   {},
		"var/spool": {},
		"var/tmp":   {noSnapshots: "false"},
	}
	return l
}

// Set gives a dataset properties, after those it has; new ones get the parents
// they need. name is below the pool, or whole.
func (l *Layout) Set(name string, properties map[string]string) error {
	if name == l.Pool {
		name = ""
	}
	name = strings.TrimPrefix(name, l.Pool+"/")
	for at := name; l.Datasets[at] == nil; at = parent(at) {
		l.Datasets[at] = map[string]string{}
	}
	for _, property := range slices.Sorted(maps.Keys(properties)) {
		if err := Check(zfs.DatasetProperty, property, properties[property]); err != nil {
			return fmt.Errorf("dataset %q: %w", l.full(name), err)
		}
		l.Datasets[name][property] = properties[property]
	}
	return nil
}

func parent(name string) string {
	dir, _, ok := cutLast(name)
	if !ok {
		return ""
	}
	return dir
}

func cutLast(name string) (dir, base string, ok bool) {
	i := strings.LastIndexByte(name, '/')
	if i < 0 {
		return "", name, false
	}
	return name[:i], name[i+1:], true
}

// SetPool sets a property of the pool.
func (l *Layout) SetPool(name, value string) error {
	if err := Check(zfs.PoolProperty, name, value); err != nil {
		return err
	}
	l.Properties[name] = value
	return nil
}

// Check is zfs.CheckProperty with what was perhaps meant.
func Check(kind zfs.PropertyKind, name, value string) error {
	err := zfs.CheckProperty(kind, name, value)
	if hint := Hint(err); hint != "" {
		err = fmt.Errorf("%s property %q: no such property\nhint: %s", kind, name, hint)
	}
	return err
}

// Hint suggests a property where err says that there is none of that name.
func Hint(err error) string {
	unknown, ok := err.(*zfs.UnknownPropertyError) //nolint:errorlint // as CheckProperty gives it
	if !ok || unknown.Reason != "" {
		return ""
	}
	other := zfs.DatasetProperty
	if unknown.Kind == zfs.DatasetProperty {
		other = zfs.PoolProperty
	}
	if slices.Contains(zfs.Properties(other), unknown.Name) {
		return fmt.Sprintf("it is a property of a %s", other)
	}
	return suggest.Hint(unknown.Name, zfs.Properties(unknown.Kind))
}

func (l *Layout) full(name string) string {
	if name == "" {
		return l.Pool
	}
	return l.Pool + "/" + name
}

// Names are those of all datasets, parents before children.
func (l *Layout) Names() []string {
	return slices.SortedFunc(maps.Keys(l.Datasets), func(a, b string) int {
		return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
	})
}

// Compression is what a dataset's files are compressed with.
func (l *Layout) Compression(name string) string {
	for at := name; ; at = parent(at) {
		switch c := l.Datasets[at]["compression"]; {
		case c != "" && c != "on":
			return c
		case c == "on" || at == "":
			return "lz4" // what on is, and the default
		}
	}
}

// Options are those of a writer, but for size, seed, epoch and snapshot.
func (l *Layout) Options() zfs.Options {
	o := zfs.Options{Pool: l.Pool, Properties: l.Properties, Root: l.treeRoot()}
	for _, name := range l.Names() {
		o.Datasets = append(o.Datasets, zfs.Dataset{Name: l.full(name), Properties: l.Datasets[name]})
	}
	return o
}

// treeRoot is where the tree goes: to "/" when a dataset is mounted there,
// else to where the pool's root dataset is.
func (l *Layout) treeRoot() string {
	for _, properties := range l.Datasets {
		if properties["mountpoint"] == "/" {
			return "/"
		}
	}
	switch at := l.Datasets[""]["mountpoint"]; at {
	case "":
		return "/" + l.Pool
	case "none", "legacy":
		return "/"
	default:
		return path.Clean(at)
	}
}
