package zfs

import (
	"bytes"
	"strings"
	"testing"

	"github.com/kldload/kldload/zfs/internal/nvlist"
)

func pair(name string, v any) nvlist.Pair { return nvlist.Pair{Name: name, Value: v} }

func disk(more ...nvlist.Pair) nvlist.List {
	l := nvlist.List{pair("type", "disk"), pair("id", uint64(0)), pair("guid", uint64(5)), pair("ashift", uint64(12)),
		pair("asize", uint64(1<<30)), pair("metaslab_shift", uint64(24)), pair("metaslab_array", uint64(256))}
	for _, p := range more {
		for i := range l {
			if l[i].Name == p.Name {
				l[i] = p
				p.Name = ""
			}
		}
		if p.Name != "" {
			l = append(l, p)
		}
	}
	return l
}

func TestParseVdev(t *testing.T) {
	v, err := parseVdev(disk(pair("type", "mirror"), pair("children", []nvlist.List{disk(pair("guid", uint64(7))), disk(pair("type", "file"))})))
	if err != nil || v.guidSum != 17 || v.metaslabs != 64 {
		t.Errorf("%+v, %v", v, err)
	}
	for _, c := range []struct {
		l    nvlist.List
		want string
	}{
		{disk(pair("type", "raidz")), `"raidz"`},
		{disk(pair("type", "draid")), `"draid"`},
		{disk(pair("type", "mirror"), pair("children", []nvlist.List{disk(pair("type", "replacing"))})), `"replacing"`},
		{disk(pair("ashift", uint64(40))), "ashift 40"},
		{disk(pair("metaslab_shift", uint64(3))), "2^3"},
		{disk(pair("asize", uint64(0))), "0 bytes"},
		{disk(pair("asize", uint64(1<<59))), "metaslabs"},
		{nil, "no type"},
	} {
		if _, err := parseVdev(c.l); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v gives %v: want %q", c.l, err, c.want)
		}
	}
}

// Which vdevs may stand beside the first.
func TestOtherVdevs(t *testing.T) {
	for _, c := range []struct {
		l    nvlist.List
		want string
	}{
		{disk(pair("type", "hole")), ""},
		{disk(pair("type", "indirect")), "removed"},
		{disk(pair("is_log", uint64(1))), "log device"},
		{disk(), "several"},
	} {
		err := refuseTop(1, c.l)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%v gives %v: want %q", c.l, err, c.want)
		}
	}
	for _, c := range []nvlist.List{disk(pair("id", uint64(1))), disk(pair("is_log", uint64(1)))} {
		if err := singleVdev(nvlist.List{pair("vdev_children", uint64(2))}, c); err == nil {
			t.Errorf("%v gives no error", c)
		}
	}
}

func TestFeatures(t *testing.T) {
	l := nvlist.List{pair("features_for_read", nvlist.List{pair("com.example:new", nvlist.Boolean{}), pair("com.delphix:hole_birth", nvlist.Boolean{})})}
	if err := checkLabelFeatures(l); err == nil || !strings.HasSuffix(err.Error(), ": com.example:new") {
		t.Errorf("%v", err)
	}
}

func TestOpenNothing(t *testing.T) {
	for _, n := range []int{0, 1000, 5 << 20} {
		if _, err := Open(bytes.NewReader(make([]byte, n)), int64(n)); err == nil {
			t.Errorf("%d zeros: no error", n)
		}
	}
}

func TestPropertyTexts(t *testing.T) {
	for _, c := range []struct {
		name string
		v    uint64
		want string
	}{
		{"compression", 15, "lz4"}, {"compression", 16, "zstd"}, {"compression", 16 | 19<<7, "zstd-19"}, {"compression", 10, "gzip"},
		{"compression", 13, "gzip-9"}, {"compression", 16 | 103<<7, "zstd-fast"}, {"compression", 16 | 113<<7, "zstd-fast-20"},
		{"compression", 2, "off"}, {"dnodesize", 1, "auto"}, {"dnodesize", 4096, "4k"}, {"dedup", 8 | 1<<8, "sha256,verify"},
		{"dedup", 2, "off"}, {"atime", 0, "off"}, {"atime", 1, "on"}, {"canmount", 2, "noauto"}, {"canmount", 9, "9"},
		{"quota", 0, "none"}, {"quota", 7, "7"}, {"case", 1, "insensitive"}, {"recordsize", 4096, "4096"},
	} {
		if got := (propEntry{name: c.name, num: c.v, isNo: true}).shown(); got != c.want {
			t.Errorf("%s=%d is %q: want %q", c.name, c.v, got, c.want)
		}
	}
}
