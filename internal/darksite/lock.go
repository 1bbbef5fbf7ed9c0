package darksite

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Names in a darksite's folder.
const (
	lockName = "darksite.lock"
	keyName  = "darksite.gpg"
)

// lockSchema is the version of Lock's JSON form. A reader refuses others.
const lockSchema = 1

// Lock names everything in a darksite. Two darksites with the same lock hold
// the same bytes in their pool.
type Lock struct {
	Schema  int    `json:"schema"`
	Distro  string `json:"distro"`
	Release string `json:"release"`
	Arch    string `json:"arch"`
	// Epoch is the newest Date of the upstream Release files, in seconds
	// since 1970: the default SOURCE_DATE_EPOCH of builds.
	Epoch          int64  `json:"epoch"`
	KeyFingerprint string `json:"key_fingerprint"`
	// Profiles maps a profile to the packages its list names, sorted.
	Profiles map[string][]string `json:"profiles"`
	// Optional is the same for what a build may add to any profile
	// ("zfs-root").
	Optional map[string][]string `json:"optional"`
	// Extra is what --extra-package asked for, sorted.
	Extra    []string  `json:"extra_packages"`
	Kernels  []Kernel  `json:"kernels"`
	Packages []Package `json:"packages"`
}

// Kernel is a kernel and the ZFS modules compiled for exactly it.
type Kernel struct {
	Flavour    string     `json:"flavour"` // generic, cloud
	Meta       string     `json:"meta"`    // linux-image-amd64
	Package    string     `json:"package"` // linux-image-6.1.0-9-amd64
	ABI        string     `json:"abi"`     // 6.1.0-9-amd64, as uname -r
	Version    string     `json:"version"` // of Package
	ZFSModules ZFSModules `json:"zfs_modules"`
}

// ZFSModules is the package of a kernel's ZFS modules; its fields are empty
// in a darksite without ZFS.
type ZFSModules struct {
	Package    string `json:"package"` // zfs-modules-6.1.0-9-amd64
	Version    string `json:"version"`
	ZFSVersion string `json:"zfs_version"` // of zfs-dkms and zfsutils-linux
}

// Package is one file of the pool.
type Package struct {
	Name         string `json:"name"`
	Version      string `json:"version"`
	Architecture string `json:"architecture"`
	Size         int64  `json:"size"` // bytes
	SHA256       string `json:"sha256"`
	Filename     string `json:"filename"` // relative to the darksite, with slashes
}

// Install lists the packages to install for a profile on a kernel flavour
// ("" for none), beside the release's essential and required ones; optional
// sets are added by name.
func (l *Lock) Install(profile, flavour string, optional ...string) ([]string, error) {
	names, ok := l.Profiles[profile]
	if !ok {
		return nil, fmt.Errorf("profile %q: not in this darksite (has %s)", profile, strings.Join(l.ProfileNames(), ", "))
	}
	names = slices.Clone(names)
	for _, o := range optional {
		more, ok := l.Optional[o]
		if !ok {
			return nil, fmt.Errorf("package set %q: not in this darksite", o)
		}
		names = append(names, more...)
	}
	if flavour == "" {
		return names, nil
	}
	k, err := l.Kernel(flavour)
	if err != nil {
		return nil, err
	}
	return append(names, k.packages()...), nil
}

func (k Kernel) packages() []string {
	names := []string{k.Meta, k.Package}
	if k.ZFSModules.Package != "" {
		names = append(names, k.ZFSModules.Package)
	}
	return names
}

// Kernel finds the kernel of a flavour.
func (l *Lock) Kernel(flavour string) (Kernel, error) {
	var have []string
	for _, k := range l.Kernels {
		if k.Flavour == flavour {
			return k, nil
		}
		have = append(have, k.Flavour)
	}
	return Kernel{}, fmt.Errorf("kernel %q: not in this darksite (has %s)", flavour, strings.Join(have, ", "))
}

// ProfileNames lists the profiles, sorted.
func (l *Lock) ProfileNames() []string { return sortedKeys(l.Profiles) }

// Size is the sum of the packages' sizes in bytes.
func (l *Lock) Size() int64 {
	var n int64
	for _, p := range l.Packages {
		n += p.Size
	}
	return n
}

// marshal gives the lock's file: sorted, so that equal content is equal bytes.
func (l *Lock) marshal() ([]byte, error) {
	slices.SortFunc(l.Packages, func(a, b Package) int {
		return strings.Compare(a.Name+" "+a.Version+" "+a.Architecture, b.Name+" "+b.Version+" "+b.Architecture)
	})
	slices.SortFunc(l.Kernels, func(a, b Kernel) int { return strings.Compare(a.Flavour, b.Flavour) })
	b, err := json.MarshalIndent(l, "", "  ")
	return append(b, '\n'), err
}

// readLock reads a folder's lock and its digest "sha256:…".
func readLock(dir string) (*Lock, string, error) {
	name := filepath.Join(dir, lockName)
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, "", fmt.Errorf("opening darksite %q: %w\nhint: kldload darksite create … --output %s makes one", dir, err, dir)
	}
	l := &Lock{}
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(l); err != nil {
		return nil, "", fmt.Errorf("reading %q: %w", name, err)
	}
	if l.Schema != lockSchema {
		return nil, "", fmt.Errorf("reading %q: schema %d (this kldload reads %d)", name, l.Schema, lockSchema)
	}
	for _, p := range l.Packages {
		if !filepath.IsLocal(p.Filename) || !strings.HasPrefix(p.Filename, "pool/") {
			return nil, "", fmt.Errorf("reading %q: package %s: file name %q is outside the pool", name, p.Name, p.Filename)
		}
	}
	return l, digest(data), nil
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
