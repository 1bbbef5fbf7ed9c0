package diskimage

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// maxOVF bounds a descriptor. VMware's own appliances have up to 0.5 MiB.
const maxOVF = 4 << 20

// maxCapacity bounds the size of a disk in bytes.
const maxCapacity = 1 << 62

// ovfEnvelope is what a reader wants of a descriptor. Elements and attributes
// are known by their local names, whatever prefix their namespace has. Package
// encoding/xml knows no entities but the five of XML itself, so that none can
// grow, and refuses elements nested too deep.
type ovfEnvelope struct {
	XMLName xml.Name
	Files   []ovfFile   `xml:"References>File"`
	Disks   []ovfDisk   `xml:"DiskSection>Disk"`
	Systems []ovfSystem `xml:"VirtualSystem"`
}

type ovfFile struct {
	ID          string `xml:"id,attr"`
	Href        string `xml:"href,attr"`
	Size        string `xml:"size,attr"`
	ChunkSize   string `xml:"chunkSize,attr"`
	Compression string `xml:"compression,attr"`
}

type ovfDisk struct {
	ID       string `xml:"diskId,attr"`
	FileRef  string `xml:"fileRef,attr"`
	Parent   string `xml:"parentRef,attr"`
	Capacity string `xml:"capacity,attr"`
	Units    string `xml:"capacityAllocationUnits,attr"`
	Format   string `xml:"format,attr"`
}

type ovfSystem struct {
	ID   string `xml:"id,attr"`
	Name string `xml:"Name"`
	OS   struct {
		ID          string `xml:"id,attr"`
		Type        string `xml:"osType,attr"`
		Description string `xml:"Description"`
	} `xml:"OperatingSystemSection"`
	Hardware []ovfHardware `xml:"VirtualHardwareSection"` // the first is preferred
	Product  string        `xml:"ProductSection>Product"`
	Vendor   string        `xml:"ProductSection>Vendor"`
	Version  string        `xml:"ProductSection>Version"`
	Firmware struct {
		Type string `xml:"type,attr"` // as VirtualBox says it
	} `xml:"Machine>Hardware>Firmware"`
}

type ovfHardware struct {
	Type   string      `xml:"System>VirtualSystemType"`
	Items  []ovfItem   `xml:"Item"`
	Config []ovfConfig `xml:"Config"`
}

type ovfItem struct {
	Type     string `xml:"ResourceType"`
	Quantity string `xml:"VirtualQuantity"`
	Units    string `xml:"AllocationUnits"`
}

type ovfConfig struct {
	Key   string `xml:"key,attr"`
	Value string `xml:"value,attr"`
}

// parseOVF parses a descriptor of OVF 1.x or 2.x, which say the same about
// disks.
func parseOVF(b []byte) (*ovfEnvelope, error) {
	e := &ovfEnvelope{}
	if err := xml.NewDecoder(bytes.NewReader(b)).Decode(e); err != nil {
		return nil, corruptf("parsing OVF descriptor: %v", err)
	}
	if e.XMLName.Local != "Envelope" {
		return nil, corruptf("parsing OVF descriptor: root element %.80q, want Envelope", e.XMLName.Local)
	}
	if !strings.HasPrefix(e.XMLName.Space, strings.TrimSuffix(ovfNamespace, "1")) {
		return nil, unsupportedf("parsing OVF descriptor: namespace %.200q, want %s", e.XMLName.Space, ovfNamespace)
	}
	return e, nil
}

// onlyDisk returns the one disk of the package and its file.
func (e *ovfEnvelope) onlyDisk() (*ovfDisk, *ovfFile, error) {
	switch len(e.Disks) {
	case 0:
		return nil, nil, unsupportedf("OVF descriptor without a disk")
	case 1:
	default:
		var names []string
		for _, d := range e.Disks[:min(len(e.Disks), 10)] {
			names = append(names, fmt.Sprintf("%.100q", d.ID))
		}
		return nil, nil, unsupportedf("OVF descriptor with %d disks (%s), want one", len(e.Disks), strings.Join(names, ", "))
	}
	d := &e.Disks[0]
	if d.Parent != "" {
		return nil, nil, unsupportedf("OVF disk %.100q has the parent disk %.100q", d.ID, d.Parent)
	}
	if d.FileRef == "" {
		return nil, nil, unsupportedf("OVF disk %.100q has no file: it is to be created empty", d.ID)
	}
	for i := range e.Files {
		if f := &e.Files[i]; f.ID == d.FileRef {
			return d, f, f.checkStored()
		}
	}
	return nil, nil, corruptf("OVF disk %.100q: no File with the id %.100q among the References", d.ID, d.FileRef)
}

