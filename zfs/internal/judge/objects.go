package judge

import (
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Object is a file as zdb -dddd prints it.
type Object struct {
	ID                         uint64
	Mode                       uint32 // with the bits of S_IFMT, as st_mode
	UID, GID, Size, Links, Gen uint64
	ModTime                    time.Time // whole seconds, UTC
	Rdev                       uint64    // major<<20 | minor
	Target                     string    // of a symlink
	Parent                     uint64    // ID of the folder
	DnodeSize                  int       // bytes
	Levels                     int       // of the block tree
	Flags                      string    // of the dnode: "USED_BYTES USERUSED_ACCOUNTED …"
	// Xattrs are those kept as system attributes. zdb prints backslashes as
	// they are and other bytes in octal: a value with \ooo in it is misread.
	Xattrs map[string]string
	// Entries are a folder's: IDs by name.
	Entries map[string]uint64
}

// Objects are the files of a dataset ("rpool/ROOT/default", or a snapshot of it)
// by path, "/" being its root. Every name of a hard link is there. Names with
// newlines or " = " in them are not understood.
func Objects(t testing.TB, img, dataset string) map[string]Object {
	t.Helper()
	dir, _ := folder(t, img)
	out, err := zdb(t, "-e", "-p", dir, "-dddd", dataset)
	if err != nil {
		t.Fatalf("zdb -dddd %s in %q: %v\n%s", dataset, img, err, clip(out))
	}
	objects, root, err := parseObjects(out)
	if err != nil {
		t.Fatalf("zdb -dddd %s in %q: %v", dataset, img, err)
	}
	return byPath(t, objects, root)
}

// byPath walks the folders from root.
func byPath(t testing.TB, objects map[uint64]*Object, root uint64) map[string]Object {
	t.Helper()
	files := map[string]Object{}
	var walk func(name string, id uint64)
	walk = func(name string, id uint64) {
		o := objects[id]
		if o == nil {
			t.Fatalf("%q is object %d: zdb shows no such object", name, id)
		}
		if _, twice := files[name]; twice {
			t.Fatalf("%q is there twice", name)
		}
		files[name] = *o
		for child, id := range o.Entries {
			walk(path.Join(name, child), id)
		}
	}
	walk("/", root)
	return files
}

// How zdb prints objects: cmd/zdb/zdb.c, dump_dnode and dump_znode.
var (
	objectLine = regexp.MustCompile(`^ +(-?\d+) +(\d+) +\S+ +\S+ +\S+ +(\S+) +\S+ +\S+ +(.+)$`)
	fieldLine  = regexp.MustCompile(`^\t(dnode flags:|\w+)[ \t]+(.*)$`)
	entryLine  = regexp.MustCompile(`^\t\t(.*) = (\d+) \(type: [^()]*\)\s*$`)
	xattrLine  = regexp.MustCompile(`^\t\t(\S+) = (.*)$`)
	rootLine   = regexp.MustCompile(`^\t\tROOT = (\d+)\s*$`)
)

// parseObjects reads a dataset's dump: objects by ID, and the root folder's.
func parseObjects(out string) (map[uint64]*Object, uint64, error) {
	objects := map[uint64]*Object{}
	var root uint64
	var cur *Object
	master, heading, xattrs := false, false, false
	for line := range strings.Lines(out) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "    Object ") {
			heading = true
			continue
		}
		m := objectLine.FindStringSubmatch(line)
		if heading && m != nil {
			cur, master, xattrs = &Object{}, m[4] == "ZFS master node", false
			cur.ID, _ = strconv.ParseUint(m[1], 10, 64)
			cur.Levels, _ = strconv.Atoi(m[2])
			cur.DnodeSize = dnodeSize(m[3])
			if m[1] != "0" && m[1][0] != '-' {
				objects[cur.ID] = cur
			}
		}
		heading = false
		if cur == nil || m != nil {
			continue
		}
		switch {
		case strings.HasPrefix(line, "\tSA xattrs: "):
			xattrs = true
		case strings.HasPrefix(line, "\tmicrozap:"), strings.HasPrefix(line, "\tFat ZAP stats:"):
			xattrs = false
		}
		if r := rootLine.FindStringSubmatch(line); master && r != nil {
			root, _ = strconv.ParseUint(r[1], 10, 64)
		}
		if err := cur.line(line, xattrs); err != nil {
			return nil, 0, fmt.Errorf("object %d: line %q: %w", cur.ID, line, err)
		}
	}
	if root == 0 {
		return nil, 0, fmt.Errorf("no ROOT in a master node: is it a file system?")
	}
	return objects, root, nil
}

// dnodeSize reads what zdb prints with nicenum: 512, 1K, 16K.
func dnodeSize(s string) int {
	n, _ := strconv.Atoi(strings.TrimSuffix(s, "K"))
	if strings.HasSuffix(s, "K") {
		n <<= 10
	}
	return n
}

// line takes one line below an object's first; xattrs tells that attributes
// were announced.
func (o *Object) line(line string, xattrs bool) error {
	if strings.HasPrefix(line, "\t\t") {
		if m := xattrLine.FindStringSubmatch(line); xattrs && m != nil {
			if o.Xattrs == nil {
				o.Xattrs = map[string]string{}
			}
			o.Xattrs[m[1]] = unescape(m[2])
		} else if m := entryLine.FindStringSubmatch(line); m != nil {
			if o.Entries == nil {
				o.Entries = map[string]uint64{}
			}
			o.Entries[m[1]], _ = strconv.ParseUint(m[2], 10, 64)
		}
		return nil
	}
	m := fieldLine.FindStringSubmatch(line)
	if m == nil {
		return nil
	}
	return o.field(m[1], m[2])
}

func (o *Object) field(name, value string) (err error) {
	number := func(to *uint64) { *to, err = strconv.ParseUint(value, 0, 64) }
	switch name {
	case "dnode flags:":
		o.Flags = strings.TrimSpace(value)
	case "target":
		o.Target = value
	case "mode":
		var mode uint64
		mode, err = strconv.ParseUint(value, 8, 32)
		o.Mode = uint32(mode)
	case "mtime":
		o.ModTime, err = time.Parse(time.ANSIC, value)
	case "uid":
		number(&o.UID)
	case "gid":
		number(&o.GID)
	case "size":
		number(&o.Size)
	case "links":
		number(&o.Links)
	case "gen":
		number(&o.Gen)
	case "parent":
		number(&o.Parent)
	case "rdev":
		number(&o.Rdev)
	}
	return err
}

// octal is a byte as zdb prints what is not printable.
var octal = regexp.MustCompile(`\\[0-3][0-7][0-7]`)

func unescape(s string) string {
	return octal.ReplaceAllStringFunc(s, func(m string) string {
		b, _ := strconv.ParseUint(m[1:], 8, 8)
		return string([]byte{byte(b)})
	})
}
