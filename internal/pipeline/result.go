package pipeline

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/kldload/kldload/internal/disk"
	"github.com/kldload/kldload/internal/evidence"
	"github.com/kldload/kldload/internal/export"
	"github.com/kldload/kldload/internal/machine"
	"github.com/kldload/kldload/internal/scan"
	"github.com/kldload/kldload/internal/ui"
	"github.com/kldload/kldload/internal/verify"
)

// Result is what a build made, for people and for --json.
type Result struct {
	Name      string          `json:"name"`
	Darksite  string          `json:"darksite"` // digest
	Epoch     int64           `json:"source_date_epoch"`
	Variables json.RawMessage `json:"variables,omitempty"` // secrets masked
	Artifacts []*Artifact     `json:"artifacts"`
	Manifest  string          `json:"manifest,omitempty"`
	Files     []string        `json:"files,omitempty"`     // manifests, checksums, evidence, signatures
	SignedBy  string          `json:"signed_by,omitempty"` // the key's fingerprint
	Stages    []Stage         `json:"stages"`
	Root      *Root           `json:"root,omitempty"`
	Checks    []verify.Check  `json:"checks"`
	Scan      *scan.Report    `json:"scan,omitempty"`
	Boot      *machine.Report `json:"boot,omitempty"`
}

// Root is the root file system of the disk.
type Root struct {
	Type  string `json:"type"` // ext4 or zfs
	Files int    `json:"files"`
	disk.Stats
	Pool     string `json:"pool,omitempty"`
	Datasets int    `json:"datasets,omitempty"`
}

// Artifact is one image file.
type Artifact struct {
	Format string `json:"format"`
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`

	name   string // base of Path without the extension
	choice *export.Choice
	staged string
}

// Stage is how one step went.
type Stage struct {
	Name    string  `json:"name"`
	Detail  string  `json:"detail,omitempty"`
	Cached  bool    `json:"cached,omitempty"`
	Seconds float64 `json:"seconds"`
}

// Summary tells what was made, where, and how to go on.
func (r *Result) Summary() string {
	var b strings.Builder
	for _, a := range r.Artifacts {
		fmt.Fprintf(&b, "%s  %s  %s  sha256:%s\n", a.Path, a.Format, ui.Bytes(a.Size), a.SHA256)
	}
	for _, name := range r.Files {
		// Each artifact has its sum above, each of the others a signature.
		if !strings.HasSuffix(name, export.ChecksumSuffix) && !strings.HasSuffix(name, evidence.SignatureSuffix) {
			fmt.Fprintln(&b, name)
		}
	}
	var total float64
	for _, s := range r.Stages {
		total += s.Seconds
	}
	fmt.Fprintf(&b, "done in %s, SOURCE_DATE_EPOCH=%d\n", ui.Seconds(time.Duration(total*float64(time.Second))), r.Epoch)
	for _, a := range r.Artifacts {
		if a.bootable() {
			fmt.Fprintf(&b, "next: kldload boot %s", a.Path)
			break
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// Brief is the first artifact's path.
func (r *Result) Brief() string {
	if len(r.Artifacts) == 0 {
		return ""
	}
	return r.Artifacts[0].Path
}
