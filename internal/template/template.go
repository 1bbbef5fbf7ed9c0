package template

import (
	"bytes"
	"encoding/json"
	"slices"
	"time"

	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/kldload/kldload/internal/zpool"
)

// Template is a template with its variables set.
type Template struct {
	Dir             string // the template's folder, as path.root gives it
	RequiredVersion string // the constraint of the packer block; "" without one
	RequiredPlugins []Plugin
	Variables       []Variable // by name
	Builds          []Build    // in order of the build blocks, then of their sources

	secrets []string
	named   []Secret
	inputs  json.RawMessage
	files   []Input
}

// Sensitive gives the strings that must not be shown: the values of sensitive
// variables and locals, and what is inside them; longest first, for masking.
func (t *Template) Sensitive() []string { return slices.Clone(t.secrets) }

// Secret is a sensitive string and the variable or local it is of.
type Secret struct{ Name, Value string }

// Secrets gives the sensitive strings by name, in the order they were met.
func (t *Template) Secrets() []Secret { return slices.Clone(t.named) }

// Inputs gives the variables and their values as one JSON object with sorted
// keys, sensitive values as "<sensitive>". The same inputs give the same bytes.
func (t *Template) Inputs() json.RawMessage { return slices.Clone(t.inputs) }

// Plugin is one entry of required_plugins.
type Plugin struct {
	Name, Version, Source string
	Range                 Range
}

// Variable is an input variable.
type Variable struct {
	Name        string
	Type        string // as written; "" when not declared
	Description string
	Sensitive   bool
	From        string // "default", "PKR_VAR_x", "-var x" or the name of a variable file
	Range       Range  // of its declaration
}

// Build is one source in one build block, with the provisioners and
// post-processors that apply to it. A build block with two sources gives two.
type Build struct {
	Name           string // of the build block, "" without one
	Description    string
	Source         Source
	Provisioners   []Provisioner
	PostProcessors [][]PostProcessor // chains; a lone post-processor is a chain of one
	Range          Range             // of the build block
}

// ID is Packer's name of a build: "NAME.TYPE.SOURCE", or "TYPE.SOURCE" when
// the build block has no name.
func (b *Build) ID() string {
	id := b.Source.Type + "." + b.Source.Name
	if b.Name != "" {
		return b.Name + "." + id
	}
	return id
}

// Source is what an image is made from. Exactly one of the pointers is set,
// the one for Type.
type Source struct {
	Type, Name string
	Kldload    *Kldload
	Range      Range
}

// Kldload is source "kldload": a tree installed from a darksite, without a VM.
type Kldload struct {
	Darksite         string // folder; relative to the working directory
	DarksiteDigest   string // "sha256:…" its lock must have; "" for any
	Distro, Release  string
	Profile          string
	Kernel           string // "generic" or "cloud"
	ExtraPackages    []string
	DiskSize         int64         // bytes, a multiple of 1 MiB
	Storage          string        // "zfs" or "ext4"
	Pool             *zpool.Layout // of storage "zfs"
	Hostname         string        // "" leaves it to the first boot
	Timezone, Locale string
	Users            []User
	KernelParameters []string // added to the kernel command line
	OutputDirectory  string
	VMName           string // base name of the artifacts, without an extension
	SkipBoot         bool
	BootTimeout      time.Duration
	Checks           string // file of smoke checks; "" for the built-in ones
	SignKey          string // file with the private key that signs the evidence; "" for the user's own
	ScanAllow        string // file of findings that the scan accepts; "" for none
}

// User is an account of the image. It has no password: secrets are injected
// when the image is deployed.
type User struct {
	Name              string
	Groups            []string
	Shell             string
	Sudo              string // the rule after the name in sudoers; "" for none
	SSHAuthorizedKeys []string
	Gecos             string
}

// Provisioner changes the tree. Exactly one of the pointers is set.
type Provisioner struct {
	Type  string
	Shell *Shell
	File  *File
	Range Range
}

// Shell runs commands in the tree. Exactly one of Inline and Scripts is set.
type Shell struct {
	Inline          []string
	InlineShebang   string   // without #!
	Scripts         []string // files; relative to the working directory
	EnvironmentVars []string // NAME=value: those of environment_vars, then those of env by name
	ExecuteCommand  string   // for [Render] with Path and Vars
	ValidExitCodes  []int
	RemoteFolder    string // in the tree, where scripts are put
	Network         bool   // the network of the host
}

// File copies between the host and the tree. Exactly one of Sources and
// Content is set.
type File struct {
	Sources     []string // host files or folders for upload, tree paths for download
	Content     *string
	Destination string // tree path for upload, host path for download
	Direction   string // "upload" or "download"
}

// PostProcessor works on the artifact. Exactly one of the pointers is set.
type PostProcessor struct {
	Type     string
	Name     string
	Kexport  *Kexport
	Manifest *Manifest
	Checksum *Checksum
	Range    Range
}

// Kexport writes the disk in other formats.
type Kexport struct {
	Formats         []string // names of package export, each once
	Settings        []string // "KEY=VALUE", for export.Set
	OutputDirectory string   // "" for the source's
	VMName          string   // "" for the source's
}

// Manifest writes Packer's manifest.
type Manifest struct {
	Output               string
	StripPath, StripTime bool
	CustomData           map[string]string
}

// Checksum writes a checksum file for each type.
type Checksum struct {
	Types  []string
	Output string // for [Render] with BuildName, BuilderType and ChecksumType
}

// inputs notes the variables in the result and gives them as JSON.
func (l *loader) inputs() json.RawMessage {
	all := map[string]json.RawMessage{}
	for name, v := range l.variables {
		l.result.Variables = append(l.result.Variables, v.Variable)
		text := []byte(`"` + masked + `"`)
		if !v.Sensitive {
			var err error
			if text, err = ctyjson.Marshal(v.value, v.value.Type()); err != nil {
				text = []byte("null") // cannot be: values are known and of plain types
			}
		}
		all[name] = text
	}
	slices.SortFunc(l.result.Variables, func(a, b Variable) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // "<sensitive>" is for people
	if err := enc.Encode(all); err != nil {
		return nil
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
