package zfs

import "sort"

// A feature of pools of version 5000 (zpool-features(7)): its GUID, and
// whether readers must know it once it is active.
type feature struct {
	guid  string
	write bool // needed for writing alone
	grub2 bool // in OpenZFS's compatibility.d/grub2
}

// The features of OpenZFS's compatibility.d/openzfs-2.1-linux.
var features21 = []feature{
	{guid: "com.datto:bookmark_v2"},
	{guid: "com.datto:encryption"},
	{guid: "com.datto:resilver_defer", write: true},
	{guid: "com.delphix:async_destroy", write: true, grub2: true},
	{guid: "com.delphix:bookmark_written"},
	{guid: "com.delphix:bookmarks", write: true, grub2: true},
	{guid: "com.delphix:device_removal"},
	{guid: "com.delphix:embedded_data", grub2: true},
	{guid: "com.delphix:empty_bpobj", write: true, grub2: true},
	{guid: "com.delphix:enabled_txg", write: true, grub2: true},
	{guid: "com.delphix:extensible_dataset", grub2: true},
	{guid: "com.delphix:hole_birth", grub2: true},
	{guid: "com.delphix:livelist", write: true},
	{guid: "com.delphix:log_spacemap", write: true},
	{guid: "com.delphix:obsolete_counts", write: true},
	{guid: "com.delphix:redacted_datasets"},
	{guid: "com.delphix:redaction_bookmarks"},
	{guid: "com.delphix:spacemap_histogram", write: true, grub2: true},
	{guid: "com.delphix:spacemap_v2", write: true},
	{guid: "com.delphix:zpool_checkpoint", write: true},
	{guid: "com.joyent:filesystem_limits", write: true, grub2: true},
	{guid: "com.joyent:multi_vdev_crash_dump"},
	{guid: "org.freebsd:zstd_compress"},
	{guid: "org.illumos:edonr"},
	{guid: "org.illumos:lz4_compress", grub2: true},
	{guid: "org.illumos:sha512"},
	{guid: "org.illumos:skein"},
	{guid: "org.open-zfs:large_blocks", grub2: true},
	{guid: "org.openzfs:device_rebuild", write: true},
	{guid: "org.openzfs:draid"},
	{guid: "org.zfsonlinux:allocation_classes", write: true},
	{guid: "org.zfsonlinux:large_dnode"},
	{guid: "org.zfsonlinux:project_quota", write: true},
	{guid: "org.zfsonlinux:userobj_accounting", write: true},
}

// The features that the writer makes active, by GUID.
const (
	featZSTD         = "org.freebsd:zstd_compress"
	featLargeBlocks  = "org.open-zfs:large_blocks"
	featLargeDnode   = "org.zfsonlinux:large_dnode"
	featProjectQuota = "org.zfsonlinux:project_quota"
	featUserObj      = "org.zfsonlinux:userobj_accounting"
	featExtensible   = "com.delphix:extensible_dataset"
	featEmptyBpobj   = "com.delphix:empty_bpobj"
	featHistogram    = "com.delphix:spacemap_histogram"
)

// alwaysActive are in use from a pool's creation on.
var alwaysActive = []string{"com.delphix:embedded_data", "com.delphix:enabled_txg", "com.delphix:hole_birth", "com.delphix:spacemap_v2", "org.illumos:lz4_compress"}

// compatibilities are the feature sets that can be asked for, by the names of
// the files that OpenZFS ships.
var compatibilities = map[string][]feature{
	"openzfs-2.1-linux": features21,
	"grub2":             grub2Features(),
}

// DefaultCompatibility is the set of Debian 12's OpenZFS.
const DefaultCompatibility = "openzfs-2.1-linux"

func grub2Features() []feature {
	var list []feature
	for _, f := range features21 {
		if f.grub2 {
			list = append(list, f)
		}
	}
	return list
}

func compatibilityNames() []string {
	var names []string
	for name := range compatibilities {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// featureSet counts what uses each feature.
type featureSet struct {
	list []feature
	refs map[string]uint64
}

func newFeatureSet(list []feature) *featureSet {
	s := &featureSet{list: list, refs: map[string]uint64{}}
	for _, guid := range alwaysActive {
		s.refs[guid] = 1
	}
	return s
}

func (s *featureSet) has(guid string) bool {
	for _, f := range s.list {
		if f.guid == guid {
			return true
		}
	}
	return false
}

// add counts a use and tells whether the pool has the feature.
func (s *featureSet) add(guid string) bool {
	if !s.has(guid) {
		return false
	}
	s.refs[guid]++
	return true
}
