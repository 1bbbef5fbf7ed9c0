package diskimage

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"
)

// OVAOptions are the options of NewOVAWriter. Name is the only one without a
// default.
type OVAOptions struct {
	// Name is the machine's name and what the files in the package begin
	// with: letters, digits, '.', '_' and '-', a letter or digit first, at
	// most 80 of them.
	Name string
	// HardwareVersion is the NN of vmx-NN, 10 (vSphere 5.5) or later; 0 means
	// 17, of vSphere 7.0.
	HardwareVersion int
	// MemoryMiB is a multiple of 4, which vSphere wants; 0 means 2048.
	MemoryMiB int
	// CPUs is the number of virtual CPUs, 1 to 768; 0 means 2.
	CPUs int
	// OSType is VMware's identifier of the guest's system, for example
	// "debian12_64Guest" (VirtualMachineGuestOsIdentifier of the vSphere API).
	// Empty means other4xLinux64Guest, or other3xLinux64Guest before vmx-14:
	// the newest of the generic ones that the hardware version goes with.
	OSType string
	// Firmware is "efi", the default, or "bios".
	Firmware string
	// Network is the name of the network the machine wants to be connected
	// to; empty means "VM Network", ESXi's own.
	Network string
	// Product, Vendor, Version, ProductURL and VendorURL make a
	// ProductSection and Annotation an AnnotationSection when set.
	Product    string
	Vendor     string
	Version    string
	ProductURL string
	VendorURL  string
	Annotation string // may have several lines
	// Timestamp is the time of the files in the package, in whole seconds;
	// zero means 1970-01-01.
	Timestamp time.Time
	// NoDigest leaves the SHA-256 of the package out, which reads the file
	// back once. The one in the manifest is always there.
	NoDigest bool
}

// diskSuffix is what the name of the disk file has after Name.
const diskSuffix = "-disk1.vmdk"

func (o *OVAOptions) ovfFile() string      { return o.Name + ".ovf" }
func (o *OVAOptions) manifestFile() string { return o.Name + ".mf" }
func (o *OVAOptions) diskFile() string     { return o.Name + diskSuffix }

// withDefaults fills in what is not set.
func (o OVAOptions) withDefaults() OVAOptions {
	setDefault(&o.HardwareVersion, 17)
	setDefault(&o.MemoryMiB, 2048)
	setDefault(&o.CPUs, 2)
	setDefault(&o.Firmware, "efi")
	setDefault(&o.Network, "VM Network")
	if o.HardwareVersion < 14 {
		setDefault(&o.OSType, "other3xLinux64Guest")
	}
	setDefault(&o.OSType, "other4xLinux64Guest")
	if o.Timestamp.IsZero() {
		o.Timestamp = time.Unix(0, 0)
	}
	return o
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

var (
	// plainName are names that mean the same as a file name, in a URI
	// reference (ovf:href) and in the patterns govc matches members with.
	plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$`)
	guestID   = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,63}$`)
)

// maxOVAText bounds each text, so that the descriptor stays far below what
// readers take.
const maxOVAText = 64 << 10

// check tells what is wrong with options that have their defaults.
func (o *OVAOptions) check() error {
	switch {
	case !plainName.MatchString(o.Name):
		return fmt.Errorf("ova name %q, want up to 80 letters, digits, '.', '_' and '-', a letter or digit first", o.Name)
	case o.HardwareVersion < 10 || o.HardwareVersion > 99:
		return fmt.Errorf("ova hardware version %d, want 10 to 99", o.HardwareVersion)
	case o.MemoryMiB < 4 || o.MemoryMiB%4 != 0 || o.MemoryMiB > 24<<20:
		return fmt.Errorf("ova memory of %d MiB, want a multiple of 4 up to 24 TiB", o.MemoryMiB)
	case o.CPUs < 1 || o.CPUs > 768:
		return fmt.Errorf("ova with %d CPUs, want 1 to 768", o.CPUs)
	case !guestID.MatchString(o.OSType):
		return fmt.Errorf("ova OS type %q, want a VMware guest identifier such as debian12_64Guest", o.OSType)
	case o.Firmware != "efi" && o.Firmware != "bios":
		return fmt.Errorf("ova firmware %q, want efi or bios", o.Firmware)
	case o.Timestamp.Unix() < 0 || o.Timestamp.Unix() >= maxOctalField:
		return fmt.Errorf("ova time stamp %s, want 1970 to 2242", o.Timestamp.UTC().Format(time.RFC3339))
	}
	for _, t := range []struct{ name, text, allowed string }{
		{"network", o.Network, ""}, {"product", o.Product, ""}, {"vendor", o.Vendor, ""}, {"version", o.Version, ""},
		{"product URL", o.ProductURL, ""}, {"vendor URL", o.VendorURL, ""}, {"annotation", o.Annotation, "\n\t"},
	} {
		if err := checkText(t.text, t.allowed); err != nil {
			return fmt.Errorf("ova %s %.80q: %w", t.name, t.text, err)
		}
	}
	return nil
}

// checkText refuses what XML 1.0 (clause 2.2) cannot hold and, but for those
// in allowed, control characters.
func checkText(s, allowed string) error {
	if len(s) > maxOVAText {
		return fmt.Errorf("%d bytes, want at most %d", len(s), maxOVAText)
	}
	if !utf8.ValidString(s) {
		return errors.New("not UTF-8")
	}
	for _, r := range s {
		if (r < ' ' && !strings.ContainsRune(allowed, r)) || r == 0x7f || r == 0xfffe || r == 0xffff {
			return fmt.Errorf("holds the character %U", r)
		}
	}
	return nil
}
