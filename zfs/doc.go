// Package zfs writes a complete OpenZFS pool into an image from a stream of
// files, and reads pools. It needs no kernel module, no root and no machine.
//
// The Writer takes entries one after another, puts each into the dataset that
// is mounted where its path lies, and writes file data once, in order, on all
// processors. Memory grows with the number of files and directory entries (about
// 350 bytes each), never with file data. The same calls give the same bytes,
// however many workers there are. What comes out is a pool of one disk as
// zpool-create(8) and zfs-snapshot(8) leave it after an export: an import needs
// no force, and finds nothing to repair or to upgrade.
//
// The Pool that Open gives reads what this package and Linux kernels write: its
// file systems are io/fs.FS, and Check reads everything back. It trusts no
// field: each is held against its bounds, each checksum is verified, and where
// a block has several copies a good one is taken.
//
// Not supported by the writer: encryption, several devices, volumes,
// deduplication, reservations, compressions other than lz4, zstd and off,
// checksums other than fletcher4, records above 1 MiB, other sectors than 4 KiB.
// Not supported by the reader (a clear error each): big-endian pools, raidz and
// several top-level devices, encrypted content, the checksums skein, edonr and
// blake3.
//
// Sources are the headers of OpenZFS (include/sys), for facts alone. The layout
// decisions are in docs/design/zfs.md.
package zfs
