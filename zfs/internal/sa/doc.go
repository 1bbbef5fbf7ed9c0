// Package sa turns the attributes of a file into ZFS system attributes and
// back: the bytes in the bonus buffer of the file's dnode and, where they do not
// fit, in its spill block (ZPL version 5, bonus type DMU_OT_SA).
//
// Written are the layouts of [Layouts] alone, the same for every dataset. Read
// is whatever layout the dataset declares. Not read: big-endian buffers and the
// znodes of ZPL versions before 5 (bonus type DMU_OT_ZNODE).
//
// Facts are those of OpenZFS: include/sys/sa_impl.h (header, registry),
// module/zfs/sa.c (order, alignment, when attributes spill), module/zfs/zfs_sa.c
// (the registered attributes), module/os/linux/zfs/zfs_znode.c (their order) and
// zfs_acl.c (access control lists), checked against pools that Linux kernels
// with OpenZFS 2.1.11 and 2.3.2 wrote.
package sa
