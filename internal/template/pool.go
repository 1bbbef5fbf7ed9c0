package template

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/kldload/kldload/internal/suggest"
	"github.com/kldload/kldload/internal/zpool"
	"github.com/kldload/kldload/zfs"
)

// defaultPool is the name of the pool.
const defaultPool = "rpool"

// pool gives what the image's pool shall be: that of every machine, with what
// the pool and dataset blocks change.
func (r *reader) pool(storage string) *zpool.Layout {
	pools, datasets := r.blocks("pool"), r.blocks("dataset")
	if storage != "zfs" {
		for _, b := range append(slices.Clone(pools), datasets...) {
			r.l.errorf(b.TypeRange, `remove it, or set storage = "zfs"`, "block %q is for storage = \"zfs\"", b.Type)
		}
		return nil
	}
	layout := zpool.NewRootLayout(defaultPool)
	for i, b := range pools {
		if i > 0 {
			r.l.errorf(b.DefRange(), "the first is at "+r.l.position(pools[0].DefRange()).String(), "a second pool block")
		} else {
			layout = r.poolBlock(b)
		}
	}
	places := map[string]hcl.Range{}
	for _, b := range datasets {
		r.dataset(layout, b, places)
	}
	r.reachable(layout, places)
	return layout
}

// poolBlock reads the pool's name, its properties, and those of its root
// dataset, which all others inherit.
func (r *reader) poolBlock(b *hclsyntax.Block) *zpool.Layout {
	if !r.l.labels(b, "") {
		return zpool.NewRootLayout(defaultPool)
	}
	inner := r.l.read("pool block", b, r.scope)
	layout := zpool.NewRootLayout(inner.checked("name", defaultPool, checkPool))
	for _, p := range r.properties(inner, "name") {
		switch {
		case p.name == "bootfs" || p.name == "mountpoint" || p.name == "canmount":
			r.l.errorf(p.at, "remove it", "%q of the pool is kldload's to set: the system lies in %s", p.name, zpool.Root)
		case slices.Contains(zfs.Properties(zfs.PoolProperty), p.name):
			r.setProperty(p, func() error { return layout.SetPool(p.name, p.text) })
		default:
			r.setProperty(p, func() error { return layout.Set("", map[string]string{p.name: p.text}) })
		}
	}
	return layout
}

var poolShape = pattern(`[A-Za-z][A-Za-z0-9_.-]{0,63}`, "not a pool's name (letters, digits, _ . and -, a letter first)", "")

// checkPool: zpoolconcepts(7); the names of vdevs are reserved.
func checkPool(s string) (problem, hint string) {
	for _, vdev := range []string{"mirror", "raidz", "draid", "spare"} {
		if strings.HasPrefix(s, vdev) || s == "log" {
			return "reserved by ZFS", ""
		}
	}
	return poolShape(s)
}

// checkDataset: zfs_namecheck.c, without blanks and colons, which the boot
// scripts of initramfs-tools do not take.
var checkDataset = pattern(`[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*`, "not a dataset's name (letters, digits, _ . and -, parts apart by /)",
	`it is below the pool: dataset "home", dataset "var/log"`)

// dataset reads a dataset block.
func (r *reader) dataset(layout *zpool.Layout, b *hclsyntax.Block, places map[string]hcl.Range) {
	if !r.l.labels(b, "NAME") {
		return
	}
	name, at := b.Labels[0], b.LabelRanges[0]
	if problem, hint := checkDataset(name); problem != "" {
		r.l.errorf(at, hint, "dataset %q: %s", name, problem)
		return
	}
	if first, ok := places[name]; ok {
		r.l.errorf(at, "the first is at "+r.l.position(first).String(), "dataset %q is there twice", name)
		return
	}
	places[name] = at
	inner := r.l.read("dataset block", b, r.scope)
	if err := layout.Set(name, nil); err != nil { // it is there without properties, too
		r.l.errorf(at, "", "%v", err)
	}
	for _, p := range r.properties(inner) {
		if name == zpool.Root && (p.name == "mountpoint" || p.name == "canmount") {
			r.l.errorf(p.at, "remove it", "%q of dataset %q is kldload's to set: it is the root", p.name, name)
			continue
		}
		r.setProperty(p, func() error { return layout.Set(name, map[string]string{p.name: p.text}) })
	}
}

