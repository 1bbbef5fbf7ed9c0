package diskimage

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // VirtualBox's manifests have it
	"crypto/sha512"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/vmware/govmomi/ovf"
)

// virtualBoxOVF is written as VirtualBox 7 exports an EFI machine: sizes in
// bytes without a unit, no size of the file, its own machine description.
const virtualBoxOVF = `<?xml version="1.0"?>
<Envelope ovf:version="1.0" xml:lang="en-US" xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:vbox="http://www.virtualbox.org/ovf/machine">
  <References>
    <File ovf:id="file1" ovf:href="box-disk001.vmdk"/>
  </References>
  <DiskSection>
    <Info>List of the virtual disks used in the package</Info>
    <Disk ovf:capacity="%d" ovf:diskId="vmdisk1" ovf:fileRef="file1" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized" vbox:uuid="9a6b2a52-2bf7-4d1b-9a35-0b6ed54f4b34"/>
  </DiskSection>
  <VirtualSystem ovf:id="box">
    <Info>A virtual machine</Info>
    <OperatingSystemSection ovf:id="96">
      <Info>The kind of installed guest operating system</Info>
      <Description>Debian_64</Description>
      <vbox:OSType ovf:required="false">Debian12_64</vbox:OSType>
    </OperatingSystemSection>
    <VirtualHardwareSection>
      <Info>Virtual hardware requirements for a virtual machine</Info>
      <System>
        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>
        <vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemIdentifier>box</vssd:VirtualSystemIdentifier>
        <vssd:VirtualSystemType>virtualbox-2.2</vssd:VirtualSystemType>
      </System>
      <Item>
        <rasd:Caption>2 virtual CPU</rasd:Caption>
        <rasd:ElementName>2 virtual CPU</rasd:ElementName>
        <rasd:InstanceID>1</rasd:InstanceID>
        <rasd:ResourceType>3</rasd:ResourceType>
        <rasd:VirtualQuantity>2</rasd:VirtualQuantity>
      </Item>
      <Item>
        <rasd:AllocationUnits>MegaBytes</rasd:AllocationUnits>
        <rasd:Caption>1024 MB of memory</rasd:Caption>
        <rasd:ElementName>1024 MB of memory</rasd:ElementName>
        <rasd:InstanceID>2</rasd:InstanceID>
        <rasd:ResourceType>4</rasd:ResourceType>
        <rasd:VirtualQuantity>1024</rasd:VirtualQuantity>
      </Item>
    </VirtualHardwareSection>
    <vbox:Machine ovf:required="false" version="1.19-linux" uuid="{7b3d4a54-6a0e-4b8f-9d9c-5f0f6d7e8a11}" name="box" OSType="Debian12_64">
      <Hardware>
        <Firmware type="EFI"/>
      </Hardware>
    </vbox:Machine>
  </VirtualSystem>
</Envelope>
`

// ovftoolOVF is written as ovftool exports: a rounded unit, a second file that
// is no disk, an escaped name.
const ovftoolOVF = `<?xml version='1.0' encoding='UTF-8'?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:vmw="http://www.vmware.com/schema/ovf" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData">
  <References>
    <File ovf:id="file1" ovf:href="my%%20vm-disk1.vmdk" ovf:size="%d"/>
    <File ovf:id="file2" ovf:href="my%%20vm.nvram" ovf:size="8684"/>
  </References>
  <DiskSection>
    <Info>List of the virtual disks</Info>
    <Disk ovf:capacityAllocationUnits="byte * 2^20" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized" ovf:diskId="vmdisk1" ovf:capacity="%d" ovf:fileRef="file1"/>
  </DiskSection>
  <VirtualSystem ovf:id="my vm">
    <Info>A Virtual system</Info>
    <Name>my vm</Name>
    <OperatingSystemSection ovf:id="96" vmw:osType="debian12_64Guest"/>
    <VirtualHardwareSection>
      <System>
        <vssd:VirtualSystemType>vmx-20</vssd:VirtualSystemType>
      </System>
      <Item>
        <rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits>
        <rasd:ResourceType>4</rasd:ResourceType>
        <rasd:VirtualQuantity>4096</rasd:VirtualQuantity>
      </Item>
      <vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="efi"/>
    </VirtualHardwareSection>
    <ProductSection><Info/><Product>Thing</Product></ProductSection>
  </VirtualSystem>
</Envelope>
`

