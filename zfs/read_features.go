package zfs

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kldload/kldload/zfs/internal/nvlist"
	"github.com/kldload/kldload/zfs/internal/zap"
)

// Feature is a feature flag of a pool (zpool-features(7)).
type Feature struct {
	// Name is the GUID: "org.illumos:lz4_compress".
	Name string
	// Read says that a pool with the feature active cannot be read without
	// knowing it.
	Read bool
	// Refs counts what uses the feature: 0 is enabled, more is active.
	Refs uint64
}

// readable are the features with which a pool can be read here. Blocks of the
// checksums named among them, and encrypted files, are errors of their own.
var readable = map[string]bool{
	"com.datto:bookmark_v2":            true,
	"com.datto:encryption":             true,
	"com.delphix:bookmark_written":     true,
	"com.delphix:embedded_data":        true,
	"com.delphix:extensible_dataset":   true,
	"com.delphix:head_errlog":          true,
	"com.delphix:hole_birth":           true,
	"com.delphix:redacted_datasets":    true,
	"com.delphix:redaction_bookmarks":  true,
	"com.delphix:redaction_list_spill": true,
	"com.joyent:multi_vdev_crash_dump": true,
	"com.klarasystems:large_microzap":  true,
	"com.klarasystems:vdev_zaps_v2":    true,
	"org.freebsd:zstd_compress":        true,
	"org.illumos:edonr":                true,
	"org.illumos:lz4_compress":         true,
	"org.illumos:sha512":               true,
	"org.illumos:skein":                true,
	"org.open-zfs:large_blocks":        true,
	"org.openzfs:blake3":               true,
	"org.zfsonlinux:large_dnode":       true,
	"org.zfsonlinux:longname":          true,
}

// checkLabelFeatures refuses what the pool's own object set may need (the list
// features_for_read of a label).
func checkLabelFeatures(config nvlist.List) error {
	l, _ := config.List("features_for_read")
	var unknown []string
	for _, p := range l {
		if !readable[p.Name] {
			unknown = append(unknown, p.Name)
		}
	}
	return refuse(unknown)
}

func refuse(unknown []string) error {
	if len(unknown) == 0 {
		return nil
	}
	slices.Sort(unknown)
	return fmt.Errorf("active features that are not supported: %s", strings.Join(unknown, ", "))
}

// readFeatures reads the pool's features and refuses unknown active ones.
func (p *Pool) readFeatures() error {
	for _, kind := range []string{"features_for_read", "features_for_write"} {
		id, ok, err := p.mos.lookup(directoryObject, kind)
		if err != nil {
			return err
		}
		if !ok { // a pool of versions before 5000
			continue
		}
		err = p.mos.walkZAP(id, func(e zap.Entry) error {
			refs, _ := e.Uint64()
			p.features = append(p.features, Feature{e.Name, kind == "features_for_read", refs})
			return nil
		})
		if err != nil {
			return err
		}
	}
	slices.SortFunc(p.features, func(a, b Feature) int { return strings.Compare(a.Name, b.Name) })
	var unknown []string
	for _, f := range p.features {
		if f.Read && f.Refs > 0 && !readable[f.Name] {
			unknown = append(unknown, f.Name)
		}
	}
	return refuse(unknown)
}

// active tells whether the pool uses a feature.
func (p *Pool) active(name string) bool {
	for _, f := range p.features {
		if f.Name == name {
			return f.Refs > 0
		}
	}
	return false
}
