// Package seal takes the identity out of a root tree, so that every machine
// made from it gets its own. There is one list of items (Items). What they
// change in a tree is planned first (NewPlan), over any file system; Apply
// carries the plan out in a folder, and Check says that a tree is sealed when
// the plan for it is empty.
//
// It does not look for secrets that people left behind (that is scanning), and
// knows nothing of services, mounts or pools of a running machine.
package seal

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"
)

// FS is a root tree: what os.Root.FS, ext4 and ZFS readers give. Names have
// no leading slash. Lstat and ReadLink must not follow the last link; no
// other method is called with a name that has a link in it. Sys of a FileInfo
// is a *syscall.Stat_t or has Owner() (uid, gid uint32).
type FS = fs.ReadLinkFS

// Item is one thing to take out: small, named, with the reason.
//
// Names are relative to the root, as the sealed machine would read them: links
// on the way are followed, inside the tree (absolute targets start at its root
// and ".." stops there); the last part is never followed, but in Edit. A name
// that begins with "~/" is meant in the home of each user: of root, of every
// line of etc/passwd, and each folder of home.
type Item struct {
	Name string
	Why  string

	// Remove are glob patterns (path.Match) of what must not exist; a
	// directory goes with its content.
	Remove []string
	// RemoveIn are directories below which no file of any kind may exist; the
	// directories themselves stay, programs expect them.
	RemoveIn []string
	// RemoveIf are glob patterns of files that must not hold the text.
	RemoveIf map[string]string
	// Write are files with exactly this content, mode 0644, of root.
	Write map[string]string
	// Edit rewrites files; one that is not there stays away.
	Edit []Edit
}

// Edit changes the lines of some files. Done twice, it changes nothing more.
type Edit struct {
	Pattern string
	// What says, for a reader, how the file is afterwards.
	What string
	// Line gives a line as it has to be; false drops it.
	Line func(line string) (string, bool)
}

// What describes the item's doings, one sentence each, as docs/seal.md has
// them: "remove `/etc/hostid`".
func (i Item) What() []string {
	var out []string
	list := func(verb string, names []string) {
		if len(names) > 0 {
			out = append(out, verb+" "+shown(names))
		}
	}
	list("remove", i.Remove)
	for _, pattern := range slices.Sorted(maps.Keys(i.RemoveIf)) {
		out = append(out, "remove "+shown([]string{pattern})+" where it holds `"+i.RemoveIf[pattern]+"`")
	}
	list("empty", i.RemoveIn)
	for _, name := range slices.Sorted(maps.Keys(i.Write)) {
		out = append(out, "write "+shown([]string{name})+map[bool]string{true: ", empty"}[i.Write[name] == ""])
	}
	for _, e := range i.Edit {
		out = append(out, "edit "+shown([]string{e.Pattern})+": "+e.What)
	}
	return out
}

// shown gives names as a user writes them.
func shown(names []string) string {
	var all []string
	for _, n := range names {
		if !strings.HasPrefix(n, "~/") {
			n = "/" + n
		}
		all = append(all, "`"+n+"`")
	}
	return strings.Join(all, " ")
}

// Options are what a sealed image may still say of itself.
type Options struct {
	// Hostname is a default name that the template asked for; "" is none.
	Hostname string
	// Epoch bounds the dates in /etc/shadow; zero does not.
	Epoch time.Time
	// Keys are the lines of authorized_keys(5) that may stay.
	Keys []string
	// Live says that the tree is the root of the running machine: what it runs
	// on stays (/run), and each change reaches the disk before the next.
	Live bool

	// owner of what is written; tests that are not root have their own.
	owner owner
}

// owner is a user and a group.
type owner struct{ uid, gid uint32 }

// Result tells what an item changed, or would change.
type Result struct {
	Item    string   `json:"item"`
	Changed []string `json:"changed,omitempty"`
}

// Violation is a file that breaks an item.
type Violation struct {
	Item string `json:"item"`
	Path string `json:"path"`
	Want string `json:"want"`
}

func (v Violation) String() string { return fmt.Sprintf("%s: /%s: %s", v.Item, v.Path, v.Want) }

// ItemReport is what Check found of one item.
type ItemReport struct {
	Item       string      `json:"item"`
	Why        string      `json:"why"`
	Violations []Violation `json:"violations,omitempty"`
}

// Check reports on each item, in the order of Items: a tree is sealed when
// none has a violation. What cannot be read is a violation, too: nobody knows
// that it is sealed.
func Check(fsys FS, opts Options) ([]ItemReport, error) {
	p, err := newPlanner(fsys, opts)
	if err != nil {
		return nil, fmt.Errorf("checking the seal: %w", err)
	}
	var out []ItemReport
	for _, item := range Items(opts) {
		r := ItemReport{Item: item.Name, Why: item.Why}
		changes, err := p.plan(item)
		for _, c := range changes {
			r.Violations = append(r.Violations, Violation{item.Name, c.path, c.want})
		}
		if err != nil {
			r.Violations = append(r.Violations, unreadable(item.Name, err))
		}
		out = append(out, r)
	}
	return out, nil
}
