package export

import (
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kldload/kldload/diskimage"
)

// formats is the table of formats, in the order they are shown.
func formats() []format {
	return []format{qcow2Format(), vmdkFormat(), vhdFormat(), vhdxFormat(), ovaFormat(), rawFormat(), gcpFormat()}
}

func rawFormat() format {
	return entry("raw", ".raw", "dd to a disk; any hypervisor", nil,
		func(t diskimage.Target, _ struct{}, s *surroundings) (diskimage.Sink, error) {
			return diskimage.NewRawWriter(t, diskimage.RawOptions{NoDigest: s.noDigest}), nil
		}, "img")
}

func vmdkFormat() format {
	type o = diskimage.VMDKOptions
	return entry("vmdk", ".vmdk", "VMware, VirtualBox", []option[o]{
		oneOf("subformat", "to import, or to run from",
			func(o *o, v string) { o.Subformat = diskimage.VMDKSubformat(v) }, "streamOptimized", "monolithicSparse"),
		oneOf("adapter_type", "lsilogic for PVSCSI, too", func(o *o, v string) { o.AdapterType = v }, "lsilogic", "buslogic", "ide", "legacyESX"),
		number("hardware_version", "of the virtual machine", "4", 4, 99, func(o *o) *int { return &o.HardwareVersion }),
		{Key{Name: "cid", Form: "HEX", Help: "content identifier of 8 digits"}, func(o *o, v string) string {
			n, err := strconv.ParseUint(v, 16, 32)
			if err != nil || len(v) != 8 || n == 0 {
				return "8 hexadecimal digits, not all 0"
			}
			o.CID = uint32(n)
			return ""
		}},
	}, func(t diskimage.Target, o o, s *surroundings) (diskimage.Sink, error) {
		o.NoDigest = s.noDigest
		return diskimage.NewVMDKWriter(t, o), nil
	})
}

// vhdEpoch is the first moment that VHD knows, 2000-01-01 (Virtual Hard Disk
// Image Format Specification, "Hard Disk Footer Format").
const vhdEpoch = 946684800

func vhdFormat() format {
	type o = diskimage.VHDOptions
	return entry("vhd", ".vhd", "Azure (fixed), Hyper-V generation 1", []option[o]{
		oneOf("subformat", "Azure takes fixed", func(o *o, v string) { o.Subformat = diskimage.VHDSubformat(v) }, "fixed", "dynamic"),
		oneOf("block_size", "of dynamic", func(o *o, v string) { o.BlockSize = map[string]int{"2M": 2 << 20, "512K": 512 << 10}[v] }, "2M", "512K"),
		uuid("uuid", func(o *o) *[16]byte { return &o.UUID }),
	}, func(t diskimage.Target, o o, s *surroundings) (diskimage.Sink, error) {
		o.NoDigest, o.Timestamp = s.noDigest, s.timestamp
		if o.Timestamp.Unix() < vhdEpoch {
			o.Timestamp = time.Time{} // VHD has no time before; as if none was given
		}
		return diskimage.NewVHDWriter(t, o), nil
	}, "vpc")
}

func vhdxFormat() format {
	type o = diskimage.VHDXOptions
	return entry("vhdx", ".vhdx", "Hyper-V generation 2", []option[o]{
		oneOf("subformat", "", func(o *o, v string) { o.Subformat = diskimage.VHDXSubformat(v) }, "dynamic", "fixed"),
		blockSize("block_size", "unit of allocation", "1M", 1<<20, 256<<20, func(o *o) *int { return &o.BlockSize }),
		oneOf("logical_sector_size", "", func(o *o, v string) { o.LogicalSectorSize, _ = strconv.Atoi(v) }, "512", "4096"),
		uuid("uuid", func(o *o) *[16]byte { return &o.UUID }),
	}, func(t diskimage.Target, o o, s *surroundings) (diskimage.Sink, error) {
		o.NoDigest = s.noDigest
		return diskimage.NewVHDXWriter(t, o), nil
	})
}

func gcpFormat() format {
	f := entry("gcp", ".tar.gz", "Google Compute Engine: disk.raw, in whole GiB", nil,
		func(t diskimage.Target, _ struct{}, s *surroundings) (diskimage.Sink, error) {
			return diskimage.NewGCPWriter(t, diskimage.GCPOptions{TempDir: s.temp, Timestamp: s.timestamp, NoDigest: s.noDigest}), nil
		}, "gce")
	f.rounding = 1 << 30
	return f
}

// uuid is a key that takes an RFC 9562 UUID.
func uuid[O any](name string, field func(o *O) *[16]byte) option[O] {
	return option[O]{Key{Name: name, Form: "UUID", Help: "of the image; else by its content"}, func(o *O, v string) string {
		var parts []int
		for _, p := range strings.Split(v, "-") {
			parts = append(parts, len(p))
		}
		b, err := hex.DecodeString(strings.ReplaceAll(v, "-", ""))
		if err != nil || !slices.Equal(parts, []int{8, 4, 4, 4, 12}) || [16]byte(b) == [16]byte{} {
			return "a UUID such as 01234567-89ab-4cde-8f01-23456789abcd"
		}
		*field(o) = [16]byte(b)
		return ""
	}}
}