// checkStored refuses files that are not stored as they are.
func (f *ovfFile) checkStored() error {
	if f.Compression != "" && f.Compression != "identity" {
		return unsupportedf("OVF file %.100q is compressed with %.100q, want it stored as it is", f.Href, f.Compression)
	}
	if f.ChunkSize != "" {
		return unsupportedf("OVF file %.100q is cut into chunks of %.100s bytes, want it whole", f.Href, f.ChunkSize)
	}
	return nil
}

// find returns the archive's member for the file. The name in a descriptor is
// a URI reference, but many programs do not escape it.
func (f *ovfFile) find(ms tarMembers) (member, error) {
	if m, ok := ms.find(f.Href); ok {
		return m, nil
	}
	if name, err := url.PathUnescape(f.Href); err == nil {
		if m, ok := ms.find(name); ok {
			return m, nil
		}
	}
	return member{}, corruptf("OVF file %.100q is not in the archive (have %s)", f.Href, ms.names())
}

var byteUnits = regexp.MustCompile(`^byte(?:\s*\*\s*([0-9]{1,4})(?:\s*\^\s*([0-9]{1,2}))?)?$`)

// capacity returns the disk's size in bytes; ok is false when the descriptor
// leaves it to a property (DSP0243 1.1, clause 9.1).
func (d *ovfDisk) capacity() (n int64, ok bool, err error) {
	if strings.HasPrefix(d.Capacity, "${") {
		return 0, false, nil
	}
	n, err = strconv.ParseInt(d.Capacity, 10, 64)
	if err != nil || n < 0 {
		return 0, false, corruptf("capacity %.100q, want a number", d.Capacity)
	}
	unit, err := d.unit()
	if err != nil {
		return 0, false, err
	}
	if n > maxCapacity/unit {
		return 0, false, corruptf("capacity %s times %.100q, want at most 2^62 bytes", d.Capacity, d.Units)
	}
	return n * unit, true, nil
}

// unit returns what the capacity counts, in bytes: 1 to maxCapacity.
func (d *ovfDisk) unit() (int64, error) {
	if d.Units == "" {
		return 1, nil
	}
	m := byteUnits.FindStringSubmatch(d.Units)
	if m == nil {
		return 0, corruptf("capacity unit %.100q, want byte or byte * 2^N", d.Units)
	}
	base, _ := strconv.ParseInt(m[1], 10, 64) // empty or digits: 0 stands for no base
	times, _ := strconv.Atoi(m[2])
	unit := max(1, base)
	for n := 1; n < times && base > 1; n++ {
		if unit > maxCapacity/base {
			return 0, corruptf("capacity unit %.100q, want at most 2^62 bytes", d.Units)
		}
		unit *= base
	}
	return unit, nil
}

// details describes the machine, when the package has just one.
func (e *ovfEnvelope) details() []Detail {
	if len(e.Systems) != 1 {
		return []Detail{{"virtual systems", strconv.Itoa(len(e.Systems))}}
	}
	s := &e.Systems[0]
	var hw ovfHardware
	if len(s.Hardware) > 0 {
		hw = s.Hardware[0]
	}
	firmware := strings.ToLower(s.Firmware.Type)
	for _, c := range hw.Config {
		if c.Key == "firmware" {
			firmware = c.Value
		}
	}
	var details []Detail
	for _, d := range []Detail{
		{"name", first(s.Name, s.ID)},
		{"hardware version", hw.Type},
		{"cpus", hw.quantity("3")},
		{"memory", hw.quantity("4")},
		{"os type", first(s.OS.Type, s.OS.Description, s.OS.ID)},
		{"firmware", firmware},
		{"product", s.Product},
		{"vendor", s.Vendor},
		{"version", s.Version},
	} {
		if d.Value = strings.TrimSpace(d.Value); d.Value != "" {
			details = append(details, d)
		}
	}
	return details
}

// quantity returns how much the machine has of a resource type (3 is CPUs, 4
// memory) as text.
func (hw *ovfHardware) quantity(kind string) string {
	for _, i := range hw.Items {
		if strings.TrimSpace(i.Type) != kind {
			continue
		}
		switch unit := strings.TrimSpace(i.Units); {
		case kind == "3" || unit == "":
			return i.Quantity
		case unit == "byte * 2^20" || unit == "MegaBytes":
			return i.Quantity + " MiB"
		default:
			return i.Quantity + " * " + unit
		}
	}
	return ""
}

// first returns the first text that is not empty.
func first(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}
