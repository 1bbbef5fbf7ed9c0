package ext4

import "fmt"

// A POSIX ACL has two forms. Linux shows version 2 to programs: a 4-byte version
// and 8 bytes for each entry (tag, permissions, id). ext4 stores version 1, where
// only named users and groups carry their id ("POSIX ACLs", fs/ext4/acl.h).
const (
	aclWireVersion = 2
	aclDiskVersion = 1

	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
	aclOther    = 0x20

	aclNoID = 0xFFFFFFFF
)

func aclToDisk(wire []byte) ([]byte, error) {
	if len(wire) < 4 || len(wire)%8 != 4 {
		return nil, fmt.Errorf("access control list of %d bytes: want 4 + 8 for each entry", len(wire))
	}
	if v := le.Uint32(wire); v != aclWireVersion {
		return nil, fmt.Errorf("access control list has version %d, want %d", v, aclWireVersion)
	}
	out := le.AppendUint32(nil, aclDiskVersion)
	for b := wire[4:]; len(b) > 0; b = b[8:] {
		switch tag := le.Uint16(b); tag {
		case aclUserObj, aclGroupObj, aclMask, aclOther:
			out = append(out, b[:4]...)
		case aclUser, aclGroup:
			out = append(out, b[:8]...)
		default:
			return nil, fmt.Errorf("access control list has an entry with tag %#x", tag)
		}
	}
	return out, nil
}

func aclFromDisk(disk []byte) ([]byte, error) {
	if len(disk) < 4 || le.Uint32(disk) != aclDiskVersion {
		return nil, fmt.Errorf("access control list is not of version %d", aclDiskVersion)
	}
	out := le.AppendUint32(nil, aclWireVersion)
	for b := disk[4:]; len(b) > 0; {
		n := 4
		if len(b) >= 2 {
			if tag := le.Uint16(b); tag == aclUser || tag == aclGroup {
				n = 8
			}
		}
		if len(b) < n {
			return nil, fmt.Errorf("access control list ends inside an entry")
		}
		out = append(out, b[:n]...)
		if n == 4 {
			out = le.AppendUint32(out, aclNoID)
		}
		b = b[n:]
	}
	return out, nil
}
