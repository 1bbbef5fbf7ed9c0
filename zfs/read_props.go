package zfs

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/kldload/kldload/zfs/internal/ondisk"
	"github.com/kldload/kldload/zfs/internal/zap"
)

// propEntry is a property as stored: a number or a text.
type propEntry struct {
	name string
	num  uint64
	text string
	isNo bool
}

// readProps reads a ZAP of properties: those set here, not those received
// ("name$recvd") or marked inherited ("name$inherit").
func (p *Pool) readProps(id uint64) ([]propEntry, error) {
	var all []propEntry
	err := p.mos.walkZAP(id, func(e zap.Entry) error {
		if strings.Contains(e.Name, "$") {
			return nil
		}
		entry := propEntry{name: e.Name}
		if entry.num, entry.isNo = e.Uint64(); !entry.isNo {
			var ok bool
			if entry.text, ok = e.Text(); !ok {
				return fmt.Errorf("property %q is neither number nor text", e.Name)
			}
		}
		all = append(all, entry)
		return nil
	})
	slices.SortFunc(all, func(a, b propEntry) int { return strings.Compare(a.name, b.name) })
	return all, err
}

// storedWords are the texts of properties that are stored as numbers, which
// index into them (include/sys/fs/zfs.h, zfs_prop.c).
var storedWords = map[string][]string{
	"aclinherit":         {0: "discard", 1: "noallow", 2: "groupmask", 3: "passthrough", 4: "restricted", 5: "passthrough-x"},
	"aclmode":            {0: "discard", 2: "groupmask", 3: "passthrough", 4: "restricted"},
	"acltype":            {"off", "posix", "nfsv4"},
	"canmount":           {"off", "on", "noauto"},
	"case":               {"sensitive", "insensitive", "mixed"},
	"casesensitivity":    {"sensitive", "insensitive", "mixed"},
	"checksum":           {1: "on", 2: "off", 6: "fletcher2", 7: "fletcher4", 8: "sha256", 10: "noparity", 11: "sha512", 12: "skein", 13: "edonr", 14: "blake3"},
	"dedup":              {1: "on", 2: "off"},
	"direct":             {"disabled", "standard", "always"},
	"failmode":           {"wait", "continue", "panic"},
	"keyformat":          {"none", "raw", "hex", "passphrase"},
	"logbias":            {"latency", "throughput"},
	"primarycache":       {"none", "metadata", "all"},
	"prefetch":           {"none", "metadata", "all"},
	"redundant_metadata": {"all", "most", "some", "none"},
	"secondarycache":     {"none", "metadata", "all"},
	"snapdev":            {"hidden", "visible"},
	"snapdir":            {"hidden", "visible", "disabled"},
	"sync":               {"standard", "always", "disabled"},
	"volmode":            {1: "geom", 2: "dev", 3: "none"},
	"xattr":              {"off", "dir", "sa"},
}

// switches are the properties that are off or on.
var switches = []string{"atime", "autoexpand", "autoreplace", "autotrim", "defer_destroy", "delegation", "devices", "exec",
	"jailed", "listsnapshots", "multihost", "nbmand", "overlay", "readonly", "relatime", "setuid", "sharesmb", "utf8only",
	"vscan", "zoned", "longname"}

// renamed are properties that the pool stores under another name than zfs shows.
var renamed = map[string]string{"case": "casesensitivity", "encryption-feature": "encryption", "listsnaps": "listsnapshots"}

func (e propEntry) shownName() string {
	if n := renamed[e.name]; n != "" {
		return n
	}
	return e.name
}

// shown is the property's value as zfs get prints it with -p: sizes are plain
// numbers.
func (e propEntry) shown() string {
	if !e.isNo {
		return e.text
	}
	name := e.shownName()
	if words := storedWords[name]; e.num < uint64(len(words)) && words[e.num] != "" {
		return words[e.num]
	}
	switch {
	case name == "compression":
		return compressionText(e.num)
	case name == "dedup":
		return dedupText(e.num)
	case name == "dnodesize":
		return dnodeSizeText(e.num)
	case slices.Contains(switches, name):
		if e.num == 0 {
			return "off"
		}
		if e.num == 1 {
			return "on"
		}
	case e.num == 0 && strings.HasSuffix(name, "quota"), e.num == 0 && strings.HasSuffix(name, "reservation"):
		return "none"
	}
	return strconv.FormatUint(e.num, 10)
}

const (
	storedLevel  = 7   // where a compression's level begins (SPA_COMPRESSBITS)
	zstdFastBase = 102 // levels above are those of zstd-fast (ZIO_ZSTD_LEVEL_FAST)
)

var zstdFast = []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 500, 1000}

func compressionText(v uint64) string {
	level := v >> storedLevel
	switch c := v & (1<<storedLevel - 1); {
	case c == 16 && level == zstdFastBase+1:
		return "zstd-fast"
	case c == 16 && level > zstdFastBase && level-zstdFastBase <= uint64(len(zstdFast)):
		return fmt.Sprintf("zstd-fast-%d", zstdFast[level-zstdFastBase-1])
	case c == 16 && level > 0:
		return fmt.Sprintf("zstd-%d", level)
	case c == 10 && level == 0:
		return "gzip"
	default:
		return ondisk.Compression(c).String()
	}
}

const dedupVerify = 1 << 8 // ZIO_CHECKSUM_VERIFY

func dedupText(v uint64) string {
	words := storedWords["checksum"]
	if c := v &^ dedupVerify; v&dedupVerify != 0 && c < uint64(len(words)) && words[c] != "" {
		if c == 1 {
			return "verify"
		}
		return words[c] + ",verify"
	}
	if v < uint64(len(words)) && words[v] != "" {
		return words[v]
	}
	return strconv.FormatUint(v, 10)
}

func dnodeSizeText(v uint64) string {
	switch {
	case v == 0:
		return "legacy"
	case v == 1:
		return "auto"
	case v >= 1024 && v%1024 == 0:
		return fmt.Sprintf("%dk", v/1024)
	}
	return strconv.FormatUint(v, 10)
}

// readPoolProps reads the pool's properties; bootfs becomes a name.
func (p *Pool) readPoolProps() error {
	p.props = map[string]string{}
	id, ok, err := p.mos.lookup(directoryObject, "pool_props")
	if err != nil || !ok {
		return err
	}
	entries, err := p.readProps(id)
	if err != nil {
		return fmt.Errorf("reading the pool's properties: %w", err)
	}
	for _, e := range entries {
		p.props[e.shownName()] = e.shown()
		if e.name != "bootfs" || !e.isNo {
			continue
		}
		delete(p.props, "bootfs")
		if s := p.setByID(e.num); s != nil {
			p.props["bootfs"] = s.name
		}
	}
	return nil
}

// Properties of the pool that are stored in it, by zpool's names.
func (p *Pool) Properties() map[string]string {
	m := make(map[string]string, len(p.props))
	for k, v := range p.props {
		m[k] = v
	}
	return m
}
