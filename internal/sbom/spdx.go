package sbom

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
)

// The part of SPDX 2.3's JSON that is written; names are the schema's
// (https://github.com/spdx/spdx-spec/blob/v2.3/schemas/spdx-schema.json).
type spdxDocument struct {
	Version       string             `json:"spdxVersion"`
	License       string             `json:"dataLicense"`
	ID            string             `json:"SPDXID"`
	Name          string             `json:"name"`
	Namespace     string             `json:"documentNamespace"`
	Creation      spdxCreation       `json:"creationInfo"`
	Describes     []string           `json:"documentDescribes"`
	Packages      []spdxPackage      `json:"packages"`
	Relationships []spdxRelationship `json:"relationships"`
	Texts         []spdxText         `json:"hasExtractedLicensingInfos,omitempty"`
}

type spdxCreation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type spdxPackage struct {
	ID            string         `json:"SPDXID"`
	Name          string         `json:"name"`
	Version       string         `json:"versionInfo,omitempty"`
	File          string         `json:"packageFileName,omitempty"`
	Supplier      string         `json:"supplier,omitempty"`
	Location      string         `json:"downloadLocation"`
	FilesAnalyzed bool           `json:"filesAnalyzed"`
	Checksums     []spdxChecksum `json:"checksums,omitempty"`
	Homepage      string         `json:"homepage,omitempty"`
	SourceInfo    string         `json:"sourceInfo,omitempty"`
	Concluded     string         `json:"licenseConcluded"`
	Declared      string         `json:"licenseDeclared"`
	Copyright     string         `json:"copyrightText"`
	Summary       string         `json:"summary,omitempty"`
	References    []spdxExternal `json:"externalRefs,omitempty"`
	Purpose       string         `json:"primaryPackagePurpose"`
}

type spdxChecksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type spdxExternal struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type spdxRelationship struct {
	From string `json:"spdxElementId"`
	Type string `json:"relationshipType"`
	To   string `json:"relatedSpdxElement"`
}

type spdxText struct {
	ID   string `json:"licenseId"`
	Text string `json:"extractedText"`
	Name string `json:"name,omitempty"`
}

const (
	spdxRoot  = "SPDXRef-DOCUMENT"
	spdxOS    = "SPDXRef-OperatingSystem"
	noClaim   = "NOASSERTION"
	namespace = "https://github.com/kldload/kldload/spdx/"
)

// SPDX writes the inventory as an SPDX 2.3 document in JSON.
func (inv *Inventory) SPDX(d Document) ([]byte, error) {
	doc := spdxDocument{
		Version: "SPDX-2.3", License: "CC0-1.0", ID: spdxRoot, Name: d.Name,
		Creation: spdxCreation{d.Created.UTC().Format(time.RFC3339), []string{"Tool: kldload-" + d.Version}},
	}
	doc.images(d.Artifacts)
	doc.add(inv.spdxSystem())
	ids := inv.spdxIDs()
	for i := range inv.Packages {
		doc.add(inv.spdxPackage(&inv.Packages[i], ids[i]))
		doc.relate(spdxOS, "CONTAINS", ids[i])
	}
	for i, p := range inv.Packages {
		for _, j := range p.Depends {
			doc.relate(ids[i], "DEPENDS_ON", ids[j])
		}
	}
	for _, id := range slices.Sorted(maps.Keys(inv.Texts)) {
		doc.Texts = append(doc.Texts, spdxText{id, inv.Texts[id].Text, inv.Texts[id].Name})
	}
	content, err := marshal(doc)
	if err != nil {
		return nil, err
	}
	doc.Namespace = namespace + url.PathEscape(d.Name) + "-" + uuid(content)
	return marshal(doc)
}

// marshal gives indented JSON in which "<" stays readable.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	err := enc.Encode(v)
	return b.Bytes(), err
}

func (doc *spdxDocument) add(p spdxPackage) {
	p.Location, p.Concluded, p.Copyright = noClaim, noClaim, noClaim
	if p.Declared == "" {
		p.Declared = noClaim
	}
	doc.Packages = append(doc.Packages, p)
}

func (doc *spdxDocument) relate(from, kind, to string) {
	doc.Relationships = append(doc.Relationships, spdxRelationship{from, kind, to})
}

// images are what the document describes; without any it is the system.
func (doc *spdxDocument) images(list []Artifact) {
	for i, a := range list {
		id := fmt.Sprintf("SPDXRef-Image-%d-%s", i+1, idString(a.Name))
		doc.add(spdxPackage{ID: id, Name: a.Name, File: a.Name, Checksums: spdxSHA256(a.SHA256), Purpose: "ARCHIVE"})
		doc.Describes = append(doc.Describes, id)
		doc.relate(spdxRoot, "DESCRIBES", id)
		doc.relate(id, "CONTAINS", spdxOS)
	}
	if len(list) == 0 {
		doc.Describes = []string{spdxOS}
		doc.relate(spdxRoot, "DESCRIBES", spdxOS)
	}
}

func spdxSHA256(sum string) []spdxChecksum {
	if sum == "" {
		return nil
	}
	return []spdxChecksum{{"SHA256", sum}}
}

func (inv *Inventory) spdxSystem() spdxPackage {
	return spdxPackage{
		ID: spdxOS, Name: inv.OS.ID, Version: inv.OS.VersionID, Homepage: webAddress(inv.OS.Home),
		Summary: inv.OS.Name, Purpose: "OPERATING_SYSTEM",
	}
}

// spdxIDs names the packages; two whose names differ in what an id cannot
// hold are told apart by a number.
func (inv *Inventory) spdxIDs() []string {
	ids, seen := make([]string, len(inv.Packages)), map[string]int{}
	for i, p := range inv.Packages {
		id := "SPDXRef-Package-deb-" + idString(strings.ReplaceAll(p.Name, "+", "plus")) + "-" + idString(p.Architecture)
		if seen[id]++; seen[id] > 1 {
			id += fmt.Sprintf("-n%d", seen[id])
		}
		ids[i] = id
	}
	return ids
}

func (inv *Inventory) spdxPackage(p *Package, id string) spdxPackage {
	purposes := map[int]string{kindLibrary: "LIBRARY", kindApplication: "APPLICATION", kindKernel: "OPERATING_SYSTEM", kindModules: "LIBRARY"}
	return spdxPackage{
		ID: id, Name: p.Name, Version: p.Version, File: p.File, Supplier: supplier(p.Maintainer), Checksums: spdxSHA256(p.SHA256),
		Homepage: webAddress(p.Homepage), SourceInfo: fmt.Sprintf("built from source package %s %s", p.Source, p.SourceVersion),
		Declared: p.License, Summary: p.Summary, Purpose: purposes[p.kind()],
		References: []spdxExternal{{"PACKAGE-MANAGER", "purl", inv.purl(p)}},
	}
}

// supplier is "Person: NAME (ADDRESS)", or "Organization: …" behind a mailing
// list (clause 7.5).
func supplier(text string) string {
	name, address := maintainer(text)
	if name == "" && address == "" {
		return noClaim
	}
	kind := "Person: "
	if strings.Contains(address, "@lists.") || strings.Contains(address, "-lists.") || strings.Contains(address, "@tracker.") {
		kind = "Organization: "
	}
	if name == "" {
		name = address
	}
	if address == "" {
		return kind + name
	}
	return kind + name + " (" + address + ")"
}
