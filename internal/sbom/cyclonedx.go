package sbom

import (
	"bytes"
	"fmt"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// References inside of a CycloneDX document.
const (
	cdxImage = "image"
	cdxOS    = "os"
)

// CycloneDX writes the inventory as a CycloneDX 1.6 document in JSON.
func (inv *Inventory) CycloneDX(d Document) ([]byte, error) {
	bom := cdx.NewBOM()
	image := cdx.Component{BOMRef: cdxImage, Type: cdx.ComponentTypeContainer, Name: d.Name, Components: cdxFiles(d.Artifacts)}
	bom.Metadata = &cdx.Metadata{
		Timestamp: d.Created.UTC().Format(time.RFC3339),
		Tools: &cdx.ToolsChoice{Components: &[]cdx.Component{
			{Type: cdx.ComponentTypeApplication, Name: "kldload", Version: d.Version},
		}},
		Component: &image,
	}
	refs, seen := make([]string, len(inv.Packages)), map[string]int{}
	components := []cdx.Component{inv.cdxSystem()}
	for i := range inv.Packages {
		c := inv.cdxPackage(&inv.Packages[i])
		if seen[c.BOMRef]++; seen[c.BOMRef] > 1 {
			c.BOMRef += fmt.Sprintf("#%d", seen[c.BOMRef])
		}
		refs[i] = c.BOMRef
		components = append(components, c)
	}
	dependencies := []cdx.Dependency{{Ref: cdxImage, Dependencies: &[]string{cdxOS}}, {Ref: cdxOS, Dependencies: &refs}}
	for i, p := range inv.Packages {
		on := make([]string, len(p.Depends))
		for k, j := range p.Depends {
			on[k] = refs[j]
		}
		dependencies = append(dependencies, cdx.Dependency{Ref: refs[i], Dependencies: &on})
	}
	bom.Components, bom.Dependencies = &components, &dependencies
	content, err := encode(bom)
	if err != nil {
		return nil, err
	}
	bom.SerialNumber = "urn:uuid:" + uuid(content)
	return encode(bom)
}

func encode(bom *cdx.BOM) ([]byte, error) {
	var b bytes.Buffer
	err := cdx.NewBOMEncoder(&b, cdx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false).EncodeVersion(bom, cdx.SpecVersion1_6)
	return b.Bytes(), err
}

// cdxFiles are the files that the image comes in.
func cdxFiles(list []Artifact) *[]cdx.Component {
	var files []cdx.Component
	for i, a := range list {
		files = append(files, cdx.Component{
			BOMRef: fmt.Sprintf("file-%d", i+1), Type: cdx.ComponentTypeFile, Name: a.Name, Hashes: cdxSHA256(a.SHA256),
		})
	}
	if files == nil {
		return nil
	}
	return &files
}

func cdxSHA256(sum string) *[]cdx.Hash {
	if sum == "" {
		return nil
	}
	return &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: sum}}
}

func (inv *Inventory) cdxSystem() cdx.Component {
	return cdx.Component{
		BOMRef: cdxOS, Type: cdx.ComponentTypeOS, Name: inv.OS.ID, Version: inv.OS.VersionID, Description: inv.OS.Name,
		ExternalReferences: website(inv.OS.Home),
	}
}

func website(address string) *[]cdx.ExternalReference {
	if address = webAddress(address); address == "" {
		return nil
	}
	return &[]cdx.ExternalReference{{Type: cdx.ERTypeWebsite, URL: address}}
}

func (inv *Inventory) cdxPackage(p *Package) cdx.Component {
	kinds := map[int]cdx.ComponentType{
		kindLibrary: cdx.ComponentTypeLibrary, kindApplication: cdx.ComponentTypeApplication,
		kindKernel: cdx.ComponentTypePlatform, kindModules: cdx.ComponentTypeDeviceDriver,
	}
	purl := inv.purl(p)
	c := cdx.Component{
		BOMRef: purl, Type: kinds[p.kind()], Name: p.Name, Version: p.Version, Description: p.Summary, PackageURL: purl,
		Hashes: cdxSHA256(p.SHA256), ExternalReferences: website(p.Homepage),
		Properties: &[]cdx.Property{
			{Name: "kldload:source-package", Value: p.Source}, {Name: "kldload:source-version", Value: p.SourceVersion},
		},
	}
	if name, address := maintainer(p.Maintainer); name != "" {
		c.Supplier = &cdx.OrganizationalEntity{Name: name}
		if address != "" {
			c.Supplier.Contact = &[]cdx.OrganizationalContact{{Email: address}}
		}
	}
	if p.License != "" {
		c.Licenses = &cdx.Licenses{{Expression: p.License}}
	}
	return c
}
