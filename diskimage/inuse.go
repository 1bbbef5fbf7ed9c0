package diskimage

import "os"

// InUse tells whether someone else may be changing what the open file holds,
// and if so who, in words that follow the file's name: `is mounted on "/"`. An
// empty reason means that no use is known; a program that writes to the file
// without a lock is not seen.
//
// A block device is in use when it or a partition of it is mounted, is swap,
// carries a device-mapper, md or loop device, or is claimed exclusively, as ZFS
// does with its members. To find that out it is claimed itself for a moment. A
// file is in use when it is swap or backs a loop device. Either is when QEMU has
// it open for writing, or another program holds a write lock (fcntl(2)). Images
// that QEMU only reads, as backing files are, are not in use.
//
// It knows Linux only; elsewhere the reason is empty. An error means that it
// could not tell.
func InUse(f *os.File) (reason string, err error) { return inUse(f) }
