package sa

import (
	"fmt"
	"maps"
	"slices"
)

const (
	maxLayout   = 1<<layoutBits - 1
	maxAttrs    = 1 << 12 // in a registry, and in a layout; OpenZFS has 22
	emptyLayout = 1       // a buffer without attributes; so is 0 in type DMU_OT_SA
)

// Table is what a dataset declares about its system attributes. It may be used
// from several goroutines.
type Table struct {
	attrs   map[uint16]declared
	layouts map[uint16]layout
}

// layout is an order of attributes, of which so many vary in length.
type layout struct {
	attrs   []declared
	lengths int
}

// declared is what the registry says about the attribute of a number: which one
// that this package knows, or attrCount, and the length, 0 where it varies.
type declared struct {
	number uint16
	known  attr
	length int
}

// NewTable takes the REGISTRY ZAP of a dataset, name to value, and its LAYOUTS
// ZAP, number to attributes. The attributes up to 15, which old datasets do not
// register, are known without.
//
// It is an error when an attribute is registered with a length other than its own,
// when two have one number, and when a layout has an attribute twice or one that
// nothing declares.
func NewTable(registry map[string]uint64, layouts map[uint16][]uint16) (*Table, error) {
	if len(registry) > maxAttrs {
		return nil, fmt.Errorf("registry of %d system attributes: at most %d", len(registry), maxAttrs)
	}
	t := &Table{attrs: map[uint16]declared{}, layouts: map[uint16]layout{}}
	names := map[uint16]string{}
	for _, name := range slices.Sorted(maps.Keys(registry)) {
		value := registry[name]
		number := uint16(value)
		if other, taken := names[number]; taken {
			return nil, fmt.Errorf("registry of system attributes: %q and %q are both number %d", other, name, number)
		}
		names[number] = name
		d := declared{number, attrCount, int(uint16(value >> 24))}
		if a := slices.IndexFunc(registrations[:], func(r registration) bool { return r.name == name }); a >= 0 {
			d.known = attr(a)
			if want := int(registrations[a].length); d.length != want {
				return nil, fmt.Errorf("registry of system attributes: %q has %d bytes, want %d", name, d.length, want)
			}
		}
		t.attrs[number] = d
	}
	for a := range legacyCount {
		if _, there := t.attrs[uint16(a)]; !there {
			t.attrs[uint16(a)] = declared{uint16(a), a, int(registrations[a].length)}
		}
	}
	for _, number := range slices.Sorted(maps.Keys(layouts)) {
		if err := t.addLayout(number, layouts[number]); err != nil {
			return nil, fmt.Errorf("layout %d of system attributes: %w", number, err)
		}
	}
	return t, nil
}

func (t *Table) addLayout(number uint16, attrs []uint16) error {
	if number > maxLayout || len(attrs) > maxAttrs {
		return fmt.Errorf("%d attributes, want a number of at most %d and at most %d attributes", len(attrs), maxLayout, maxAttrs)
	}
	var l layout
	seen := make(map[uint16]bool, len(attrs))
	for _, a := range attrs {
		d, there := t.attrs[a]
		if !there {
			return fmt.Errorf("attribute %d is not registered", a)
		}
		if seen[a] {
			return fmt.Errorf("attribute %d is there twice", a)
		}
		seen[a] = true
		l.attrs = append(l.attrs, d)
		if d.length == 0 {
			l.lengths++
		}
	}
	t.layouts[number] = l
	return nil
}

// Decode reads bonus buffer and spill block of an object, nil for no spill block.
// Attributes that this package has no field for are passed over.
//
// It is an error when a header, a layout or a length is not as declared, and when
// one of the attributes is missing that every object has.
func (t *Table) Decode(bonus, spill []byte) (Attrs, error) {
	var v values
	if err := t.read(bonus, &v); err != nil {
		return Attrs{}, fmt.Errorf("system attributes in the bonus buffer: %w", err)
	}
	if spill != nil {
		if err := t.read(spill, &v); err != nil {
			return Attrs{}, fmt.Errorf("system attributes in the spill block: %w", err)
		}
	}
	a, err := v.attrs()
	if err != nil {
		return Attrs{}, fmt.Errorf("system attributes: %w", err)
	}
	return a, nil
}

// values are the attributes found, by their number in this package; nil for none.
type values [attrCount][]byte

// read notes where the attributes of a buffer lie.
func (t *Table) read(b []byte, v *values) error {
	if len(b) < headerSize {
		return fmt.Errorf("%d bytes, want a header of %d", len(b), headerSize)
	}
	if got := le.Uint32(b); got != magic {
		return fmt.Errorf("magic %#x, want %#x", got, magic)
	}
	info := le.Uint16(b[4:])
	number, header := info&maxLayout, int(info>>layoutBits)*8
	l, there := t.layouts[number]
	if !there && number > emptyLayout {
		return fmt.Errorf("layout %d is not declared", number)
	}
	if header < headerSize-2+2*l.lengths || header > len(b) {
		return fmt.Errorf("header of %d bytes in a buffer of %d with %d attributes of varying length", header, len(b), l.lengths)
	}
	at, lengthAt := header, headerSize-2
	for _, d := range l.attrs {
		size := d.length
		if size == 0 {
			size = int(le.Uint16(b[lengthAt:]))
			lengthAt += 2
		}
		if at > len(b) || size > len(b)-at {
			return fmt.Errorf("attribute %d of layout %d: %d bytes at %d, the buffer has %d", d.number, number, size, at, len(b))
		}
		if d.known < attrCount {
			if v[d.known] != nil {
				return fmt.Errorf("%s is both in the bonus buffer and in the spill block", registrations[d.known].name)
			}
			v[d.known] = b[at : at+size : at+size]
		}
		at = align8(at + size)
	}
	return nil
}

func (v *values) word(a attr) uint64 {
	if v[a] == nil {
		return 0
	}
	return le.Uint64(v[a])
}

func (v *values) time(a attr) Time {
	return Time{int64(le.Uint64(v[a])), int64(le.Uint64(v[a][8:]))}
}

// attrs makes sense of the values.
func (v *values) attrs() (Attrs, error) {
	for _, a := range base {
		if v[a] == nil {
			return Attrs{}, fmt.Errorf("%s is missing", registrations[a].name)
		}
	}
	a := Attrs{
		Mode: v.word(attrMode), Size: v.word(attrSize), Gen: v.word(attrGen),
		UID: v.word(attrUID), GID: v.word(attrGID), Parent: v.word(attrParent),
		Links: v.word(attrLinks), Rdev: v.word(attrRdev), ProjID: v.word(attrProjID), Flags: v.word(attrFlags),
		ATime: v.time(attrATime), MTime: v.time(attrMTime), CTime: v.time(attrCTime), CRTime: v.time(attrCRTime),
		Symlink: string(v[attrSymlink]), XattrObj: v.word(attrXattr),
	}
	var err error
	if v[attrDACLCount] != nil {
		if a.ACL, err = parseACL(v[attrDACLACEs], v.word(attrDACLCount)); err != nil {
			return Attrs{}, err
		}
	}
	if len(v[attrDXattr]) != 0 {
		if a.Xattrs, err = unpackXattrs(v[attrDXattr]); err != nil {
			return Attrs{}, err
		}
	}
	return a, nil
}
