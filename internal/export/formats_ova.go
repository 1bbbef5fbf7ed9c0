package export

import (
	"strings"

	"github.com/kldload/kldload/diskimage"
	"github.com/kldload/kldload/internal/ui"
)

func ovaFormat() format {
	type o = diskimage.OVAOptions
	return entry("ova", ".ova", "VMware, VirtualBox: vmdk and machine in one", []option[o]{
		{Key{Name: "name", Form: "NAME", Help: "of the machine; the file's if not set"}, func(o *o, v string) string {
			if v == "" || v != machineName(v) {
				return "letters, digits, '.', '_' and '-', a letter or digit first, at most 80"
			}
			o.Name = v
			return ""
		}},
		number("hardware_version", "NN of vmx-NN", "17", 10, 99, func(o *o) *int { return &o.HardwareVersion }),
		{Key{Name: "memory", Form: "2G", Help: "a bare number is MiB"}, func(o *o, v string) string {
			n, err := ui.ParseBytes(v, 1<<20)
			if err != nil || n < 4<<20 || n > 24<<40 || n%(4<<20) != 0 {
				return "a size such as 4G, in steps of 4 MiB"
			}
			o.MemoryMiB = int(n >> 20)
			return ""
		}},
		number("cpus", "virtual processors", "2", 1, 768, func(o *o) *int { return &o.CPUs }),
		text("os_type", "other4xLinux64Guest", "vSphere's name of the guest's system", func(o *o) *string { return &o.OSType }),
		oneOf("firmware", "", func(o *o, v string) { o.Firmware = v }, "efi", "bios"),
		text("network", "VM Network", "to connect to", func(o *o) *string { return &o.Network }),
		text("product", "TEXT", "shown to whoever imports it", func(o *o) *string { return &o.Product }),
		text("vendor", "TEXT", "of the product", func(o *o) *string { return &o.Vendor }),
		text("version", "TEXT", "of the product", func(o *o) *string { return &o.Version }),
		text("product_url", "URL", "", func(o *o) *string { return &o.ProductURL }),
		text("vendor_url", "URL", "", func(o *o) *string { return &o.VendorURL }),
		text("annotation", "TEXT", "a note on the machine", func(o *o) *string { return &o.Annotation }),
	}, func(t diskimage.Target, o o, s *surroundings) (diskimage.Sink, error) {
		o.NoDigest, o.Timestamp = s.noDigest, s.timestamp
		if o.Name == "" {
			o.Name = machineName(s.name())
		}
		return diskimage.NewOVAWriter(t, o), nil
	})
}

// maxMachineName is the longest name that OVAOptions take.
const maxMachineName = 80

// machineName makes a name that OVAOptions take of a file's.
func machineName(file string) string {
	name := strings.Map(func(r rune) rune {
		if r < 0x80 && (r == '.' || r == '_' || r == '-' || '0' <= r && r <= '9' || 'a' <= r|0x20 && r|0x20 <= 'z') {
			return r
		}
		return '-'
	}, file)
	name = strings.TrimLeft(name, "._-")
	if name == "" {
		return "disk"
	}
	return name[:min(len(name), maxMachineName)]
}
