// Package sbom writes the software bill of materials of an image: what the
// package database of its root file system says, as SPDX 2.3 JSON
// (https://spdx.github.io/spdx-spec/v2.3/) and as CycloneDX 1.6 JSON
// (https://cyclonedx.org/docs/1.6/json/).
//
// It reads dpkg's database: /var/lib/dpkg/status and status.d, licences from
// machine-readable copyright files. It does not read the databases of rpm, apk
// and pacman, and names them where it meets one; nor does it see software that
// no package brought. Nothing of the image is run or believed: every file is
// bounded.
//
// The same inventory gives the same bytes.
package sbom

import (
	"io/fs"
	"time"
)

// FS is a root file system. Names are slash-separated and have no leading
// slash; Open does not need to follow links, Resolve gives the name that a
// path with links leads to, inside of the file system.
type FS interface {
	fs.ReadDirFS
	Resolve(name string) (string, error)
}

// Inventory is what a root file system holds.
type Inventory struct {
	OS       OS
	Packages []Package // by name, then architecture; each once
	// Texts holds the licences that have no SPDX name, by their LicenseRef.
	Texts map[string]Text
	// Changed is the time of the package database.
	Changed time.Time
}

// OS is what os-release(5) says.
type OS struct {
	ID, VersionID string // "debian", "12"; ID is "linux" where it says nothing
	Name          string // PRETTY_NAME
	Home          string // HOME_URL
}

// Package is one installed package.
type Package struct {
	Name, Version, Architecture string
	// Source and SourceVersion name what it was built from; never empty.
	Source, SourceVersion string
	Maintainer            string // "Name <address>"
	Homepage              string
	Section               string // "libs", "contrib/admin"
	Summary               string // the first line of the description
	// License is an SPDX expression, "" where the copyright file is not
	// machine-readable.
	License string
	// Depends are indexes into Inventory.Packages, sorted.
	Depends []int
	// SHA256 is the digest of the package's file in hex, "" when it is not
	// known: see Inventory.SetDigests.
	SHA256 string
	File   string // base name of that file
}

// Text is a licence as a copyright file gives it.
type Text struct {
	Name string // Debian's short name
	Text string
}

// Artifact is an image file that a document describes.
type Artifact struct {
	Name   string // without a folder
	SHA256 string // hex
}

// Document is what goes into a bill of materials beside the inventory.
type Document struct {
	// Name is the image's.
	Name string
	// Version is of kldload, the tool that writes the document.
	Version string
	// Created is the time in the document.
	Created time.Time
	// Artifacts are the files that hold the inventory; none for a folder.
	Artifacts []Artifact
}

// PackageFile is a package's file in a mirror.
type PackageFile struct {
	Name, Version, Architecture string
	SHA256                      string // hex
	File                        string // base name
}

// SetDigests gives the packages the digests of the files they were installed
// from, where name, version and architecture are the same.
func (inv *Inventory) SetDigests(files []PackageFile) {
	by := make(map[[3]string]PackageFile, len(files))
	for _, f := range files {
		by[[3]string{f.Name, f.Version, f.Architecture}] = f
	}
	for i := range inv.Packages {
		p := &inv.Packages[i]
		if f, ok := by[[3]string{p.Name, p.Version, p.Architecture}]; ok {
			p.SHA256, p.File = f.SHA256, f.File
		}
	}
}
