package diskimage

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
)

const (
	vmdkDescriptorMagic = "# Disk DescriptorFile"

	// maxVMDKDescriptor is what QEMU reads of one; maxVMDKExtents is enough
	// for 8 TiB in files of 2 GiB.
	maxVMDKDescriptor = 1 << 20
	maxVMDKExtents    = 4096
)

// vmdkDescriptor returns the embedded descriptor ("The Descriptor File" of the
// specification), filled with zeros to its sectors. It holds no long content
// ID: that is of the content, which is not known when a stream begins.
func vmdkDescriptor(o *VMDKOptions, sectors int64) []byte {
	heads, perTrack, maxCylinders := int64(255), int64(63), int64(65535)
	if o.AdapterType == "ide" {
		heads, maxCylinders = 16, 16383
	}
	text := fmt.Sprintf(vmdkDescriptorMagic+`
version=1
encoding="UTF-8"
CID=%08x
parentCID=%08x
createType="%s"

# Extent description
RW %d SPARSE "%s"

# The Disk Data Base
#DDB

ddb.virtualHWVersion = "%d"
ddb.geometry.cylinders = "%d"
ddb.geometry.heads = "%d"
ddb.geometry.sectors = "%d"
ddb.adapterType = "%s"
`, o.CID, uint32(noParent), o.Subformat, sectors, o.ExtentName, o.HardwareVersion,
		min(ceilDiv(sectors, heads*perTrack), maxCylinders), heads, perTrack, o.AdapterType)
	return append([]byte(text), make([]byte, vmdkDescriptorSectors*vmdkSector-len(text))...)
}

// descriptorFile is what a descriptor, embedded or in a file, says.
type descriptorFile struct {
	keys    map[string]string // in lower case; values without their quotes
	extents []extentLine
}

// extentLine is one line of the extent description.
type extentLine struct {
	kind    string // FLAT, SPARSE, VMFS, ZERO, …
	name    string
	sectors int64
	offset  int64 // of the data in a FLAT file, in sectors
}

// readDescriptor reads the descriptor of n bytes at off.
func readDescriptor(r io.ReaderAt, off, n int64) (*descriptorFile, error) {
	b := make([]byte, min(n, maxVMDKDescriptor))
	if err := readFull(r, b, off); err != nil {
		return nil, fmt.Errorf("reading vmdk descriptor at offset %#x: %w", off, err)
	}
	b, _, _ = bytes.Cut(b, []byte{0})
	if !bytes.HasPrefix(b, []byte(vmdkDescriptorMagic)) {
		return nil, corruptf("reading vmdk descriptor at offset %#x: want it to begin with %q (the extents of a larger disk have none)", off, vmdkDescriptorMagic)
	}
	d := &descriptorFile{keys: map[string]string{}}
	for i, line := range strings.Split(string(b), "\n") {
		if err := d.parseLine(strings.TrimSpace(line)); err != nil {
			return nil, corruptf("reading vmdk descriptor: line %d, %.80q: %v", i+1, line, err)
		}
	}
	if v := d.keys["version"]; v != "1" && v != "2" && v != "3" {
		return nil, unsupportedf("reading vmdk descriptor: version %.20q (have 1, 2, 3)", v)
	}
	if d.keys["createtype"] == "" {
		return nil, corruptf("reading vmdk descriptor: no createType")
	}
	if id := d.keys["parentcid"]; id != "" && !strings.EqualFold(id, "ffffffff") {
		return nil, unsupportedf("reading vmdk descriptor: the disk is a snapshot of another one (parentCID %.20q, file %.80q), merge them first",
			id, d.keys["parentfilenamehint"])
	}
	return d, nil
}

// parseLine takes a comment, a key and its value, or an extent.
func (d *descriptorFile) parseLine(line string) error {
	if line == "" || line[0] == '#' {
		return nil
	}
	switch access, _, _ := strings.Cut(line, " "); access {
	case "RW", "RDONLY", "NOACCESS":
		return d.parseExtent(line)
	}
	key, value, ok := strings.Cut(line, "=")
	if !ok {
		return fmt.Errorf("want an extent or a key with a value")
	}
	d.keys[strings.ToLower(strings.TrimSpace(key))] = strings.Trim(strings.TrimSpace(value), `"`)
	return nil
}

// parseExtent takes a line like
//
//	RW 4192256 FLAT "disk-f001.vmdk" 0
func (d *descriptorFile) parseExtent(line string) error {
	before, rest, _ := strings.Cut(line, `"`)
	name, after, closed := strings.Cut(rest, `"`)
	fields, tail := strings.Fields(before), strings.Fields(after)
	if len(fields) != 3 || (rest != "") != closed || len(tail) > 1 && fields[2] == "FLAT" {
		return fmt.Errorf("want access, sectors, type, \"file\" and offset")
	}
	if len(d.extents) == maxVMDKExtents {
		return fmt.Errorf("more than %d extents", maxVMDKExtents)
	}
	if fields[0] == "NOACCESS" {
		return fmt.Errorf("extent without access")
	}
	e := extentLine{kind: fields[2], name: name}
	var err error
	if e.sectors, err = strconv.ParseInt(fields[1], 10, 64); err != nil || e.sectors < 1 || e.sectors > 1<<53 {
		return fmt.Errorf("size of the extent, want 1 to 2^53 sectors")
	}
	if len(tail) > 0 {
		if e.offset, err = strconv.ParseInt(tail[0], 10, 64); err != nil || e.offset < 0 || e.offset > 1<<53 {
			return fmt.Errorf("offset of the extent, want 0 to 2^53 sectors")
		}
	}
	d.extents = append(d.extents, e)
	return nil
}
