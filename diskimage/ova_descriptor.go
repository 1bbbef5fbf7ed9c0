package diskimage

import (
	"bytes"
	"encoding/xml"
	"strconv"
	"strings"
	"text/template"
)

// XML namespaces and the disk format's URI, as VMware's tools write them.
// The first is of DSP0243 1.1, the rasd and vssd ones of DSP8023.
const (
	ovfNamespace   = "http://schemas.dmtf.org/ovf/envelope/1"
	streamFormat   = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"
	maxInt64Digits = 19
)

// ovfDescriptor is the OVF descriptor of one machine with one disk, one PVSCSI
// controller and one VMXNET3 adapter. Elements of an Item are in alphabetical
// order, which the schema demands. Every text goes through xml.
var ovfDescriptor = template.Must(template.New("ovf").Funcs(template.FuncMap{"xml": escapeXML}).Parse(
	`<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="` + ovfNamespace + `" xmlns:ovf="` + ovfNamespace + `" ` +
		`xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" ` +
		`xmlns:vmw="http://www.vmware.com/schema/ovf" ` +
		`xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData" ` +
		`xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
  <References>
    <File ovf:href="{{xml .DiskFile}}" ovf:id="file1" ovf:size="{{.FileSize}}"/>{{.Padding}}
  </References>
  <DiskSection>
    <Info>Virtual disk information</Info>
    <Disk ovf:capacity="{{.Capacity}}" ovf:capacityAllocationUnits="byte" ovf:diskId="vmdisk1" ovf:fileRef="file1" ` +
		`ovf:format="` + streamFormat + `" ovf:populatedSize="{{.Populated}}"/>
  </DiskSection>
  <NetworkSection>
    <Info>The list of logical networks</Info>
    <Network ovf:name="{{xml .Network}}">
      <Description>The {{xml .Network}} network</Description>
    </Network>
  </NetworkSection>
  <VirtualSystem ovf:id="{{xml .Name}}">
    <Info>A virtual machine</Info>
    <Name>{{xml .Name}}</Name>
    <OperatingSystemSection ovf:id="{{.CIMType}}" vmw:osType="{{xml .OSType}}">
      <Info>The kind of installed guest operating system</Info>
    </OperatingSystemSection>
    <VirtualHardwareSection>
      <Info>Virtual hardware requirements</Info>
      <System>
        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>
        <vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemIdentifier>{{xml .Name}}</vssd:VirtualSystemIdentifier>
        <vssd:VirtualSystemType>vmx-{{.HardwareVersion}}</vssd:VirtualSystemType>
      </System>
      <Item>
        <rasd:AllocationUnits>hertz * 10^6</rasd:AllocationUnits>
        <rasd:Description>Number of Virtual CPUs</rasd:Description>
        <rasd:ElementName>{{.CPUs}} virtual CPU(s)</rasd:ElementName>
        <rasd:InstanceID>1</rasd:InstanceID>
        <rasd:ResourceType>3</rasd:ResourceType>
        <rasd:VirtualQuantity>{{.CPUs}}</rasd:VirtualQuantity>
      </Item>
      <Item>
        <rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits>
        <rasd:Description>Memory Size</rasd:Description>
        <rasd:ElementName>{{.MemoryMiB}}MB of memory</rasd:ElementName>
        <rasd:InstanceID>2</rasd:InstanceID>
        <rasd:ResourceType>4</rasd:ResourceType>
        <rasd:VirtualQuantity>{{.MemoryMiB}}</rasd:VirtualQuantity>
      </Item>
      <Item>
        <rasd:Address>0</rasd:Address>
        <rasd:Description>SCSI Controller</rasd:Description>
        <rasd:ElementName>SCSI controller 0</rasd:ElementName>
        <rasd:InstanceID>3</rasd:InstanceID>
        <rasd:ResourceSubType>VirtualSCSI</rasd:ResourceSubType>
        <rasd:ResourceType>6</rasd:ResourceType>
      </Item>
      <Item>
        <rasd:AddressOnParent>0</rasd:AddressOnParent>
        <rasd:ElementName>Hard disk 1</rasd:ElementName>
        <rasd:HostResource>ovf:/disk/vmdisk1</rasd:HostResource>
        <rasd:InstanceID>4</rasd:InstanceID>
        <rasd:Parent>3</rasd:Parent>
        <rasd:ResourceType>17</rasd:ResourceType>
      </Item>
      <Item>
        <rasd:AddressOnParent>7</rasd:AddressOnParent>
        <rasd:AutomaticAllocation>true</rasd:AutomaticAllocation>
        <rasd:Connection>{{xml .Network}}</rasd:Connection>
        <rasd:Description>VmxNet3 ethernet adapter on &quot;{{xml .Network}}&quot;</rasd:Description>
        <rasd:ElementName>Network adapter 1</rasd:ElementName>
        <rasd:InstanceID>5</rasd:InstanceID>
        <rasd:ResourceSubType>VmxNet3</rasd:ResourceSubType>
        <rasd:ResourceType>10</rasd:ResourceType>
      </Item>
      <vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="{{.Firmware}}"/>
      <vmw:ExtraConfig ovf:required="false" vmw:key="disk.EnableUUID" vmw:value="TRUE"/>
    </VirtualHardwareSection>
{{- if or .Product .Vendor .Version .ProductURL .VendorURL}}
    <ProductSection>
      <Info>Information about the installed software</Info>
{{- with .Product}}
      <Product>{{xml .}}</Product>
{{- end}}
{{- with .Vendor}}
      <Vendor>{{xml .}}</Vendor>
{{- end}}
{{- with .Version}}
      <Version>{{xml .}}</Version>
{{- end}}
{{- with .ProductURL}}
      <ProductUrl>{{xml .}}</ProductUrl>
{{- end}}
{{- with .VendorURL}}
      <VendorUrl>{{xml .}}</VendorUrl>
{{- end}}
    </ProductSection>
{{- end}}
{{- with .Annotation}}
    <AnnotationSection>
      <Info>A human-readable annotation</Info>
      <Annotation>{{xml .}}</Annotation>
    </AnnotationSection>
{{- end}}
  </VirtualSystem>
</Envelope>
`))

