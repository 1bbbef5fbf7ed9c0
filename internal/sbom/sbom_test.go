package sbom

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/go-cmp/cmp"
	"github.com/package-url/packageurl-go"
	"github.com/santhosh-tekuri/jsonschema/v6"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdxlib"
)

// root is a file system of the tests, without links.
type root struct{ fstest.MapFS }

func (r root) Resolve(name string) (string, error) {
	_, err := r.Lstat(name)
	return name, err
}

const status = `Package: libc6
Status: install ok installed
Priority: required
Section: libs
Maintainer: GNU Libc Maintainers <debian-glibc@lists.debian.org>
Architecture: amd64
Multi-Arch: same
Source: glibc
Version: 2.36-9+deb12u13
Provides: libc6-2.36
Depends: libgcc-s1, libcrypt1 (>= 1:4.4.10-10~)
Description: GNU C Library: Shared libraries
 Contains the standard libraries.
Homepage: https://www.gnu.org/software/libc/libc.html

Package: libc6
Status: install ok installed
Section: libs
Architecture: i386
Source: glibc
Version: 2.36-9+deb12u13

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1

Package: tool
Status: install ok installed
Section: contrib/admin
Maintainer: A. Person <a@example.org>
Architecture: all
Version: 1:2.0-1
Source: toolbox (2.0-1)
Pre-Depends: libc6 (>= 2.36) | dietlibc
Depends: missing | shell:any [amd64] | libc6, nothing
Description: does things <well> & more

Package: libx++
Status: install ok installed
Section: libs
Architecture: amd64
Version: 3
Provides: shell (= 3)
Homepage: not an address
Maintainer: broken

Package: linux-image-6.1.0-9-amd64
Status: install ok installed
Section: kernel
Architecture: amd64
Version: 6.1.27-1

Package: zfs-modules-6.1.0-9-amd64
Status: install ok installed
Section: kernel
Maintainer: kldload darksite <root@localhost>
Architecture: amd64
Source: zfs-linux
Version: 2.1.11-1+6.1.27.1
Depends: linux-image-6.1.0-9-amd64 (= 6.1.27-1)
`

const dep5 = `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: tool

Files: *
Copyright: 2020 A
License: GPL-2+ or Artistic, and Expat

Files: odd/*
Copyright: 2021 B
License: odd & own
 You may look
 .
 at it.

Files: also/*
License: GPL-2 with Linux-syscall-note exception
`

func tree() root {
	at := func(text string) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte(text), Mode: 0o644, ModTime: time.Unix(1_700_000_000, 0)}
	}
	return root{fstest.MapFS{
		"etc/os-release":                 at("PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_ID=\"12\"\nHOME_URL=\"https://www.debian.org/\"\n"),
		"var/lib/dpkg/status":            at(status),
		"var/lib/dpkg/status.d/base":     at("Package: base-files\nArchitecture: amd64\nVersion: 12.4\n"),
		"usr/share/doc/tool/copyright":   at(dep5),
		"usr/share/doc/libc6/copyright":  at("This is the Debian prepackaged version of the GNU C Library.\n"),
		"usr/share/doc/libx++/copyright": at("Format: copyright-format\n\nFiles: *\nLicense: Zlib\n"),
	}}
}

func read(t *testing.T) *Inventory {
	t.Helper()
	inv, err := Read(tree())
	if err != nil {
		t.Fatal(err)
	}
	inv.SetDigests([]PackageFile{
		{Name: "tool", Version: "1:2.0-1", Architecture: "all", SHA256: strings.Repeat("ab", 32), File: "tool_2.0-1_all.deb"},
		{Name: "libx++", Version: "another", Architecture: "amd64", SHA256: strings.Repeat("cd", 32)},
	})
	return inv
}

var document = Document{
	Name: "golden image", Version: "1.2.3", Created: time.Unix(1_700_000_000, 0),
	Artifacts: []Artifact{{"golden.qcow2", strings.Repeat("12", 32)}, {"golden.raw", strings.Repeat("34", 32)}},
}