// property is one as it is written.
type property struct {
	name, text string
	at, value  hcl.Range
}

// properties reads attributes as properties, and the map properties, for names
// that are no identifiers. Numbers and bools become text.
func (r *reader) properties(inner *reader, others ...string) []property {
	var list []property
	for _, a := range sortedAttributes(inner.bodies[0]) {
		if slices.Contains(others, a.Name) || a.Name == "properties" {
			continue
		}
		v, ok := r.l.eval(a.Expr, r.scope)
		if ok && !v.IsNull() {
			list = append(list, r.propertyOf(a.Name, v, a.NameRange, a.Expr.Range()))
		}
	}
	for _, p := range inner.pairs("properties") {
		list = append(list, property{p.key, p.text, p.at, p.at})
	}
	for _, b := range inner.bodies[0].Blocks {
		r.l.errorf(b.TypeRange, "", "unknown block %q", b.Type)
	}
	return list
}

func (r *reader) propertyOf(name string, v cty.Value, at, place hcl.Range) property {
	p := property{name: name, at: at, value: place}
	switch {
	case v.Type() == cty.Bool && v.True():
		p.text = "on"
	case v.Type() == cty.Bool:
		p.text = "off"
	case v.Type() == cty.Number:
		p.text = v.AsBigFloat().Text('f', -1)
	case v.Type() == cty.String:
		p.text = v.AsString()
	default:
		r.l.errorf(place, "", "%q: a string, a number or a bool is required", name)
	}
	return p
}

// setProperty sets one and says at its place what is wrong with it.
func (r *reader) setProperty(p property, set func() error) {
	err := zfs.CheckProperty(zfs.DatasetProperty, p.name, p.text)
	if slices.Contains(zfs.Properties(zfs.PoolProperty), p.name) {
		err = zfs.CheckProperty(zfs.PoolProperty, p.name, p.text)
	}
	if err == nil {
		err = set()
	}
	if err == nil {
		return
	}
	var unknown *zfs.UnknownPropertyError
	hint := zpool.Hint(err)
	if near := suggest.Nearest(p.name, slices.Concat(zfs.Properties(zfs.PoolProperty), zfs.Properties(zfs.DatasetProperty))); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	switch {
	case !asUnknown(err, &unknown):
		r.l.errorf(p.value, "", "%v", shown(err.Error()))
	case unknown.Reason != "":
		r.l.errorf(p.at, "", "%q: %s", p.name, unknown.Reason)
	default:
		r.l.errorf(p.at, hint, "unknown property %q", p.name)
	}
}

func asUnknown(err error, target **zfs.UnknownPropertyError) bool {
	u, ok := err.(*zfs.UnknownPropertyError) //nolint:errorlint // as CheckProperty gives it
	*target = u
	return ok
}

// inRoot are directories that must be there before any dataset but the root is
// mounted, or that are no files of the system at all.
var inRoot = []string{"/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr", "/var/lib/dpkg"}

// reachable asserts that the machine can boot with the datasets where they are
// mounted.
func (r *reader) reachable(layout *zpool.Layout, places map[string]hcl.Range) {
	for _, name := range slices.Sorted(maps.Keys(places)) {
		at := mountpoint(layout, name)
		for _, dir := range inRoot {
			if name != zpool.Root && (at == dir || strings.HasPrefix(at, dir+"/") && !strings.HasPrefix(at, "/usr/")) {
				r.l.errorf(places[name], "what the system starts from, and its package database, roll back together", "dataset %q: mountpoint %q must stay in %s", name, at, zpool.Root)
			}
		}
	}
}

// mountpoint is where a dataset is mounted; "" where it is not.
func mountpoint(layout *zpool.Layout, name string) string {
	if layout.Datasets[name]["canmount"] == "off" {
		return ""
	}
	return inherited(layout, name)
}

// inherited is the mountpoint property of a dataset, "" for none.
func inherited(layout *zpool.Layout, name string) string {
	switch at := layout.Datasets[name]["mountpoint"]; {
	case at == "none" || at == "legacy":
		return ""
	case at != "":
		return path.Clean(at)
	case name == "":
		return "/" + layout.Pool
	}
	above, base := path.Split(name)
	at := inherited(layout, strings.TrimSuffix(above, "/"))
	if at == "" {
		return ""
	}
	return path.Join(at, base)
}