// ovfSizes are the numbers of the descriptor that come from the disk, in bytes.
type ovfSizes struct {
	FileSize  int64 // of the disk file
	Populated int64 // what the guest's data takes, in whole grains
	Capacity  int64 // of the disk
}

// renderOVF returns the descriptor. Its length depends on the options alone:
// what the sizes, some of which are known last, leave of their widest form is
// filled with spaces between two elements, where XML knows no text.
func renderOVF(o *OVAOptions, sizes ovfSizes) ([]byte, error) {
	spare := 3 * maxInt64Digits
	for _, n := range []int64{sizes.FileSize, sizes.Populated, sizes.Capacity} {
		spare -= len(strconv.FormatInt(n, 10))
	}
	var b bytes.Buffer
	err := ovfDescriptor.Execute(&b, struct {
		*OVAOptions
		ovfSizes
		DiskFile, Padding string
		CIMType           int
	}{o, sizes, o.diskFile(), strings.Repeat(" ", spare), cimOSType(o.OSType)})
	return b.Bytes(), err
}

func escapeXML(s string) (string, error) {
	var b strings.Builder
	err := xml.EscapeText(&b, []byte(s))
	return b.String(), err
}

// cimOSTypes maps VMware's guest identifiers, by how they begin, to values of
// CIM_OperatingSystem.OSType for 32 and 64 bits, which DSP0243 1.1 clause 9.9
// wants as the section's ovf:id.
var cimOSTypes = [...]struct {
	prefix         string
	bits32, bits64 int
}{
	{"other24xLinux", 97, 98}, {"other26xLinux", 99, 100}, {"debian", 95, 96}, {"ubuntu", 93, 94}, {"rhel", 79, 80},
	{"centos", 106, 107}, {"oracleLinux", 108, 109}, {"sles", 84, 85}, {"suse", 82, 83}, {"opensuse", 82, 83},
	{"freebsd", 42, 78}, {"turboLinux", 91, 92}, {"fedora", 36, 101}, {"asianux", 36, 101}, {"coreos", 36, 101},
	{"vmwarePhoton", 36, 101},
}

// cimOSType returns the value for a guest identifier, of Linux for others with
// that in their name and "Other" for the rest: the identifier itself is in the
// descriptor too.
func cimOSType(guestID string) int {
	bits32, bits64 := 1, 102
	if strings.Contains(guestID, "inux") {
		bits32, bits64 = 36, 101
	}
	for _, t := range cimOSTypes {
		if strings.HasPrefix(guestID, t.prefix) {
			bits32, bits64 = t.bits32, t.bits64
		}
	}
	if strings.Contains(guestID, "64") {
		return bits64
	}
	return bits32
}
