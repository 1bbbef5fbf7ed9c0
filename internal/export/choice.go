package export

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/kldload/kldload/diskimage"
	"github.com/kldload/kldload/internal/suggest"
)

// Mistake is an error in what was asked for: a format or setting that there is
// not. Its message ends with the hint, on a line of its own.
type Mistake struct{ Text, Hint string }

func (m *Mistake) Error() string {
	if m.Hint == "" {
		return m.Text
	}
	return m.Text + "\nhint: " + m.Hint
}

func mistakef(hint, format string, args ...any) error {
	return &Mistake{Text: fmt.Sprintf(format, args...), Hint: hint}
}

// Choice is a format that was asked for and what is set on it.
type Choice struct {
	f    format
	sink sinkMaker
	// options are what was set, by key; those that were set for this format
	// by name stay when a later setting is for all formats.
	options map[string]string
	byName  map[string]bool
}

// Choose takes a list of formats, "all" for every one there is.
func Choose(names []string) ([]*Choice, error) {
	if slices.Equal(names, []string{"all"}) {
		names = Names()
	}
	if len(names) == 0 {
		return nil, mistakef(haveFormats(), "no format")
	}
	var choices []*Choice
	for _, name := range names {
		c, err := NewChoice(name)
		if err != nil {
			return nil, err
		}
		for _, have := range choices {
			if have.Format() == c.Format() {
				return nil, mistakef("", "format %q is there twice", c.Format())
			}
		}
		choices = append(choices, c)
	}
	return choices, nil
}

// NewChoice is the format of that name or alias, with nothing set.
func NewChoice(name string) (*Choice, error) {
	for _, f := range formats() {
		if name == string(f.name) || slices.Contains(f.aliases, name) {
			return &Choice{f: f, sink: f.maker(), options: map[string]string{}, byName: map[string]bool{}}, nil
		}
	}
	hint := haveFormats()
	if near := suggest.Nearest(name, Names()); near != "" && name != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	return nil, mistakef(hint, "format %q: no such format", name)
}

func haveFormats() string { return "have " + strings.Join(Names(), ", ") }

// Names lists the formats, in the order they are shown.
func Names() []string {
	var names []string
	for _, f := range formats() {
		names = append(names, string(f.name))
	}
	return names
}

// Format is the format's name.
func (c *Choice) Format() diskimage.Format { return c.f.name }

// Extension is how the names of such files end, with the dot.
func (c *Choice) Extension() string { return c.f.extension }

// Options are the settings that were made, by key.
func (c *Choice) Options() map[string]string { return maps.Clone(c.options) }

// Set makes one setting on the choices it is for:
//
//	FORMAT.KEY=VALUE  on that format
//	KEY=VALUE         on each format that has the key and takes the value
//	VALUE             the same with the key "subformat"
//
// A setting that fits none of them is a Mistake that tells what there is.
func Set(choices []*Choice, setting string) error {
	key, value, ok := strings.Cut(setting, "=")
	if !ok {
		key, value = "subformat", setting
	}
	name, rest, prefixed := strings.Cut(key, ".")
	if prefixed {
		c, err := chosen(choices, name, setting)
		if err != nil {
			return err
		}
		return c.set(rest, value, setting)
	}
	return setAll(choices, key, value, setting)
}

// chosen finds the choice a setting names.
func chosen(choices []*Choice, name, setting string) (*Choice, error) {
	want, err := NewChoice(name)
	if err != nil {
		return nil, inSetting(setting, err)
	}
	for _, c := range choices {
		if c.Format() == want.Format() {
			return c, nil
		}
	}
	return nil, mistakef("", "setting %q: format %q is not among those asked for", setting, name)
}

func (c *Choice) set(key, value, setting string) error {
	if c.byName[key] {
		return mistakef("", "setting %q: %s.%s is set already", setting, c.f.name, key)
	}
	if err := c.sink.set(key, value); err != nil {
		return inSetting(setting, err)
	}
	c.options[key], c.byName[key] = value, true
	return nil
}

// setAll sets key where there is one that takes the value.
func setAll(choices []*Choice, key, value, setting string) error {
	var known []string
	var refused []error
	set := 0
	for _, c := range choices {
		known = append(known, c.f.keyNames()...)
		if !slices.Contains(c.f.keyNames(), key) {
			continue
		}
		if c.byName[key] {
			set++
			continue
		}
		if err := c.sink.set(key, value); err != nil {
			refused = append(refused, err)
			continue
		}
		c.options[key] = value
		set++
	}
	switch {
	case set > 0:
		return nil
	case len(refused) > 0:
		return inSetting(setting, refused...)
	}
	slices.Sort(known)
	hint := suggest.Hint(key, slices.Compact(known))
	return mistakef(hint, "setting %q: none of the formats asked for has %q", setting, key)
}

// inSetting puts the setting before what is wrong with it.
func inSetting(setting string, errs ...error) error {
	m := Mistake{}
	var texts []string
	for _, err := range errs {
		var one *Mistake
		if !errors.As(err, &one) {
			return fmt.Errorf("setting %q: %w", setting, err)
		}
		texts = append(texts, one.Text)
		if one.Hint != "" {
			m.Hint = one.Hint
		}
	}
	m.Text = fmt.Sprintf("setting %q: %s", setting, strings.Join(texts, "; "))
	return &m
}

// surroundings are what a sink needs beside its settings.
type surroundings struct {
	path      string   // the name the image will have
	outputs   []string // those of all images of the pass
	temp      string   // folder for temporary files
	timestamp time.Time
	noDigest  bool
	close     []func() error // what is open while the sink writes
}

// name is what a format calls the disk or machine that stores a name.
func (s *surroundings) name() string { return stem(s.path) }
