package scan

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// AllowList are the findings a user accepts. A nil list accepts none.
type AllowList struct {
	file    string
	entries []*allowEntry
	mu      sync.Mutex
}

type allowEntry struct {
	Path        string `toml:"path"`
	Rule        string `toml:"rule"`
	Fingerprint string `toml:"fingerprint"`
	Reason      string `toml:"reason"`
	Expires     any    `toml:"expires"`

	line    int
	re      *regexp.Regexp
	expired bool
	used    bool
}

// maxAllowList bounds the file, and other lists that users give.
const maxAllowList = 1 << 20

// ReadList reads a list that a user gives, whole: 1 MiB at most, of a regular
// file or of a pipe that the shell opened (/dev/fd/N), so that values need not
// lie on a disk. It does not wait for the writer of a FIFO.
func ReadList(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	pipe := st.Mode()&os.ModeNamedPipe != 0 && strings.HasPrefix(name, "/dev/fd/")
	if !st.Mode().IsRegular() && !pipe {
		return nil, fmt.Errorf("%q: want a regular file, or <(COMMAND) of the shell", name)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxAllowList+1))
	if err == nil && len(text) > maxAllowList {
		err = fmt.Errorf("%q has more than %d KiB", name, maxAllowList>>10)
	}
	return text, err
}

// ReadAllowList reads a list in TOML: tables [[allow]] with path or
// fingerprint, rule, reason and expires. Now is the day that expires is held
// against. Errors name file and line.
func ReadAllowList(name string, now time.Time) (*AllowList, error) {
	text, err := ReadList(name)
	if err != nil {
		return nil, fmt.Errorf("reading the allow-list: %w", err)
	}
	return ParseAllowList(name, text, now)
}

// ParseAllowList is ReadAllowList for text that is in memory.
func ParseAllowList(name string, text []byte, now time.Time) (*AllowList, error) {
	if len(text) > maxAllowList {
		return nil, fmt.Errorf("%s: the allow-list has %d bytes, want at most %d", name, len(text), maxAllowList)
	}
	var file struct {
		Allow []allowEntry `toml:"allow"`
	}
	d := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields()
	if err := d.Decode(&file); err != nil {
		return nil, allowError(name, err)
	}
	lines := tableLines(text)
	l := &AllowList{file: name}
	for i := range file.Allow {
		e := &file.Allow[i]
		if i < len(lines) {
			e.line = lines[i]
		}
		if err := e.check(now); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, e.line, err)
		}
		l.entries = append(l.entries, e)
	}
	return l, nil
}

const allowHint = "\nhint: keys of an [[allow]] entry: path, rule, fingerprint, reason, expires"

func allowError(name string, err error) error {
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) && len(strict.Errors) > 0 {
		row, _ := strict.Errors[0].Position()
		return fmt.Errorf("%s:%d: unknown key %q%s", name, row, strings.Join(strict.Errors[0].Key(), "."), allowHint)
	}
	var bad *toml.DecodeError
	if errors.As(err, &bad) {
		row, col := bad.Position()
		return fmt.Errorf("%s:%d:%d: %s%s", name, row, col, strings.TrimPrefix(bad.Error(), "toml: "), allowHint)
	}
	return fmt.Errorf("%s: %w%s", name, err, allowHint)
}

// tableLines are the lines of the [[allow]] headers, in order.
func tableLines(text []byte) []int {
	var p unstable.Parser
	p.Reset(text)
	var lines []int
	for p.NextExpression() {
		e := p.Expression()
		if e.Kind != unstable.ArrayTable {
			continue
		}
		if it := e.Key(); it.Next() {
			lines = append(lines, p.Shape(it.Node().Raw).Start.Line)
		}
	}
	return lines
}

func (e *allowEntry) check(now time.Time) error {
	if strings.TrimSpace(e.Reason) == "" {
		return errors.New("an [[allow]] entry has no reason\nhint: reason = \"why this may ship\"")
	}
	if e.Path == "" && e.Fingerprint == "" {
		return errors.New("an [[allow]] entry has neither path nor fingerprint\nhint: path = \"/etc/example/*\", \"**\" for any")
	}
	if e.Path != "" {
		var err error
		if e.re, err = globRegexp(e.Path); err != nil {
			return fmt.Errorf("path %q: %w", e.Path, err)
		}
	}
	if e.Fingerprint != "" && !fingerprintForm.MatchString(e.Fingerprint) {
		return fmt.Errorf("fingerprint %q: want %d hexadecimal digits, as a scan prints them", e.Fingerprint, 2*fingerprintSize)
	}
	return e.checkExpiry(now)
}

func (e *allowEntry) checkExpiry(now time.Time) error {
	var day string
	switch v := e.Expires.(type) {
	case nil:
		return nil
	case string:
		day = v
	case toml.LocalDate:
		day = v.String()
	default:
		day = fmt.Sprint(v)
	}
	t, err := time.Parse(time.DateOnly, day)
	if err != nil {
		return fmt.Errorf("expires %q: want a day like 2027-01-31", day)
	}
	e.expired = !now.Before(t.AddDate(0, 0, 1))
	return nil
}

// byFingerprint says whether an entry asks for one.
func (l *AllowList) byFingerprint() bool {
	return l != nil && slices.ContainsFunc(l.entries, func(e *allowEntry) bool { return e.Fingerprint != "" && !e.expired })
}

// reason gives the reason of the first entry that accepts f.
func (l *AllowList) reason(f Finding) string {
	if l == nil {
		return ""
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.entries {
		if e.expired || e.Rule != "" && e.Rule != f.Rule || e.Fingerprint != "" && e.Fingerprint != f.Fingerprint ||
			e.re != nil && !e.accepts(f.Path) {
			continue
		}
		e.used = true
		return e.Reason
	}
	return ""
}

// accepts says whether a path is of the entry's pattern. What is in no file
// (free space, slack) has no path, and is accepted by "**" alone.
func (e *allowEntry) accepts(path string) bool {
	if path == "" {
		return strings.Trim(e.Path, "/") == "**"
	}
	return e.re.MatchString(trimSlash(path))
}

// unused notes entries that accepted nothing.
func (l *AllowList) unused() []Note {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var notes []Note
	for _, e := range l.entries {
		switch {
		case e.expired:
			notes = append(notes, Note{Text: fmt.Sprintf("%s:%d: the allow entry has expired", l.file, e.line)})
		case !e.used:
			notes = append(notes, Note{Text: fmt.Sprintf("%s:%d: the allow entry is not used", l.file, e.line)})
		}
	}
	return notes
}
