// Package ext4 writes an ext4 file system from a stream of files, and reads one.
//
// The [Writer] needs no root, no mount and no mke2fs: entries go in one after
// another, file data is written once and in order, and everything else
// (directories, bitmaps, group descriptors, superblocks) is written by Close.
// Memory grows with the number of inodes and directory entries, never with file
// data. The same calls give the same bytes. What comes out is what Debian 12's
// "mke2fs -t ext4 -b 4096" makes: journal, extents, flexible groups, 64-bit
// descriptors, 256-byte inodes, indexed directories, crc32c on all metadata, and
// a resize inode, so that resize2fs and the kernel can grow the image.
//
// The [FS] reads what this package, mke2fs and Linux kernels write. It trusts no
// field: each one is held against its bounds, and each checksum is verified.
//
// Not supported by the writer: block sizes other than 4096, inline data,
// bigalloc, quotas, encryption, casefolding, verity, project ids, extended
// attributes larger than one block in sum, more than 16 TiB.
// Not supported by the reader (a clear error each): block-mapped files of ext2 and
// ext3, inline data, encrypted files, extended attributes kept in inodes, a
// journal that needs replay, bigalloc.
//
// Specification: https://docs.kernel.org/filesystems/ext4/ (kernel tree:
// Documentation/filesystems/ext4). The layout decisions are in
// docs/design/ext4.md.
package ext4
