package pipeline

import (
	"crypto/md5"  //nolint:gosec // Packer's checksum post-processor offers it
	"crypto/sha1" //nolint:gosec // the same
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kldload/kldload/internal/disk"
	"github.com/kldload/kldload/internal/template"
)

// describe writes manifests and checksum files. Those that belong into an
// output folder are put there now; the others are returned, by their path, to
// be written once the artifacts have their names.
func (b *build) describe() (map[string][]byte, error) {
	texts := map[string][]byte{}
	for _, chain := range b.spec.PostProcessors {
		for _, p := range chain {
			var err error
			switch {
			case p.Manifest != nil:
				err = b.manifest(*p.Manifest, texts)
			case p.Checksum != nil:
				err = b.checksums(*p.Checksum, texts)
			}
			if err != nil {
				return nil, fmt.Errorf("post-processor %q: %w", p.Type, err)
			}
		}
	}
	b.signTexts(texts)
	outside := map[string][]byte{}
	for name, text := range texts {
		at, inside := b.staged(name)
		if !inside {
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				return nil, err
			}
			outside[name] = text
			continue
		}
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(at, text, 0o644); err != nil {
			return nil, err
		}
	}
	b.result.Files = slices.Compact(slices.Sorted(slices.Values(slices.AppendSeq(b.result.Files, maps.Keys(texts)))))
	return outside, nil
}

// manifest is the file of Packer's manifest post-processor.
type manifest struct {
	Builds      []manifestBuild `json:"builds"`
	LastRunUUID string          `json:"last_run_uuid"`
}

type manifestBuild struct {
	Name          string            `json:"name"`
	BuilderType   string            `json:"builder_type"`
	BuildTime     int64             `json:"build_time,omitempty"`
	Files         []manifestFile    `json:"files"`
	ArtifactID    string            `json:"artifact_id"`
	PackerRunUUID string            `json:"packer_run_uuid"`
	CustomData    map[string]string `json:"custom_data"`
}

type manifestFile struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
}

// manifest adds this build to the manifest that exists, as Packer does. The
// run's UUID follows from the image's ids, so that equal builds are equal.
func (b *build) manifest(m template.Manifest, texts map[string][]byte) error {
	var all manifest
	old, err := os.ReadFile(m.Output)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, replaced := b.staged(m.Output); err == nil && !replaced {
		if err := json.Unmarshal(old, &all); err != nil {
			return fmt.Errorf("reading the manifest %q to add to it: %w\nhint: it is not Packer's JSON; move it away", m.Output, err)
		}
	}
	run := disk.UUID(disk.NewIdentity("run " + b.ids.RootUUID()).Root)
	entry := manifestBuild{
		Name: b.spec.Source.Name, BuilderType: b.spec.Source.Type, ArtifactID: b.src.VMName, PackerRunUUID: run, CustomData: m.CustomData,
	}
	if !m.StripTime {
		entry.BuildTime = b.opts.Now().Unix()
	}
	for _, a := range b.artifacts() {
		name := a.Path
		if m.StripPath {
			name = filepath.Base(name)
		}
		entry.Files = append(entry.Files, manifestFile{name, a.Size})
	}
	all.Builds, all.LastRunUUID = append(all.Builds, entry), run
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	texts[m.Output] = append(text, '\n')
	b.result.Manifest = m.Output
	return nil
}

var hashes = map[string]func() hash.Hash{
	"md5": md5.New, "sha1": sha1.New, "sha224": sha256.New224, "sha256": sha256.New, "sha384": sha512.New384, "sha512": sha512.New,
}

// checksums writes one file per type with a line per artifact, in the form
// sha256sum -c reads.
func (b *build) checksums(c template.Checksum, texts map[string][]byte) error {
	for _, kind := range c.Types {
		output, err := template.Render(c.Output, map[string]string{
			"BuildName": b.spec.Source.Name, "BuilderType": b.spec.Source.Type, "ChecksumType": kind,
		})
		if err != nil {
			return err
		}
		var lines strings.Builder
		for _, a := range b.artifacts() {
			sum, err := a.sum(kind)
			if err != nil {
				return err
			}
			fmt.Fprintf(&lines, "%s  %s\n", sum, filepath.Base(a.Path))
		}
		texts[output] = append(texts[output], lines.String()...)
	}
	return nil
}

// sum hashes an artifact; SHA-256 is known from when it was written.
func (a *Artifact) sum(kind string) (string, error) {
	if kind == "sha256" && a.SHA256 != "" {
		return a.SHA256, nil
	}
	h := hashes[kind]()
	f, err := os.Open(a.staged)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), errors.Join(err, f.Close())
}