func TestRead(t *testing.T) {
	inv := read(t)
	var names []string
	for _, p := range inv.Packages {
		names = append(names, p.Name+":"+p.Architecture)
	}
	want := []string{"base-files:amd64", "libc6:amd64", "libc6:i386", "libx++:amd64", "linux-image-6.1.0-9-amd64:amd64", "tool:all", "zfs-modules-6.1.0-9-amd64:amd64"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Fatal(diff)
	}
	wantTool := Package{
		Name: "tool", Version: "1:2.0-1", Architecture: "all", Source: "toolbox", SourceVersion: "2.0-1",
		Maintainer: "A. Person <a@example.org>", Section: "contrib/admin", Summary: "does things <well> & more",
		License: "GPL-2.0-only WITH Linux-syscall-note AND (GPL-2.0-or-later OR Artistic-1.0-Perl) AND LicenseRef-odd---own-c18cfc4f AND MIT",
		Depends: []int{1, 2, 3}, SHA256: strings.Repeat("ab", 32), File: "tool_2.0-1_all.deb",
	}
	if diff := cmp.Diff(wantTool, inv.Packages[5]); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]Text{"LicenseRef-odd---own-c18cfc4f": {"odd & own", "You may look\n\nat it."}}, inv.Texts); diff != "" {
		t.Error(diff)
	}
	if p := inv.Packages[3]; p.SHA256 != "" || p.License != "Zlib" {
		t.Errorf("another version's digest, or a wrong licence: %+v", p)
	}
	if inv.Packages[1].License != "" || inv.Changed.Unix() != 1_700_000_000 {
		t.Errorf("licence %q of plain text, time %v", inv.Packages[1].License, inv.Changed)
	}
	if diff := cmp.Diff([]int{4}, inv.Packages[6].Depends); diff != "" {
		t.Error("the modules need their kernel:", diff)
	}
}

func TestLicenses(t *testing.T) {
	for field, want := range map[string]string{
		"GPL-2":                       "GPL-2.0-only",
		"gpl-3+":                      "GPL-3.0-or-later",
		"LGPL-2.1+ and BSD-3-clause":  "LGPL-2.1-or-later AND BSD-3-Clause",
		"GPL-2 or Expat and ISC":      "GPL-2.0-only OR (MIT AND ISC)",
		"GPL-2 or Expat, and ISC":     "(GPL-2.0-only OR MIT) AND ISC",
		"GPL-2+ with Font exception":  "GPL-2.0-or-later WITH Font-exception-2.0",
		"GPL-2+ with other exception": "LicenseRef-GPL-2--with-other-exception-",
		"public-domain":               "LicenseRef-public-domain-",
	} {
		c := copyright{texts: map[string]string{}, texted: func(string, Text) {}}
		terms := c.split(field)
		got := join(terms, " AND ")
		if got != want && !(strings.HasSuffix(want, "-") && strings.HasPrefix(got, want)) {
			t.Errorf("%q: %q: want %q", field, got, want)
		}
	}
}

// TestKnownNames looks each name up in SPDX's own list.
func TestKnownNames(t *testing.T) {
	var list struct{ Enum []string }
	text, err := os.ReadFile("testdata/schema/spdx.schema.json")
	if err == nil {
		err = json.Unmarshal(text, &list)
	}
	if err != nil || len(list.Enum) < 500 {
		t.Fatal(len(list.Enum), err)
	}
	for _, m := range []map[string]string{known, exceptions} {
		for name, id := range m {
			if !slices.Contains(list.Enum, id) || name != strings.ToLower(name) {
				t.Errorf("%q: SPDX has no %q, or the name is not in lower case", name, id)
			}
		}
	}
}

