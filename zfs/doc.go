// Package zfs writes a complete OpenZFS pool into an image from a stream of
// files, and reads pools. It needs no kernel module, no root and no machine.
package zfs
