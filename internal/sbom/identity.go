package sbom

import (
	"crypto/sha256"
	"encoding/hex"
	"net/mail"
	"net/url"
	"strings"

	"github.com/package-url/packageurl-go"
)

// uuid is a UUID of a digest: version 8, custom (RFC 9562 5.8). A document is
// named by its content, so that equal ones have equal names and others other.
func uuid(content []byte) string {
	sum := sha256.Sum256(content)
	b := sum[:16]
	b[6] = b[6]&0x0f | 0x80
	b[8] = b[8]&0x3f | 0x80
	h := hex.EncodeToString(b)
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

// purl names a package for tools that look for known faults
// (https://github.com/package-url/purl-spec, type deb). "upstream" is what
// Syft and Grype call the source package.
func (inv *Inventory) purl(p *Package) string {
	q := map[string]string{}
	if p.Architecture != "" {
		q["arch"] = p.Architecture
	}
	if d := inv.distro(); d != "" {
		q["distro"] = d
	}
	if p.Source != p.Name || p.SourceVersion != p.Version {
		q["upstream"] = p.Source
		if p.SourceVersion != p.Version {
			q["upstream"] += "@" + p.SourceVersion
		}
	}
	vendor := inv.OS.ID
	if strings.HasPrefix(p.Maintainer, ourMaintainer) {
		vendor = "kldload"
	}
	return packageurl.NewPackageURL(packageurl.TypeDebian, vendor, p.Name, p.Version, packageurl.QualifiersFromMap(q), "").ToString()
}

// ourMaintainer is of packages that a darksite built: ZFS modules.
const ourMaintainer = "kldload darksite "

// distro is "debian-12".
func (inv *Inventory) distro() string {
	if inv.OS.VersionID == "" {
		return inv.OS.ID
	}
	return inv.OS.ID + "-" + inv.OS.VersionID
}

// webAddress gives the address when it is one that both formats take.
func webAddress(text string) string {
	u, err := url.Parse(text)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "ftp") || u.Host == "" {
		return ""
	}
	return u.String()
}

// maintainer splits "Name <address>"; a list of people gives its first.
func maintainer(text string) (name, address string) {
	a, err := mail.ParseAddress(text)
	if err == nil {
		return a.Name, a.Address
	}
	name, rest, ok := strings.Cut(text, "<")
	if ok {
		address, _, _ = strings.Cut(rest, ">")
	}
	return strings.TrimSpace(name), strings.TrimSpace(address)
}

// Kinds of package that both formats can tell.
const (
	kindLibrary = iota
	kindApplication
	kindKernel
	kindModules
)

func (p *Package) kind() int {
	section := p.Section[strings.LastIndex(p.Section, "/")+1:]
	switch {
	case strings.HasPrefix(p.Name, "linux-image-"):
		return kindKernel
	case section == "kernel" && strings.Contains(p.Name, "-modules-"):
		return kindModules
	case section == "libs" || section == "oldlibs" || section == "libdevel" || section == "perl" || section == "python":
		return kindLibrary
	}
	return kindApplication
}
