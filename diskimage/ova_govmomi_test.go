package diskimage

import (
	"context"
	"crypto/sha1" //nolint:gosec // what vcsim tells of an upload
	"encoding/hex"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/nfc"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/ovf"
	"github.com/vmware/govmomi/ovf/importer"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vapi/library"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// fullOptions set everything, with all that XML has a meaning for.
func fullOptions() OVAOptions {
	return OVAOptions{
		Name: "appliance-1.0", HardwareVersion: 19, MemoryMiB: 4096, CPUs: 4, OSType: "debian12_64Guest", Firmware: "efi",
		Network: `LAN "1" <&>`, Product: `kld & <load> "x" 'y' ]]>`, Vendor: "Vendör & Söhne", Version: "1.0 <rc>",
		ProductURL: "https://example.org/?a=1&b=2", VendorURL: "https://example.org/<vendor>",
		Annotation: "two lines,\n\tthe second <indented> & with a 🐧",
	}
}

// archiveOf opens an OVA as govc import.ova does.
func archiveOf(path string) *importer.TapeArchive { return &importer.TapeArchive{Path: path} }

// envelopeOf has govmomi parse the descriptor of an OVA.
func envelopeOf(t *testing.T, path string) *ovf.Envelope {
	t.Helper()
	b, err := importer.ReadOvf("*.ovf", archiveOf(path))
	if err != nil {
		t.Fatal(err)
	}
	e, err := importer.ReadEnvelope(b)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// equal compares what govmomi understood.
func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

// TestOVAGovmomiUnderstands has VMware's client read the descriptor back, and
// make a machine's configuration of it in its strict mode.
func TestOVAGovmomiUnderstands(t *testing.T) {
	o := fullOptions()
	path, _ := writeOVA(t, rawFile(t, 3<<20+100, put{0, []byte("boot")}), o)
	e := envelopeOf(t, path)
	vs := e.VirtualSystem
	if vs == nil || len(vs.Product) != 1 || vs.Annotation == nil || vs.Name == nil || len(e.References) != 1 || len(e.Disk.Disks) != 1 {
		t.Fatalf("envelope %+v", e)
	}
	equal(t, "id", vs.ID, o.Name)
	equal(t, "name", *vs.Name, o.Name)
	equal(t, "product", vs.Product[0].Product, o.Product)
	equal(t, "vendor", vs.Product[0].Vendor, o.Vendor)
	equal(t, "version", vs.Product[0].Version, o.Version)
	equal(t, "product URL", vs.Product[0].ProductURL, o.ProductURL)
	equal(t, "vendor URL", vs.Product[0].VendorURL, o.VendorURL)
	equal(t, "annotation", vs.Annotation.Annotation, o.Annotation)
	equal(t, "network", e.Network.Networks[0].Name, o.Network)
	equal(t, "OS id", vs.OperatingSystem.ID, int16(ovf.CIMOSTypeDebian64Bit))
	equal(t, "file", e.References[0].Href, o.diskFile())
	equal(t, "populated size", *e.Disk.Disks[0].PopulatedSize, 64<<10)

	spec, err := e.ToConfigSpecWithOptions(ovf.ToConfigSpecOptions{Strict: true})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "guest id", spec.GuestId, o.OSType)
	equal(t, "hardware version", spec.Version, "vmx-19")
	equal(t, "CPUs", spec.NumCPUs, int32(o.CPUs))
	equal(t, "memory", spec.MemoryMB, int64(o.MemoryMiB))
	equal(t, "firmware", spec.Firmware, "efi")
	uuid, _ := object.OptionValueList(spec.ExtraConfig).GetString("disk.EnableUUID")
	equal(t, "disk.EnableUUID", uuid, "TRUE")
	var devices object.VirtualDeviceList
	for _, c := range spec.DeviceChange {
		devices = append(devices, c.GetVirtualDeviceConfigSpec().Device)
	}
	checkDevices(t, devices)
	disk := devices.SelectByType((*types.VirtualDisk)(nil))[0].(*types.VirtualDisk)
	equal(t, "capacity", disk.CapacityInBytes, int64(3<<20+512))
}

// checkDevices wants one disk on a PVSCSI controller and one VMXNET3 adapter.
func checkDevices(t *testing.T, devices object.VirtualDeviceList) {
	t.Helper()
	equal(t, "number of PVSCSI controllers", len(devices.SelectByType((*types.ParaVirtualSCSIController)(nil))), 1)
	equal(t, "number of VMXNET3 adapters", len(devices.SelectByType((*types.VirtualVmxnet3)(nil))), 1)
	disks := devices.SelectByType((*types.VirtualDisk)(nil))
	equal(t, "number of disks", len(disks), 1)
	if _, ok := devices.FindByKey(disks[0].GetVirtualDevice().ControllerKey).(*types.ParaVirtualSCSIController); !ok {
		t.Error("the disk is not on the PVSCSI controller")
	}
}

// vcenter runs govmomi's simulator of a vCenter in this process and returns an
// importer for it.
func vcenter(t *testing.T, path string) *importer.Importer {
	t.Helper()
	ctx := context.Background()
	model := simulator.VPX()
	t.Cleanup(model.Remove)
	if err := model.Create(); err != nil {
		t.Fatal(err)
	}
	server := model.Service.NewServer()
	t.Cleanup(server.Close)
	c, err := govmomi.NewClient(ctx, server.URL, true)
	if err != nil {
		t.Fatal(err)
	}
	finder := find.NewFinder(c.Client)
	dc, err := finder.DefaultDatacenter(ctx)
	if err != nil {
		t.Fatal(err)
	}
	finder.SetDatacenter(dc)
	ds, err := finder.DefaultDatastore(ctx)
	if err != nil {
		t.Fatal(err)
	}
	pool, err := finder.ResourcePool(ctx, "/DC0/host/DC0_C0/Resources")
	if err != nil {
		t.Fatal(err)
	}
	folder, err := finder.DefaultFolder(ctx)
	if err != nil {
		t.Fatal(err)
	}
	archive := archiveOf(path)
	archive.Client = c.Client
	return &importer.Importer{
		Log:    func(s string) (int, error) { t.Logf("govc: %s", s); return len(s), nil },
		Client: c.Client, Finder: finder, Datacenter: dc, Datastore: ds, ResourcePool: pool, Folder: folder, Archive: archive,
	}
}

// TestOVAImportedByVCSim imports as govc import.ova does, step by step: the
// descriptor without an error or warning, the upload of the disk, whose digest
// the server tells, and a machine with the hardware asked for.
func TestOVAImportedByVCSim(t *testing.T) {
	ctx := context.Background()
	o := fullOptions()
	path, _ := writeOVA(t, rawFile(t, 64<<20, put{1 << 20, random(rand.New(rand.NewPCG(1, 9)), 3<<20, false)}), o)
	imp := vcenter(t, path)
	text, err := importer.ReadOvf("*.ovf", imp.Archive)
	if err != nil {
		t.Fatal(err)
	}
	result, err := ovf.NewManager(imp.Client).CreateImportSpec(ctx, string(text), imp.ResourcePool, imp.Datastore,
		&types.OvfCreateImportSpecParams{EntityName: o.Name})
	if err != nil || len(result.Error) > 0 || len(result.Warning) > 0 {
		t.Fatalf("import spec: %v, errors %+v, warnings %+v", err, result.Error, result.Warning)
	}
	options, err := importer.Spec("*.ovf", imp.Archive, false, false)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "network to map", options.NetworkMapping[0].Name, o.Network)
	equal(t, "annotation", options.Annotation, o.Annotation)
	options.NetworkMapping[0].Network = "VM Network"
	info, lease, err := imp.ImportVApp(ctx, "*.ovf", *options)
	if err != nil {
		t.Fatal(err)
	}
	uploadDisk(t, imp, lease, info, o.diskFile())
	if err := lease.Complete(ctx); err != nil {
		t.Fatal(err)
	}
	vm := object.NewVirtualMachine(imp.Client, info.Entity)
	checkMachine(t, vm, o)
	checkConfiguration(t, imp)
}

