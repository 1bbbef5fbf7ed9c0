package sa

import "math"

// Time is a point in time as stored: seconds since 1970, negative before, and
// nanoseconds.
type Time struct{ Sec, Nsec int64 }

// Attrs is everything stored about an object of a file system besides its
// content.
type Attrs struct {
	// Mode holds type and permissions as st_mode does.
	Mode uint64
	// Size in bytes; of a directory entries plus two, of a symlink its length.
	Size uint64
	// Gen is the transaction group that made the object.
	Gen      uint64
	UID, GID uint64
	// Parent is the object of a directory that holds the object; the root's is itself.
	Parent uint64
	Links  uint64
	// Rdev is the device of a block or character special file, see [Rdev].
	Rdev uint64
	// ProjID is the project; 0 for the default and for objects without one.
	ProjID uint64
	// Flags are zp_flags. What follows from Mode, ACL and options need not be
	// set: [Encode] adds it.
	Flags uint64

	ATime, MTime, CTime, CRTime Time

	// Symlink is where a symlink points to, at most 4095 bytes.
	Symlink string
	// Xattrs are those kept among the system attributes, by full name
	// ("user.x", "security.capability", "system.posix_acl_access") with the
	// value of Linux's getxattr.
	Xattrs map[string][]byte
	// XattrObj is the object of the directory with the other xattrs, 0 for none.
	XattrObj uint64
	// ACL is the NFSv4 access control list. [Encode] takes an empty one to mean
	// the list that says what Mode says.
	ACL []ACE
}

// Flags of zp_flags (include/sys/zfs_znode.h).
const (
	FlagXattr         = 0x1   // the object is an xattr directory or lies in one
	FlagInheritACE    = 0x2   // the ACL has entries for new children
	FlagACLTrivial    = 0x4   // the ACL says no more than the mode
	FlagAutoInherit   = 0x40  // of directories, set when they are made
	FlagNoExecsDenied = 0x100 // owner, group and others may all execute

	FlagArchive    = 0x8_0000_0000
	FlagAVModified = 0x400_0000_0000
	FlagProjID     = 0x8000_0000_0000 // the object has a project
)

// Types of objects in Mode (S_IFMT of stat(2)).
const (
	typeMask    = 0o170000
	typeChar    = 0o020000
	typeDir     = 0o040000
	typeBlock   = 0o060000
	typeRegular = 0o100000
	typeSymlink = 0o120000
)

const (
	maxSymlink = 4095           // PATH_MAX less its NUL
	maxLength  = math.MaxUint16 // SA_ATTR_MAX_LEN of include/sys/sa.h
)

// minorBits of a device number are its minor's (MKDEV of Linux).
const minorBits = 20

// Rdev makes the number under which Linux stores a device: the kernel's own
// dev_t, 12 bits of major over 20 bits of minor. It differs from the encoding of
// st_rdev.
func Rdev(major, minor uint32) uint64 { return uint64(major)<<minorBits | uint64(minor) }

// Device takes a device number apart.
func Device(rdev uint64) (major, minor uint32) {
	return uint32(rdev >> minorBits), uint32(rdev & (1<<minorBits - 1))
}
