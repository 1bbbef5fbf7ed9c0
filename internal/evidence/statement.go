package evidence

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
)

// URIs of the forms that are written.
const (
	statementType  = "https://in-toto.io/Statement/v1"
	provenanceType = "https://slsa.dev/provenance/v1"
	// BuildType says what externalParameters mean; the page is docs/evidence.md.
	BuildType = "https://github.com/kldload/kldload/blob/main/docs/evidence.md#build-type-v1"
	// BuilderID is this program, on the machine of whoever has the key.
	BuilderID = "https://github.com/kldload/kldload"
)

// Statement is an in-toto statement.
type Statement struct {
	Type          string          `json:"_type"`
	Subject       []Resource      `json:"subject"`
	PredicateType string          `json:"predicateType"`
	Predicate     json.RawMessage `json:"predicate"`
}

// Resource is an in-toto resource descriptor.
type Resource struct {
	URI         string            `json:"uri,omitempty"`
	Digest      map[string]string `json:"digest,omitempty"` // algorithm to hex
	Name        string            `json:"name,omitempty"`
	Annotations map[string]any    `json:"annotations,omitempty"`
}

// File is a resource with a SHA-256 in hex.
func File(name, sha256 string) Resource {
	return Resource{Name: name, Digest: map[string]string{"sha256": sha256}}
}

// Input is a file that a build read.
type Input struct {
	Path string `json:"path"` // relative to the template's folder where it is inside, with slashes
	Role string `json:"role"` // template, variables, function, script, upload, checks
	// SHA256 is absent of a variable file that gives a sensitive variable: a
	// digest would let a short secret be guessed.
	SHA256 string `json:"sha256,omitempty"`
}

// Build is what a build says of itself.
type Build struct {
	Subjects  []Resource
	Name      string // the build's id in the template
	Variables json.RawMessage
	Formats   []string
	Epoch     int64 // SOURCE_DATE_EPOCH
	Inputs    []Input
	Darksite  string // "sha256:…"
	Git       *Git   // nil outside of a repository
	Version   string // of kldload
}

// Git is the commit that a template was at.
type Git struct {
	URI    string // of the remote "origin", "" without one
	Commit string
	Dirty  bool // a tracked file in the template's folder is not as committed
}

// provenance is the SLSA v1 predicate (https://slsa.dev/spec/v1.0/provenance).
type provenance struct {
	Definition struct {
		BuildType            string     `json:"buildType"`
		ExternalParameters   external   `json:"externalParameters"`
		ResolvedDependencies []Resource `json:"resolvedDependencies"`
	} `json:"buildDefinition"`
	Run struct {
		Builder builder `json:"builder"`
	} `json:"runDetails"`
}

type external struct {
	Build     string          `json:"build"`
	Inputs    []Input         `json:"inputs"`
	Variables json.RawMessage `json:"variables"`
	Formats   []string        `json:"formats"`
	Epoch     int64           `json:"sourceDateEpoch"`
}

type builder struct {
	ID      string            `json:"id"`
	Version map[string]string `json:"version"`
}

// Provenance is the statement of a build. It holds no time and no id of the
// run: the same build gives the same bytes.
func Provenance(b Build) (*Statement, error) {
	if len(b.Subjects) == 0 {
		return nil, errors.New("provenance of nothing: want an artifact")
	}
	if len(b.Variables) == 0 {
		b.Variables = json.RawMessage("{}")
	}
	var p provenance
	p.Definition.BuildType = BuildType
	p.Definition.ExternalParameters = external{b.Name, b.Inputs, b.Variables, b.Formats, b.Epoch}
	p.Definition.ResolvedDependencies = []Resource{File("darksite", strings.TrimPrefix(b.Darksite, "sha256:"))}
	if g := b.Git; g != nil {
		r := Resource{Name: "template", Digest: map[string]string{"gitCommit": g.Commit}, Annotations: map[string]any{"dirty": g.Dirty}}
		if g.URI != "" {
			r.URI = "git+" + g.URI
		}
		p.Definition.ResolvedDependencies = append(p.Definition.ResolvedDependencies, r)
	}
	p.Run.Builder = builder{BuilderID, map[string]string{"kldload": b.Version}}
	return statement(b.Subjects, provenanceType, p)
}

// statement sorts the subjects by name.
func statement(subjects []Resource, kind string, predicate any) (*Statement, error) {
	text, err := marshal(predicate)
	if err != nil {
		return nil, err
	}
	subjects = slices.Clone(subjects)
	slices.SortFunc(subjects, func(a, b Resource) int { return strings.Compare(a.Name, b.Name) })
	return &Statement{statementType, subjects, kind, text}, nil
}
