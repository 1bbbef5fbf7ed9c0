// Package export turns a disk into image files: which formats there are and
// what may be set on each, one pass over the disk for all of them, a checksum
// file beside each image and a manifest, all under their final names or not at
// all, and the way to another host. The command kexport and the formats step
// of a build are both made of it; the formats themselves are package
// diskimage's.
//
// What is read is a file or block device of any format diskimage opens, told
// by its content, or a stream that is spooled first. Nothing is written in
// place: no output may be the input, and block devices are not written to.
package export