// schema compiles a published schema.
func schema(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	for _, file := range []string{"bom-1.6", "spdx", "jsf-0.82", "spdx-2.3"} {
		f, err := os.Open(filepath.Join("testdata/schema", file+".schema.json"))
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.AddResource("http://cyclonedx.org/schema/"+file+".schema.json", doc); err != nil {
			t.Fatal(err)
		}
	}
	s, err := c.Compile("http://cyclonedx.org/schema/" + name + ".schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// validate holds a document against a schema.
func validate(t *testing.T, s *jsonschema.Schema, text []byte) error {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(doc)
}

func TestSPDXSchema(t *testing.T) {
	text, err := read(t).SPDX(document)
	if err != nil {
		t.Fatal(err)
	}
	s := schema(t, "spdx-2.3")
	if err := validate(t, s, text); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
	for _, wrong := range [][2]string{
		{`"SPDXID": "SPDXRef-DOCUMENT"`, `"id": "SPDXRef-DOCUMENT"`},
		{`"relationshipType": "CONTAINS"`, `"relationshipType": "HOLDS"`},
		{`"algorithm": "SHA256"`, `"algorithm": "sha256"`},
		{`"created": "`, `"made": "`},
	} {
		if validate(t, s, replaced(t, text, wrong[0], wrong[1])) == nil {
			t.Errorf("the schema has nothing against %s", wrong[1])
		}
	}
}

func replaced(t *testing.T, text []byte, from, to string) []byte {
	t.Helper()
	out := bytes.Replace(text, []byte(from), []byte(to), 1)
	if bytes.Equal(out, text) {
		t.Fatalf("no %s in %s", from, text)
	}
	return out
}

// TestSPDXTools has SPDX's own library read a document.
func TestSPDXTools(t *testing.T) {
	text, err := read(t).SPDX(document)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := spdxjson.Read(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := spdxlib.ValidateDocument(doc); err != nil {
		t.Error(err)
	}
	ids, err := spdxlib.GetDescribedPackageIDs(doc)
	if err != nil || len(ids) != 2 {
		t.Errorf("describes %v, %v: want both image files", ids, err)
	}
	if len(doc.Packages) != 7+2+1 {
		t.Errorf("%d packages: want 7, an operating system and 2 images", len(doc.Packages))
	}
	if _, err := spdxjson.Read(bytes.NewReader(replaced(t, text, `"SPDX-2.3"`, `"SPDX-9.9"`))); err == nil {
		t.Error("a document of another version is read")
	}
}

func TestCycloneDXSchema(t *testing.T) {
	text, err := read(t).CycloneDX(document)
	if err != nil {
		t.Fatal(err)
	}
	s := schema(t, "bom-1.6")
	if err := validate(t, s, text); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
	for _, wrong := range [][2]string{
		{`"type": "device-driver"`, `"type": "driver"`},
		{`"serialNumber": "urn:uuid:`, `"serialNumber": "uuid:`},
		{`"bomFormat"`, `"format"`},
		{`"alg": "SHA-256"`, `"alg": "SHA256"`},
	} {
		if validate(t, s, replaced(t, text, wrong[0], wrong[1])) == nil {
			t.Errorf("the schema has nothing against %s", wrong[1])
		}
	}
	var bom cdx.BOM
	if err := cdx.NewBOMDecoder(bytes.NewReader(text), cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	for _, c := range (*bom.Components)[1:] {
		p, err := packageurl.FromString(c.PackageURL)
		if err != nil || p.Name != strings.ToLower(c.Name) || p.Version != c.Version || p.Qualifiers.Map()["distro"] != "debian-12" {
			t.Errorf("purl %q of %s: %v", c.PackageURL, c.Name, err)
		}
	}
	refs(t, &bom)
}

// refs makes sure that each dependency names a component.
func refs(t *testing.T, bom *cdx.BOM) {
	t.Helper()
	have := map[string]bool{bom.Metadata.Component.BOMRef: true}
	for _, c := range *bom.Components {
		if have[c.BOMRef] {
			t.Errorf("two components are called %q", c.BOMRef)
		}
		have[c.BOMRef] = true
	}
	for _, d := range *bom.Dependencies {
		named := []string{d.Ref}
		if d.Dependencies != nil {
			named = append(named, *d.Dependencies...)
		}
		for _, ref := range named {
			if !have[ref] {
				t.Errorf("dependency on %q, which is no component", ref)
			}
		}
	}
}

func TestSameBytes(t *testing.T) {
	writers := map[string]func(*Inventory, Document) ([]byte, error){"spdx": (*Inventory).SPDX, "cyclonedx": (*Inventory).CycloneDX}
	for name, write := range writers {
		a, errA := write(read(t), document)
		b, errB := write(read(t), document)
		if err := errors.Join(errA, errB); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(a), string(b)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		other := document
		other.Artifacts = other.Artifacts[:1]
		c, err := write(read(t), other)
		if err != nil {
			t.Fatal(err)
		}
		if identity(c) == identity(a) || identity(a) == "" {
			t.Errorf("%s: another image's document is called %q, too", name, identity(a))
		}
	}
}

func identity(doc []byte) string {
	for line := range strings.Lines(string(doc)) {
		if strings.Contains(line, `"documentNamespace"`) || strings.Contains(line, `"serialNumber"`) {
			return line
		}
	}
	return ""
}

func TestNoDatabase(t *testing.T) {
	for name, want := range map[string]string{
		"var/lib/rpm/rpmdb.sqlite": "is of rpm", "lib/apk/db/installed": "is of apk", "etc/hosts": "want /var/lib/dpkg/status",
	} {
		_, err := Read(root{fstest.MapFS{name: {}}})
		if !errors.Is(err, ErrNoDatabase) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v: want %q", name, err, want)
		}
	}
}

// TestDir follows links as the system in the folder would.
func TestDir(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"etc", "usr/lib", "usr/share/doc/real", "usr/share/doc/other"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	err := errors.Join(
		os.WriteFile(filepath.Join(dir, "usr/lib/os-release"), []byte("ID=x\n"), 0o644),
		os.WriteFile(filepath.Join(dir, "usr/share/doc/real/copyright"), nil, 0o644),
		os.Symlink("../usr/lib/os-release", filepath.Join(dir, "etc/os-release")),
		os.Symlink("/usr/share/doc/real", filepath.Join(dir, "usr/share/doc/link")),
		os.Symlink("../../../../../../../../etc/os-release", filepath.Join(dir, "up")),
		os.Symlink("/etc/passwd", filepath.Join(dir, "etc/shadow")),
		os.Symlink("loop", filepath.Join(dir, "loop")),
	)
	if err != nil {
		t.Fatal(err)
	}
	d, err := OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for name, want := range map[string]string{
		"etc/os-release": "usr/lib/os-release", "usr/share/doc/link/copyright": "usr/share/doc/real/copyright", "up": "usr/lib/os-release",
	} {
		if got, err := d.Resolve(name); got != want || err != nil {
			t.Errorf("%s leads to %q, %v: want %q", name, got, err, want)
		}
	}
	for name, want := range map[string]error{"etc/shadow": fs.ErrNotExist, "loop": nil, "nothing": fs.ErrNotExist} {
		if got, err := d.Resolve(name); err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s leads to %q, %v", name, got, err)
		}
	}
}

// TestBounds gives small texts that would become large.
func TestBounds(t *testing.T) {
	var many strings.Builder
	for i := range 1200 {
		fmt.Fprintf(&many, "Package: p%d\nStatus: install ok installed\nVersion: 1\nProvides: all\nDepends: all\n\n", i)
	}
	_, err := Read(root{fstest.MapFS{"var/lib/dpkg/status": {Data: []byte(many.String())}}})
	if err == nil || !strings.Contains(err.Error(), "more than 1000000 dependencies") {
		t.Errorf("1200 packages that need each other: %v", err)
	}
	long := "Package: a\nStatus: install ok installed\nVersion: 1\nDescription: x\n" + strings.Repeat(" y\n", 4<<20)
	inv, err := Read(root{fstest.MapFS{"var/lib/dpkg/status": {Data: []byte(long)}}})
	if err != nil || len(inv.Packages) != 1 {
		t.Error("a long field:", err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(status), []byte(dep5), []byte("ID=debian\n"))
	f.Add([]byte("Package: a\xff\nStatus: a b installed\nVersion: \x00\nDepends: a|,(\nMaintainer: <\n :"), []byte("Format: dep5\n\nFiles: *\nLicense: , and \n"), []byte("ID='\n"))
	f.Fuzz(func(t *testing.T, status, copyright, release []byte) {
		inv, err := Read(root{fstest.MapFS{
			"etc/os-release": {Data: release}, "var/lib/dpkg/status": {Data: status},
			"usr/share/doc/tool/copyright": {Data: copyright}, "usr/share/doc/a/copyright": {Data: copyright},
		}})
		if err != nil {
			return
		}
		spdx, errA := inv.SPDX(document)
		_, errB := inv.CycloneDX(document)
		if err := errors.Join(errA, errB); err != nil {
			t.Fatal(err)
		}
		if !json.Valid(spdx) {
			t.Fatalf("not JSON: %s", spdx)
		}
	})
}
