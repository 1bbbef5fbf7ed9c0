package darksite

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kldload/kldload/internal/run"
)

// source is one suite of a mirror, as apt's deb822 form has it (sources.list(5)).
type source struct {
	uri, suite string
	components []string
	signedBy   string // a path, or an armoured key of several lines
}

// stanza is the source in deb822 form.
func (s source) stanza() string {
	return fmt.Sprintf("Types: deb\nURIs: %s\nSuites: %s\nComponents: %s\nSigned-By: %s\n\n",
		s.uri, s.suite, strings.Join(s.components, " "), s.signedBy)
}

// sources finds where to mirror from: --mirror, or the host's apt sources for
// the wanted release. Host sources of other releases are never used.
func (q *request) sources(ctx context.Context) ([]source, error) {
	var found []source
	var err error
	if len(q.Mirrors) > 0 {
		found, err = parseMirrors(q.Mirrors, q.release)
	} else {
		found, err = hostSources(ctx, q.release)
	}
	if err != nil {
		return nil, err
	}
	for i := range found {
		switch {
		case q.Keyring != "":
			if found[i].signedBy, err = filepath.Abs(q.Keyring); err != nil {
				return nil, err
			}
		case found[i].signedBy == "":
			found[i].signedBy = q.release.keyring
		}
		if key := found[i].signedBy; filepath.IsAbs(key) {
			if _, err := os.Stat(key); err != nil {
				return nil, fmt.Errorf("upstream's keyring: %w\nhint: apt-get install %s, or --keyring FILE", err, q.release.keyringPkg)
			}
		}
	}
	return found, nil
}

func parseMirrors(args []string, rel release) ([]source, error) {
	var out []source
	for _, arg := range args {
		f := strings.Fields(arg)
		if len(f) == 0 || !strings.Contains(f[0], ":/") {
			return nil, fmt.Errorf("--mirror %q: want \"URL [SUITE [COMPONENT…]]\"", arg)
		}
		s := source{uri: f[0], suite: rel.name, components: rel.components}
		if len(f) > 1 {
			s.suite = f[1]
		}
		if len(f) > 2 {
			s.components = f[2:]
		}
		out = append(out, s)
	}
	return out, nil
}

// hostSources reads the host's apt sources and keeps those of the release.
func hostSources(ctx context.Context, rel release) ([]source, error) {
	list, err := aptPath(ctx, "Dir::Etc::sourcelist/f")
	if err != nil {
		return nil, err
	}
	parts, err := aptPath(ctx, "Dir::Etc::sourceparts/d")
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(parts, "*"))
	if err != nil {
		return nil, err
	}
	var all []source
	for _, name := range append([]string{list}, files...) {
		data, err := os.ReadFile(name)
		if os.IsNotExist(err) {
			continue
		} else if err != nil {
			return nil, fmt.Errorf("reading the host's apt sources: %w", err)
		}
		switch filepath.Ext(name) {
		case ".list":
			all = append(all, parseOneLine(data)...)
		case ".sources":
			all = append(all, parseDeb822(data)...)
		}
	}
	found := ofRelease(all, rel)
	if !slices.ContainsFunc(found, func(s source) bool { return s.suite == rel.name }) {
		return nil, fmt.Errorf("no apt source of this host is for %s %s (read %s and %s)\nhint: --mirror \"URL %s\", once for each suite",
			rel.distro, rel.name, list, parts, rel.name)
	}
	return found, nil
}

// ofRelease keeps the suites of rel that carry main, once each, and asks
// for rel's components of them.
func ofRelease(all []source, rel release) []source {
	var found []source
	for _, s := range all {
		if !slices.Contains(rel.suites, s.suite) || !slices.Contains(s.components, "main") {
			continue
		}
		s.uri = strings.TrimRight(s.uri, "/")
		s.components = rel.components
		if !slices.ContainsFunc(found, func(f source) bool { return f.uri == s.uri && f.suite == s.suite }) {
			found = append(found, s)
		}
	}
	return found
}

// aptPath asks apt where the host keeps something.
func aptPath(ctx context.Context, key string) (string, error) {
	out, err := run.Output(ctx, run.Cmd{Doing: "reading the host's apt configuration", Args: []string{"apt-config", "shell", "V", key}})
	if err != nil {
		return "", err
	}
	v := strings.TrimPrefix(strings.TrimSpace(string(out)), "V=")
	return strings.Trim(v, "'"), nil
}

// parseOneLine reads the one-line form of sources.list(5).
func parseOneLine(data []byte) []source {
	var out []source
	for _, line := range strings.Split(string(data), "\n") {
		line, _, _ = strings.Cut(line, "#")
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "deb ")
		if !ok {
			continue
		}
		var s source
		rest = strings.TrimSpace(rest)
		if strings.HasPrefix(rest, "[") {
			var opts string
			opts, rest, _ = strings.Cut(rest[1:], "]")
			for _, o := range strings.Fields(opts) {
				if key, v, _ := strings.Cut(o, "="); key == "signed-by" {
					s.signedBy = v
				}
			}
		}
		f := strings.Fields(rest)
		if len(f) < 3 {
			continue // a flat repository has no suite of ours
		}
		s.uri, s.suite, s.components = f[0], f[1], f[2:]
		out = append(out, s)
	}
	return out
}

// parseDeb822 reads the deb822 form of sources.list(5).
func parseDeb822(data []byte) []source {
	var out []source
	for _, st := range parseStanzas(data) {
		if !slices.Contains(strings.Fields(st.get("Types")), "deb") || strings.EqualFold(st.get("Enabled"), "no") {
			continue
		}
		for _, uri := range strings.Fields(st.get("URIs")) {
			for _, suite := range strings.Fields(st.get("Suites")) {
				out = append(out, source{uri: uri, suite: suite,
					components: strings.Fields(st.get("Components")), signedBy: strings.TrimRight(st.get("Signed-By"), " \n")})
			}
		}
	}
	return out
}

// stanza is one paragraph of a Debian control file (Debian Policy 5.1): its
// text and its fields by lower-case name, continuation lines as they stand.
type stanza struct {
	text   string
	fields map[string]string
}

func (s stanza) get(field string) string { return s.fields[strings.ToLower(field)] }

func parseStanzas(data []byte) []stanza {
	var out []stanza
	cur, last := stanza{fields: map[string]string{}}, ""
	flush := func() {
		if len(cur.fields) > 0 {
			out = append(out, cur)
		}
		cur, last = stanza{fields: map[string]string{}}, ""
	}
	sc := bufio.NewScanner(bytes.NewReader(data))
	sc.Buffer(nil, 4<<20)
	for sc.Scan() {
		line := sc.Text()
		switch {
		case strings.TrimSpace(line) == "":
			flush()
			continue
		case strings.HasPrefix(line, "#"):
			continue
		case line[0] == ' ' || line[0] == '\t':
			if last != "" {
				cur.fields[last] += "\n" + line
			}
		default:
			key, v, _ := strings.Cut(line, ":")
			last = strings.ToLower(key)
			cur.fields[last] = strings.TrimSpace(v)
		}
		cur.text += line + "\n"
	}
	flush()
	return out
}
