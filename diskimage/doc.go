// Package diskimage reads and writes virtual disk images.
//
// Its noun is the [Disk]: a sparse, random-access virtual disk that knows its
// size and where its data lies. [Open] recognises an image by its content and
// gives a Disk; [Write] reads a Disk once and feeds any number of sinks in that
// one pass, so that asking for three formats costs one read and, where the
// formats allow, one compression. Holes are found in the file system
// (SEEK_DATA, SEEK_HOLE) or in the image's tables and never read; blocks that
// turn out to be zero become holes. [Compare] tells whether two Disks hold the
// same.
//
// # Supported
//
// All formats but raw, which has nothing to check, can be checked: [File].Check.
//
//   - raw: sparse files and block devices (read), sparse files (write).
//   - qcow2 version 2 and 3: clusters of 512 B to 2 MiB, plain, deflate and
//     zstd compressed clusters, zero clusters, backing chains (read); version 3
//     plain, deflate and zstd, stand-alone or over a backing file (write).
//   - VHD: fixed, as Azure takes it, and dynamic (read, write).
//   - VHDX: fixed and dynamic, sectors of 512 B and 4 KiB (read, write); the log
//     of one that was not closed is replayed in memory (read).
//   - VMDK: streamOptimized and monolithicSparse (read, write); descriptors
//     with flat and sparse extents (read).
//   - GCP: the gzipped tar with a disk.raw that Google Compute Engine imports
//     (read, write). Open unpacks it to a sparse temporary file; the data of one
//     that is written waits in another, deflated, for the end of the disk.
//   - OVA: one machine with one VMDK (read, write).
//
// qcow2 is defined in QEMU's docs/interop/qcow2.rst,
// https://gitlab.com/qemu-project/qemu/-/blob/master/docs/interop/qcow2.rst,
// VHD in Microsoft's "Virtual Hard Disk Image Format Specification",
// https://www.microsoft.com/en-us/download/details.aspx?id=23850,
// VHDX in [MS-VHDX], https://learn.microsoft.com/openspecs/windows_protocols/ms-vhdx,
// VMDK in VMware's technical note "Virtual Disk Format 5.0".
// The package around an OVA's VMDK is defined in DMTF's DSP0243 1.1, "Open
// Virtualization Format Specification". What Google takes is in
// https://cloud.google.com/compute/docs/import/import-existing-image.
//
// # Not supported
//
// Encrypted qcow2, external data files, extended L2 entries (subclusters),
// images marked corrupt, differencing VHDs and VHDXs, VMDK snapshots, the COWD
// and seSparse extents of ESX, GCP archives in POSIX's sparse form, and OVAs with
// several disks or one that is compressed again, cut into chunks or no VMDK are
// refused by name, as are VDI, LUKS and files packed as a whole. Internal
// snapshots, bitmaps and refcounts are looked at by Check alone: the active disk
// is what is read. Files below an image, and the extents of a VMDK, are opened
// only when OpenOptions allow it. Nothing is changed in place: a sink writes a
// new image from its start. Images are not locked; [InUse] tells whether someone
// else may be changing a file, what to do about it is the caller's decision (see
// OpenOptions.Check).
//
// # Files
//
// A sink writes to a [Target] that the caller opens and closes. Giving the file
// its final name only once Write has returned nil, and syncing it, is the
// caller's job: after an error a target holds an unusable part of an image.
//
// # Memory
//
// It does not grow with the disk, but for what tables need. A reader keeps some
// 4 MiB of the tables it used last and, whole, up to 32 MiB of the uppermost: L1
// table, grain directories, the BAT of a VHD; of a VHDX up to 16 MiB of log. An
// old GNU sparse map has 16 bytes for each run of data. Write has up to 16 MiB of
// blocks on their way, and what a sink's table needs: 2 bytes for each cluster of
// qcow2, 4 for each block of VHD and each 32 MiB of VMDK, 16 for each run of GCP.
// Check takes up to 200 MiB for qcow2, and a bit for each sector of a VMDK file
// that has data: 256 MiB for 1 TiB.
//
// # Foreign images
//
// Every table offset and length is checked before it is used, memory is bounded
// whatever a header claims, and errors name the structure and its offset;
// [ErrCorrupt] and [ErrUnsupported] tell the two kinds of refusal apart. A small
// image can still stand for a very large disk: check [Disk].Size before writing
// one out.
package diskimage
