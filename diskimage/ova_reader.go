package diskimage

import (
	"fmt"
	"io"
	"strings"
)

// OVADisk is the disk of an OVA, read where it lies in the archive.
type OVADisk struct {
	disk     *VMDKDisk
	file     io.ReaderAt
	members  tarMembers
	ovf      member
	vmdk     member // the disk's file
	envelope *ovfEnvelope
}

// OpenOVA opens the image of size bytes in r: a tar archive (ustar, GNU or
// pax) with an OVF descriptor that names one disk, stored whole as a VMDK that
// OpenVMDK reads. Digests are looked at by Check alone.
func OpenOVA(r io.ReaderAt, size int64) (*OVADisk, error) {
	members, err := readTar(r, size)
	if err != nil {
		return nil, err
	}
	d := &OVADisk{file: r, members: members}
	switch found := members.withSuffix(".ovf"); len(found) {
	case 0:
		return nil, unsupportedf("tar archive without an .ovf file, so no ova (has %s)", members.names())
	case 1:
		d.ovf = found[0]
	default:
		return nil, corruptf("ova with %d descriptors: %s, want one", len(found), found.names())
	}
	b, err := d.ovf.read(r, maxOVF)
	if err != nil {
		return nil, err
	}
	if d.envelope, err = parseOVF(b); err != nil {
		return nil, err
	}
	if err := d.openDisk(); err != nil {
		return nil, err
	}
	return d, nil
}

// openDisk opens the disk that the descriptor names.
func (d *OVADisk) openDisk() error {
	desc, file, err := d.envelope.onlyDisk()
	if err != nil {
		return err
	}
	if d.vmdk, err = file.find(d.members); err != nil {
		return err
	}
	section := io.NewSectionReader(d.file, d.vmdk.offset, d.vmdk.size)
	format, err := Detect(section, d.vmdk.size)
	if err != nil {
		return fmt.Errorf("reading %.100q at offset %#x: %w", d.vmdk.name, d.vmdk.offset, err)
	}
	if format != VMDK {
		return unsupportedf("OVF disk %.100q in %.100q at offset %#x is %s, want %s (the descriptor says %.200q)",
			desc.ID, d.vmdk.name, d.vmdk.offset, format, VMDK, desc.Format)
	}
	// Without a way to open further files, of which there are none.
	if d.disk, err = OpenVMDK(section, d.vmdk.size, VMDKReadOptions{}); err != nil {
		return fmt.Errorf("opening %.100q, which begins at offset %#x: %w", d.vmdk.name, d.vmdk.offset, err)
	}
	return nil
}

// ReadAt implements Disk.
func (d *OVADisk) ReadAt(p []byte, off int64) (int, error) { return d.disk.ReadAt(p, off) }

// Size implements Disk.
func (d *OVADisk) Size() int64 { return d.disk.Size() }

// NextData implements Disk.
func (d *OVADisk) NextData(off int64) (start, end int64, err error) { return d.disk.NextData(off) }

// Info implements Image. Subformat, block size and compression are the VMDK's,
// the details those of the machine.
func (d *OVADisk) Info() Info {
	i := d.disk.Info()
	i.Format = OVA
	i.Details = append(d.envelope.details(), Detail{"disk file", d.vmdk.name})
	if m, ok := d.manifest(); ok {
		i.Details = append(i.Details, Detail{"manifest", m.name})
	}
	return i
}

// manifest returns the first manifest in the archive; whether it has the right
// name is for Check.
func (d *OVADisk) manifest() (member, bool) {
	found := d.members.withSuffix(".mf")
	if len(found) == 0 {
		return member{}, false
	}
	return found[0], true
}

// manifestName is the name the manifest has to have (DSP0243 1.1, clause 5.1).
func (d *OVADisk) manifestName() string { return strings.TrimSuffix(d.ovf.name, ".ovf") + ".mf" }
