package judge

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// As zdb 2.1.11 prints a small dataset; some lines are left out.
const dump = `Dataset p/d [ZPL], ID 73, cr_txg 8, 7.21M, 9 objects, rootbp DVA[0]=<0:a79000:1000>

    Deadlist: 0 (0/0 comp), 2 entries

    Object  lvl   iblk   dblk  dsize  dnsize  lsize   %full  type
         0    6   128K    16K   840K     512  1.59M   96.08  DMU dnode
	dnode flags: USED_BYTES 

    Object  lvl   iblk   dblk  dsize  dnsize  lsize   %full  type
        -1    1   128K    512     8K     512    512  100.00  ZFS user/group/project used
	microzap: 512 bytes, 2 entries

		obj-0 = 3029 

    Object  lvl   iblk   dblk  dsize  dnsize  lsize   %full  type
         1    1   128K    512     8K     512    512  100.00  ZFS master node
	microzap: 512 bytes, 7 entries

		ROOT = 34 
		VERSION = 5 

    Object  lvl   iblk   dblk  dsize  dnsize  lsize   %full  type
         9    1   128K    512      0     512    512    0.00  ZFS plain file
                                               176   bonus  System attributes
	dnode flags: USERUSED_ACCOUNTED USEROBJUSED_ACCOUNTED 
	uid     1000
	gid     5
	mtime	Sun Nov  2 20:45:35 2025
	gen	16
	mode	20644
	size	0
	parent	34
	links	2
	rdev	0x0000000000100003

    Object  lvl   iblk   dblk  dsize  dnsize  lsize   %full  type
        10    1   128K    512      0      1K    512    0.00  ZFS plain file
	target	a target with = in it
	mode	120777
	SA xattrs: 80 bytes, 2 entries

		security.capability = \001\000x
		user.a = b = c

    Object  lvl   iblk   dblk  dsize  dnsize  lsize   %full  type
        34    1   128K    512     8K     512    512  100.00  ZFS directory
	mode	40755
	size	3
	microzap: 512 bytes, 3 entries

		null = 9 (type: Character Device)
		a name = 10 (type: Symbolic Link)
		also null = 9 (type: Character Device)
`

func TestParseObjects(t *testing.T) {
	objects, root, err := parseObjects(dump)
	if err != nil {
		t.Fatal(err)
	}
	null := Object{ID: 9, Levels: 1, DnodeSize: 512, Flags: "USERUSED_ACCOUNTED USEROBJUSED_ACCOUNTED", UID: 1000, GID: 5,
		ModTime: time.Date(2025, 11, 2, 20, 45, 35, 0, time.UTC), Gen: 16, Mode: 0o20644, Parent: 34, Links: 2, Rdev: 0x100003}
	want := map[string]Object{
		"/": {ID: 34, Levels: 1, DnodeSize: 512, Mode: 0o40755, Size: 3,
			Entries: map[string]uint64{"null": 9, "a name": 10, "also null": 9}},
		"/null": null, "/also null": null,
		"/a name": {ID: 10, Levels: 1, DnodeSize: 1024, Mode: 0o120777, Target: "a target with = in it",
			Xattrs: map[string]string{"security.capability": "\x01\x00x", "user.a": "b = c"}},
	}
	if diff := cmp.Diff(want, byPath(t, objects, root)); diff != "" {
		t.Error(diff)
	}
}

func TestParseObjectsOfAnotherDump(t *testing.T) {
	if _, _, err := parseObjects("Dataset mos [META], ID 0\n"); err == nil {
		t.Error("a dump without a root folder is taken")
	}
}

func TestComplaints(t *testing.T) {
	const out = "Verified lz4_compress feature refcount of 1 is correct\n\t\tmismatch = 7 (type: Regular File)\n\ttarget\tfailed to\n" +
		"zstd_compress feature refcount mismatch: 2 consumers != 1 refcount\nFailed to get handle for SA znode\n"
	if got := complaints(out); len(got) != 2 {
		t.Errorf("got %q, want the last two lines", got)
	}
}
