package export

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/kldload/kldload/diskimage"
	"github.com/kldload/kldload/internal/suggest"
	"github.com/kldload/kldload/internal/ui"
)

// format is one entry of the table of formats.
type format struct {
	name      diskimage.Format
	aliases   []string
	extension string
	about     string // who takes it
	keys      []Key
	// rounding is what the disk is rounded up to, for a format whose images
	// cost much to open; 0 leaves it to their header.
	rounding int64
	maker    func() sinkMaker
}

func (f *format) keyNames() []string {
	names := make([]string, 0, len(f.keys))
	for _, k := range f.keys {
		names = append(names, k.Name)
	}
	return names
}

// Key is something that can be set on a format.
type Key struct {
	Name   string
	Values []string // what it can be, the default first; nil when that is no list
	Form   string   // what it is like otherwise: the default, or FILE, TEXT, …
	Help   string
}

// sinkMaker holds the options of one sink to come.
type sinkMaker interface {
	set(key, value string) error
	sink(t diskimage.Target, s *surroundings) (diskimage.Sink, error)
}

// option is a Key of a format whose options are an O.
type option[O any] struct {
	Key
	// set takes a value, one of Values where there are some. What it returns
	// says what is wanted instead; "" is no fault.
	set func(o *O, value string) (want string)
}

// maker is the sinkMaker of a format whose options are an O.
type maker[O any] struct {
	name    diskimage.Format
	options []option[O]
	o       O
	open    func(t diskimage.Target, o O, s *surroundings) (diskimage.Sink, error)
}

func (m *maker[O]) set(key, value string) error {
	var known []string
	for _, op := range m.options {
		known = append(known, op.Name)
		if op.Name != key {
			continue
		}
		for _, v := range op.Values {
			if strings.EqualFold(v, value) {
				value = v
			}
		}
		want := suggest.Listed(op.Values)
		if op.Values == nil || slices.Contains(op.Values, value) {
			want = op.set(&m.o, value)
		}
		if want == "" {
			return nil
		}
		hint := ""
		if near := suggest.Nearest(value, op.Values); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		return mistakef(hint, "%s.%s is %s", m.name, key, want)
	}
	hint := suggest.Hint(key, known)
	if len(known) == 0 {
		hint = "nothing can be set on it"
	}
	return mistakef(hint, "format %s has no %q", m.name, key)
}

func (m *maker[O]) sink(t diskimage.Target, s *surroundings) (diskimage.Sink, error) {
	return m.open(t, m.o, s)
}

// entry builds a row of the table.
func entry[O any](name diskimage.Format, extension, about string, options []option[O],
	open func(t diskimage.Target, o O, s *surroundings) (diskimage.Sink, error), aliases ...string) format {
	f := format{name: name, aliases: aliases, extension: extension, about: about}
	for _, op := range options {
		f.keys = append(f.keys, op.Key)
	}
	f.maker = func() sinkMaker { return &maker[O]{name: name, options: options, open: open} }
	return f
}

// FormatInfo describes a format to people.
type FormatInfo struct {
	Name      string
	Aliases   []string
	Extension string
	About     string
	Keys      []Key
}

// Formats describes the formats, in the order they are shown.
func Formats() []FormatInfo {
	var all []FormatInfo
	for _, f := range formats() {
		all = append(all, FormatInfo{string(f.name), f.aliases, f.extension, f.about, f.keys})
	}
	return all
}

// oneOf is a key with a fixed set of values, the default first.
func oneOf[O any](name, help string, set func(o *O, value string), values ...string) option[O] {
	return option[O]{Key{Name: name, Help: help, Values: values},
		func(o *O, v string) string {
			set(o, v)
			return ""
		}}
}

// text is a key that takes any one line.
func text[O any](name, form, help string, field func(o *O) *string) option[O] {
	return option[O]{Key{Name: name, Form: form, Help: help}, func(o *O, v string) string {
		if v == "" || strings.ContainsAny(v, "\x00\n\r") {
			return "one line of text"
		}
		*field(o) = v
		return ""
	}}
}

// number is a key that takes a whole number.
func number[O any](name, help, def string, from, to int, field func(o *O) *int) option[O] {
	want := fmt.Sprintf("a number from %d to %d", from, to)
	return option[O]{Key{Name: name, Help: help, Form: def}, func(o *O, v string) string {
		n, err := strconv.Atoi(v)
		if err != nil || n < from || n > to {
			return want
		}
		*field(o) = n
		return ""
	}}
}

// blockSize is a key that takes a power of two in bytes.
func blockSize[O any](name, help, def string, from, to int64, field func(o *O) *int) option[O] {
	want := "a power of two from " + sizeText(from) + " to " + sizeText(to)
	return option[O]{Key{Name: name, Help: help, Form: def}, func(o *O, v string) string {
		n, err := ui.ParseBytes(v, 1)
		if err != nil || n < from || n > to || n&(n-1) != 0 {
			return want
		}
		*field(o) = int(n)
		return ""
	}}
}

func sizeText(n int64) string {
	for i, unit := range []string{"", "K", "M", "G"} {
		if n>>(10*i)%1024 != 0 {
			return strconv.FormatInt(n>>(10*i), 10) + unit
		}
	}
	return strconv.FormatInt(n, 10)
}