// uploadDisk uploads what the server wants, the disk.
func uploadDisk(t *testing.T, imp *importer.Importer, lease *nfc.Lease, info *nfc.LeaseInfo, name string) {
	t.Helper()
	ctx := context.Background()
	equal(t, "number of files to upload", len(info.Items), 1)
	item := info.Items[0]
	vmdk := memberOf(t, imp.Archive, name)
	equal(t, "file to upload", item.Path, name)
	equal(t, "its size", item.Size, int64(len(vmdk)))
	if err := imp.Upload(ctx, lease, item); err != nil {
		t.Fatal(err)
	}
	uploaded, err := lease.GetManifest(ctx)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha1.Sum(vmdk)
	equal(t, "number of files uploaded", len(uploaded), 1)
	equal(t, "SHA-1 of the upload", uploaded[0].Sha1, hex.EncodeToString(sum[:]))
}

// checkMachine looks at what came out of the import.
func checkMachine(t *testing.T, vm *object.VirtualMachine, o OVAOptions) {
	t.Helper()
	ctx := context.Background()
	var got mo.VirtualMachine
	if err := vm.Properties(ctx, vm.Reference(), []string{"config"}, &got); err != nil {
		t.Fatal(err)
	}
	equal(t, "name", got.Config.Name, o.Name)
	equal(t, "guest id", got.Config.GuestId, o.OSType)
	equal(t, "hardware version", got.Config.Version, "vmx-19")
	equal(t, "CPUs", got.Config.Hardware.NumCPU, int32(o.CPUs))
	equal(t, "memory", got.Config.Hardware.MemoryMB, int32(o.MemoryMiB))
	devices, err := vm.Device(ctx)
	if err != nil {
		t.Fatal(err)
	}
	checkDevices(t, devices)
	disk := devices.SelectByType((*types.VirtualDisk)(nil))[0].(*types.VirtualDisk)
	equal(t, "capacity in KiB", disk.CapacityInKB, int64(64<<10))
}

