package diskimage

import "fmt"

// vmdkDescriptor returns the embedded descriptor ("The Descriptor File" of the
// specification), filled with zeros to its sectors. It holds no long content
// ID: that is of the content, which is not known when a stream begins.
func vmdkDescriptor(o *VMDKOptions, sectors int64) []byte {
	heads, perTrack, maxCylinders := int64(255), int64(63), int64(65535)
	if o.AdapterType == "ide" {
		heads, maxCylinders = 16, 16383
	}
	text := fmt.Sprintf(`# Disk DescriptorFile
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