// theirDisk makes a raw disk of whole MiB and qemu-img's streamOptimized VMDK
// of it.
func theirDisk(t *testing.T, dir, name string) (raw string, vmdk []byte) {
	t.Helper()
	r := rand.New(rand.NewPCG(11, 12))
	raw = rawFile(t, 12<<20, put{5000, random(r, 3<<20, true)}, put{9 << 20, random(r, 1<<20, false)})
	out := filepath.Join(dir, name)
	qemu(t, "qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", raw, out)
	vmdk, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return raw, vmdk
}

func writeFile(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// detailsOf returns what Info tells of the machine.
func detailsOf(ova *File) map[string]string {
	m := map[string]string{}
	for _, d := range ova.Info().Details {
		m[d.Name] = d.Value
	}
	return m
}

// TestReadVirtualBoxOVA reads a package packed by GNU tar in each of its
// formats, with a manifest as openssl prints it.
func TestReadVirtualBoxOVA(t *testing.T) {
	dir := t.TempDir()
	raw, vmdk := theirDisk(t, dir, "box-disk001.vmdk")
	descriptor := fmt.Sprintf(virtualBoxOVF, 12<<20)
	writeFile(t, dir, "box.ovf", descriptor)
	writeFile(t, dir, "box.mf", fmt.Sprintf("SHA1 (box.ovf) = %x\r\n\r\nSHA1 (box-disk001.vmdk) = %X\r\n", sha1.Sum([]byte(descriptor)), sha1.Sum(vmdk)))
	for _, format := range []string{"ustar", "gnu", "oldgnu", "pax", "v7"} {
		path := filepath.Join(dir, format+".ova")
		tool(t, dir, "", "tar", "--format="+format, "-cf", path, "box.ovf", "box-disk001.vmdk", "box.mf")
		ova, err := Open(path, OpenOptions{Format: OVA}) // v7 has no magic
		if err != nil {
			t.Fatalf("%s: %v", format, err)
		}
		defer ova.Close()
		sameDisk(t, open(t, raw, OpenOptions{Format: Raw}), ova)
		cleanOVA(t, ova)
		for name, want := range map[string]string{"name": "box", "hardware version": "virtualbox-2.2", "cpus": "2",
			"memory": "1024 MiB", "os type": "Debian_64", "firmware": "efi", "disk file": "box-disk001.vmdk", "manifest": "box.mf"} {
			if got := detailsOf(ova)[name]; got != want {
				t.Errorf("%s: %s %q, want %q", format, name, got, want)
			}
		}
	}
}

// TestReadOVFToolOVA reads names that are escaped, further files and a
// certificate.
func TestReadOVFToolOVA(t *testing.T) {
	dir := t.TempDir()
	raw, vmdk := theirDisk(t, dir, "my vm-disk1.vmdk")
	descriptor, nvram := fmt.Sprintf(ovftoolOVF, len(vmdk), 12), strings.Repeat("n", 8684)
	writeFile(t, dir, "my vm.ovf", descriptor)
	writeFile(t, dir, "my vm.nvram", nvram)
	writeFile(t, dir, "my vm.cert", "-----BEGIN CERTIFICATE-----")
	writeFile(t, dir, "my vm.mf", fmt.Sprintf("SHA256(my vm.ovf)= %s\nSHA512(my vm-disk1.vmdk)= %x\nSHA256(my vm.nvram)= %s\n",
		hexSum([]byte(descriptor)), sha512.Sum512(vmdk), hexSum([]byte(nvram))))
	tool(t, dir, "", "tar", "-cf", "vm.ova", "my vm.ovf", "my vm.mf", "my vm.cert", "my vm-disk1.vmdk", "my vm.nvram")
	ova := open(t, filepath.Join(dir, "vm.ova"), OpenOptions{RefuseRaw: true})
	sameDisk(t, open(t, raw, OpenOptions{Format: Raw}), ova)
	backToRaw(t, raw, ova)
	cleanOVA(t, ova)
	for name, want := range map[string]string{"name": "my vm", "hardware version": "vmx-20", "memory": "4096 MiB",
		"os type": "debian12_64Guest", "firmware": "efi", "product": "Thing", "disk file": "my vm-disk1.vmdk"} {
		if got := detailsOf(ova)[name]; got != want {
			t.Errorf("%s %q, want %q", name, got, want)
		}
	}
}

// TestReadGovmomisOVA opens the appliance that govmomi's own tests import: a
// real one, but for its disk of which the first MiB is left.
func TestReadGovmomisOVA(t *testing.T) {
	d, err := Open(govmomiFile(t, "vapi", "library", "testdata", "ttylinux-pc_i486-16.1.ova"), OpenOptions{RefuseRaw: true})
	if err == nil {
		d.Close()
	}
	want := `opening "ttylinux-pc_i486-16.1-disk1.vmdk", which begins at offset 0x1c00: reading vmdk footer`
	if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

// govmomiFile returns the path of a file in the module's folder.
func govmomiFile(t *testing.T, elem ...string) string {
	t.Helper()
	dir := strings.TrimSpace(tool(t, "", "", "go", "list", "-m", "-f", "{{.Dir}}", "github.com/vmware/govmomi"))
	return filepath.Join(append([]string{dir}, elem...)...)
}

// TestOVFsOfOthers parses the thousand descriptors of appliances old and new
// that govmomi's own tests use, and holds what it finds against govmomi's view.
func TestOVFsOfOthers(t *testing.T) {
	read, refused := 0, map[string]int{}
	err := filepath.WalkDir(govmomiFile(t, "ovf", "fixtures"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".ovf" {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		e, err := parseOVF(b)
		var disk *ovfDisk
		if err == nil {
			disk, _, err = e.onlyDisk()
		}
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrUnsupported) {
				t.Errorf("%s: %v", path, err)
			}
			refused[fmt.Sprintf("%.40s", err)]++
			return nil
		}
		read++
		sameAsGovmomi(t, path, b, e, disk)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d read, refused: %v", read, refused)
	if read < 400 {
		t.Errorf("%d descriptors with one disk, want 400 at least", read)
	}
}

// sameAsGovmomi compares disk and machine of a descriptor that govmomi reads.
func sameAsGovmomi(t *testing.T, path string, text []byte, e *ovfEnvelope, disk *ovfDisk) {
	t.Helper()
	theirs, err := ovf.Unmarshal(bytes.NewReader(text))
	if err != nil {
		return
	}
	if n := len(theirs.Disk.Disks); n != 1 {
		t.Errorf("%s: govmomi sees %d disks", path, n)
		return
	}
	desc := theirs.Disk.Disks[0]
	units := ""
	if desc.CapacityAllocationUnits != nil {
		units = *desc.CapacityAllocationUnits
	}
	theirSize, _ := strconv.ParseInt(desc.Capacity, 10, 64)
	theirSize *= ovf.ParseCapacityAllocationUnits(units)
	n, ok, err := disk.capacity()
	if wrong := strings.HasSuffix(path, "no_capacity.ovf"); (err != nil) != wrong || (ok && n != theirSize) {
		t.Errorf("%s: capacity %d, %v; govmomi says %d", path, n, err, theirSize)
	}
	spec, err := theirs.ToConfigSpec()
	if err != nil || theirs.VirtualSystem == nil {
		return
	}
	details := map[string]string{}
	for _, d := range e.details() {
		details[d.Name] = d.Value
	}
	for name, want := range map[string]string{"hardware version": strings.TrimSpace(spec.Version), "firmware": spec.Firmware} {
		if details[name] != want {
			t.Errorf("%s: %s %q, govmomi says %q", path, name, details[name], want)
		}
	}
}

func FuzzParseOVF(f *testing.F) {
	f.Add([]byte(smallOVF))
	f.Add(fmt.Appendf(nil, virtualBoxOVF, 1<<20))
	f.Add(fmt.Appendf(nil, ovftoolOVF, 1, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > maxOVF {
			return
		}
		e, err := parseOVF(b)
		if err != nil {
			return
		}
		e.details()
		if d, _, err := e.onlyDisk(); err == nil {
			if n, _, _ := d.capacity(); n < 0 || n > maxCapacity {
				t.Errorf("capacity %d of %q times %q", n, d.Capacity, d.Units)
			}
		}
	})
}