// checkConfiguration tries what the simulator's import leaves out, firmware and
// extra configuration, on a machine made of govmomi's reading of the descriptor.
func checkConfiguration(t *testing.T, imp *importer.Importer) {
	t.Helper()
	ctx := context.Background()
	spec, err := envelopeOf(t, imp.Archive.(*importer.TapeArchive).Path).ToConfigSpec()
	if err != nil {
		t.Fatal(err)
	}
	spec.Name, spec.DeviceChange = "second", nil
	spec.Files = &types.VirtualMachineFileInfo{VmPathName: "[" + imp.Datastore.Name() + "]"}
	task, err := imp.Folder.CreateVM(ctx, spec, imp.ResourcePool, nil)
	if err != nil {
		t.Fatal(err)
	}
	made, err := task.WaitForResult(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var got mo.VirtualMachine
	vm := object.NewVirtualMachine(imp.Client, made.Result.(types.ManagedObjectReference))
	if err := vm.Properties(ctx, vm.Reference(), []string{"config"}, &got); err != nil {
		t.Fatal(err)
	}
	equal(t, "firmware", got.Config.Firmware, "efi")
	uuid, _ := object.OptionValueList(got.Config.ExtraConfig).GetString("disk.EnableUUID")
	equal(t, "disk.EnableUUID", uuid, "TRUE")
}

// memberOf reads a file of an archive as govmomi does.
func memberOf(t *testing.T, a importer.Archive, name string) []byte {
	t.Helper()
	f, size, err := a.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil || int64(len(b)) != size {
		t.Fatalf("%q has %d bytes, want %d (%v)", name, len(b), size, err)
	}
	return b
}

// TestOVAManifestForGovmomi has govmomi read the manifest: the files of the
// package by name, with the digests of their content.
func TestOVAManifestForGovmomi(t *testing.T) {
	o := fullOptions()
	path, _ := writeOVA(t, rawFile(t, 1<<20, put{0, []byte{1}}), o)
	imp := &importer.Importer{Archive: archiveOf(path)}
	if err := imp.ReadManifest("*.ovf"); err != nil {
		t.Fatal(err)
	}
	equal(t, "number of lines", len(imp.Manifest), 2)
	for _, name := range []string{o.ovfFile(), o.diskFile()} {
		want := library.Checksum{Algorithm: "SHA256", Checksum: hexSum(memberOf(t, imp.Archive, name))}
		if got := imp.Manifest[name]; got == nil || *got != want {
			t.Errorf("manifest has %+v for %q, want %+v", got, name, want)
		}
	}
}

// TestOVADefaultsForGovmomi: what is not asked for is not there.
func TestOVADefaultsForGovmomi(t *testing.T) {
	raw := rawFile(t, 1<<20)
	for _, o := range []OVAOptions{{Name: "vm"}, {Name: "vm", HardwareVersion: 13, Firmware: "bios"}} {
		path, _ := writeOVA(t, raw, o)
		e := envelopeOf(t, path)
		if e.VirtualSystem.Product != nil || e.VirtualSystem.Annotation != nil {
			t.Errorf("sections nobody wanted: %+v", e.VirtualSystem)
		}
		spec, err := e.ToConfigSpecWithOptions(ovf.ToConfigSpecOptions{Strict: true})
		if err != nil {
			t.Fatal(err)
		}
		want := []any{"vmx-17", "other4xLinux64Guest", "efi"}
		if o.HardwareVersion == 13 {
			want = []any{"vmx-13", "other3xLinux64Guest", "bios"}
		}
		for i, got := range []any{spec.Version, spec.GuestId, spec.Firmware} {
			equal(t, "default", got, want[i])
		}
		equal(t, "CPUs", spec.NumCPUs, 2)
		equal(t, "memory", spec.MemoryMB, 2048)
		equal(t, "network", e.Network.Networks[0].Name, "VM Network")
	}
}

// TestCIMOSTypes holds our table against govmomi's for every identifier it
// knows. Of Windows and of systems that neither package has a value for ours
// says Other.
func TestCIMOSTypes(t *testing.T) {
	for _, id := range types.VirtualMachineGuestOsIdentifier("").Strings() {
		got, want := ovf.CIMOSType(cimOSType(id)), ovf.GuestIDToCIMOSType(id)
		other := got == ovf.CIMOSTypeOther || got == ovf.CIMOSTypeOther64Bit
		if got != want && !other && want > ovf.CIMOSTypeOther && want != ovf.CIMOSTypeOther64Bit {
			t.Errorf("%s: %d, govmomi says %d", id, got, want)
		}
		if strings.Contains(id, "inux") && other {
			t.Errorf("%s: %d, want a Linux", id, got)
		}
	}
}
