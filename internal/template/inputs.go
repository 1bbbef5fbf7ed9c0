package template

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Roles of an Input.
const (
	RoleTemplate  = "template"
	RoleVariables = "variables"
	RoleFunction  = "function" // file() and templatefile()
)

// Input is a file that was read to understand the template.
type Input struct {
	Path string // relative to the template's folder where it is inside, else as written; slashes
	Role string
	// SHA256 is the digest in hex. It is empty for a file, other than a template,
	// that holds a sensitive value: a digest would let a short one be guessed.
	SHA256 string
}

// Files gives what was read, by role and path.
func (t *Template) Files() []Input { return slices.Clone(t.files) }

// ShownPath is how a file is called in what outlives a build: relative to the
// folder dir of the template where it is inside, the same wherever that lies;
// "~/…" where it is in the user's home, whose name is nobody's business.
func ShownPath(dir, path string) string {
	root, errRoot := filepath.Abs(dir)
	abs, errAbs := filepath.Abs(path)
	if errRoot == nil && errAbs == nil {
		if rel, err := filepath.Rel(root, abs); err == nil && filepath.IsLocal(rel) {
			return filepath.ToSlash(rel)
		}
	}
	if home, err := os.UserHomeDir(); err == nil && filepath.IsAbs(path) {
		if rel, err := filepath.Rel(home, path); err == nil && filepath.IsLocal(rel) {
			return "~/" + filepath.ToSlash(rel)
		}
	}
	return filepath.ToSlash(path)
}

// reads notes a file that was opened under a path, once for each role.
func (l *loader) reads(role, path string, text []byte) {
	in := Input{Path: ShownPath(l.at(l.root), path), Role: role}
	if !slices.ContainsFunc(l.filesRead, func(r readText) bool { return r.input == in }) {
		l.filesRead = append(l.filesRead, readText{in, text})
	}
}

// readText is an input before all secrets are known.
type readText struct {
	input Input
	text  []byte
}

// inputFiles are the inputs with their digests.
func (l *loader) inputFiles() []Input {
	var files []Input
	for _, r := range l.filesRead {
		if r.input.Role == RoleTemplate || !l.holdsSecret(string(r.text)) {
			sum := sha256.Sum256(r.text)
			r.input.SHA256 = hex.EncodeToString(sum[:])
		}
		files = append(files, r.input)
	}
	slices.SortFunc(files, func(a, b Input) int {
		return cmp.Or(strings.Compare(a.Role, b.Role), strings.Compare(a.Path, b.Path))
	})
	return files
}

// holdsSecret tells whether a text has a sensitive value in it or is a part of
// one.
func (l *loader) holdsSecret(text string) bool {
	trimmed := strings.TrimSpace(text)
	return slices.ContainsFunc(l.secrets, func(s string) bool {
		return strings.Contains(text, s) || trimmed != "" && strings.Contains(s, trimmed)
	})
}
