// Package block turns single blocks between the form in memory and the form on
// disk: compression and checksums. It knows bytes alone, no pointers and no
// device.
//
// Written are lz4, zstd and fletcher4; read is every compression of OpenZFS 2.3,
// and verified the checksums fletcher2, fletcher4, sha256 and sha512. Not
// supported are the checksums skein, edonr and blake3, and encrypted blocks.
//
// Facts are those of OpenZFS: module/zfs/zio_compress.c and zio_checksum.c, and
// the file of each algorithm.
package block
