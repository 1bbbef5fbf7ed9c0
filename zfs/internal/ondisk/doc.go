// Package ondisk is the plain bytes of a ZFS pool: block pointers, dnodes,
// object sets, uberblocks and label checksums, encoded and decoded field by
// field, and the numbers that stand for object types, compressions and
// checksums. It reads and writes no device and follows no pointer.
//
// Only little-endian pools are known. Layouts are those of OpenZFS's
// include/sys/spa.h, dmu.h, dnode.h, dmu_objset.h, uberblock_impl.h and
// vdev_impl.h.
package ondisk
