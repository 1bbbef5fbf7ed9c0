package machine

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"unicode/utf8"
)

// Check is one named script that must succeed in the clone.
type Check struct {
	Name   string
	Script string // for sh -e, as root
	Line   int    // where its name stands in the file, from 1
}

// checksMax bounds a checks file.
const checksMax = 1 << 20

//go:embed checks/default.checks
var defaultChecks string

// DefaultChecks are the smoke checks every image must pass.
func DefaultChecks() []Check {
	checks, err := ParseChecks("default.checks", strings.NewReader(defaultChecks))
	if err != nil {
		panic(err) // the file is part of the program and tested
	}
	return checks
}

// ReadChecks reads a checks file.
func ReadChecks(name string) ([]Check, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("reading checks: %w", err)
	}
	defer f.Close()
	return ParseChecks(name, f)
}

// checkHead is a line that starts a check.
var checkHead = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._-]{0,39}):(?:[ \t]+(.*))?$`)

// ParseChecks reads the lines of a checks file: "name: command", indented
// lines that continue the command, and comments from # in the first column.
// Errors start with file:line. The file name is for them alone.
func ParseChecks(file string, r io.Reader) ([]Check, error) {
	text, err := io.ReadAll(io.LimitReader(r, checksMax+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading checks %q: %w", file, err)
	case len(text) > checksMax:
		return nil, fmt.Errorf("checks %q: larger than 1 MiB", file)
	}
	var checks []Check
	var errs []error
	lines := map[string]int{}
	for i, line := range strings.Split(string(text), "\n") {
		n, line := i+1, strings.TrimRight(line, " \t\r")
		at := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("%s:%d: "+format, append([]any{file, n}, args...)...))
		}
		head := checkHead.FindStringSubmatch(line)
		switch {
		case !utf8.ValidString(line) || strings.ContainsRune(line, 0):
			at("not UTF-8 text")
		case line == "" || line[0] == '#':
		case line[0] == ' ' || line[0] == '\t':
			if len(checks) == 0 {
				at("an indented line continues a check, and there is none above it")
				continue
			}
			last := &checks[len(checks)-1]
			last.Script += strings.TrimLeft(line, " \t") + "\n"
		case head == nil:
			at("want \"name: command\" (a name has letters, digits, dots, dashes and underscores), got %q", short(line))
		case lines[head[1]] != 0:
			at("check %q is on line %d already", head[1], lines[head[1]])
		default:
			lines[head[1]] = n
			check := Check{Name: head[1], Line: n}
			if head[2] != "" {
				check.Script = head[2] + "\n"
			}
			checks = append(checks, check)
		}
	}
	return checks, errors.Join(append(errs, emptyChecks(file, checks)...)...)
}

// emptyChecks are the errors of a file, or of checks, with nothing in them.
func emptyChecks(file string, checks []Check) []error {
	if len(checks) == 0 {
		return []error{fmt.Errorf("%s:1: no check in this file\nhint: one per line, \"name: command\"", file)}
	}
	var errs []error
	for _, c := range checks {
		if c.Script == "" {
			errs = append(errs, fmt.Errorf("%s:%d: check %q has no command", file, c.Line, c.Name))
		}
	}
	return errs
}

func short(s string) string {
	if r := []rune(s); len(r) > 60 {
		return string(r[:60]) + "…"
	}
	return s
}
