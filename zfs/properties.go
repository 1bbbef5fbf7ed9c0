package zfs

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/kldload/kldload/zfs/internal/block"
	"github.com/kldload/kldload/zfs/internal/ondisk"
	"github.com/kldload/kldload/zfs/internal/zap"
)

// A property is one that the writer knows: how its text becomes what the pool
// stores (zfs_prop.c), and whether children inherit it.
type property struct {
	name string
	// values are the words it takes, with the numbers stored for them.
	values []word
	// parse reads other text; nil allows the words alone. wants says what it
	// takes.
	parse func(text string) (stored any, err error) // uint64 or string
	wants string
	// own properties are not inherited.
	own bool
}

type word struct {
	text  string
	value uint64
}

var (
	onOff = []word{{"on", 1}, {"off", 0}}
	// The values of ZFS's index properties: include/sys/fs/zfs.h, zio.h.
	datasetProperties = []property{
		{name: "aclinherit", values: []word{{"discard", 0}, {"noallow", 1}, {"restricted", 4}, {"passthrough", 3}, {"passthrough-x", 5}}},
		{name: "aclmode", values: []word{{"discard", 0}, {"groupmask", 2}, {"passthrough", 3}, {"restricted", 4}}},
		{name: "acltype", values: []word{{"off", 0}, {"noacl", 0}, {"posix", 1}, {"posixacl", 1}}},
		{name: "atime", values: onOff},
		{name: "canmount", values: []word{{"on", 1}, {"off", 0}, {"noauto", 2}}, own: true},
		{name: "checksum", values: []word{{"on", 1}, {"fletcher4", 7}}},
		{name: "compression", values: []word{{"on", 1}, {"off", 2}, {"lz4", 15}, {"zstd", 16}}, parse: parseZSTD, wants: "on, off, lz4, zstd or zstd-1 to zstd-19"},
		{name: "copies", values: []word{{"1", 1}, {"2", 2}, {"3", 3}}},
		{name: "devices", values: onOff},
		{name: "dnodesize", values: []word{{"legacy", 0}, {"auto", 1}, {"1k", 1024}, {"2k", 2048}, {"4k", 4096}, {"8k", 8192}, {"16k", 16384}}},
		{name: "exec", values: onOff},
		{name: "logbias", values: []word{{"latency", 0}, {"throughput", 1}}},
		{name: "mountpoint", parse: parseMountpoint, wants: "an absolute path, none or legacy"},
		{name: "overlay", values: onOff},
		{name: "primarycache", values: cacheWords},
		{name: "quota", values: []word{{"none", 0}}, parse: parseSize, wants: "a size such as 10G, or none", own: true},
		{name: "readonly", values: onOff},
		{name: "recordsize", parse: parseRecordSize, wants: "a power of two from 512 to 1M"},
		{name: "redundant_metadata", values: []word{{"all", 0}, {"most", 1}}},
		{name: "refquota", values: []word{{"none", 0}}, parse: parseSize, wants: "a size such as 10G, or none", own: true},
		{name: "relatime", values: onOff},
		{name: "secondarycache", values: cacheWords},
		{name: "setuid", values: onOff},
		{name: "snapdir", values: []word{{"hidden", 0}, {"visible", 1}}},
		{name: "sync", values: []word{{"standard", 0}, {"always", 1}, {"disabled", 2}}},
		{name: "xattr", values: []word{{"on", 1}, {"dir", 1}, {"sa", 2}, {"off", 0}}},
	}
	cacheWords = []word{{"none", 0}, {"metadata", 1}, {"all", 2}}

	poolProperties = []property{
		{name: "ashift", values: []word{{"12", ashift}}},
		{name: "autoexpand", values: onOff},
		{name: "autotrim", values: onOff},
		{name: "bootfs", parse: func(s string) (any, error) { return s, nil }, wants: "the name of a dataset"},
		{name: "comment", parse: parseComment, wants: "at most 32 printable characters"},
		{name: "compatibility", values: nil, parse: parseCompatibility, wants: "a set of features: " + strings.Join(compatibilityNames(), ", ")},
		{name: "delegation", values: onOff},
		{name: "failmode", values: []word{{"wait", 0}, {"continue", 1}, {"panic", 2}}},
		{name: "listsnapshots", values: onOff},
	}
)

// PropertyKind tells properties of datasets from those of pools.
type PropertyKind string

// The kinds of properties.
const (
	DatasetProperty PropertyKind = "dataset"
	PoolProperty    PropertyKind = "pool"
)

// Properties lists the properties of a kind that the writer knows, sorted.
func Properties(kind PropertyKind) []string {
	var names []string
	for _, p := range propertiesOf(kind) {
		names = append(names, p.name)
	}
	return names
}

func propertiesOf(kind PropertyKind) []property {
	if kind == PoolProperty {
		return poolProperties
	}
	return datasetProperties
}

// CheckProperty tells what is wrong with a property as a person would set it;
// user properties ("module:property", zfsprops(7)) take any text.
func CheckProperty(kind PropertyKind, name, value string) error {
	_, err := parseProperty(kind, name, value)
	return err
}

// UnknownPropertyError says that the writer does not know a property.
type UnknownPropertyError struct {
	Kind   PropertyKind
	Name   string
	Reason string // why it cannot be set here, "" when there is no such property
}

func (e *UnknownPropertyError) Error() string {
	if e.Reason != "" {
		return fmt.Sprintf("%s property %q: %s", e.Kind, e.Name, e.Reason)
	}
	return fmt.Sprintf("%s property %q: no such property (have %s)", e.Kind, e.Name, strings.Join(Properties(e.Kind), ", "))
}

// refused are properties that exist, and why they are not written.
var refused = map[string]string{
	"encryption":      encryptionRefused,
	"keyformat":       encryptionRefused,
	"keylocation":     encryptionRefused,
	"pbkdf2iters":     encryptionRefused,
	"reservation":     "reservations are not written; set it on the running system",
	"refreservation":  "reservations are not written; set it on the running system",
	"casesensitivity": "only the default, sensitive, is written",
	"normalization":   "only the default, none, is written",
	"utf8only":        "only the default, off, is written",
	"dedup":           "deduplication tables are not written; set it on the running system",
	"volsize":         "volumes are not written",
}

const encryptionRefused = "encrypted datasets are not written; create one on the running system with zfs create -o encryption=on"

func parseProperty(kind PropertyKind, name, value string) (any, error) {
	if kind == DatasetProperty && strings.Contains(name, ":") {
		return parseUserProperty(name, value)
	}
	for _, p := range propertiesOf(kind) {
		if p.name == name {
			return p.stored(kind, value)
		}
	}
	return nil, &UnknownPropertyError{Kind: kind, Name: name, Reason: refused[name]}
}

func (p property) stored(kind PropertyKind, value string) (any, error) {
	for _, w := range p.values {
		if w.text == value {
			return w.value, nil
		}
	}
	wants := p.wants
	if p.parse != nil {
		v, err := p.parse(value)
		if err == nil {
			return v, nil
		}
	}
	if wants == "" {
		var words []string
		for _, w := range p.values {
			words = append(words, w.text)
		}
		wants = strings.Join(words, ", ")
	}
	return nil, fmt.Errorf("%s property %s=%q: want %s", kind, p.name, value, wants)
}

var errValue = fmt.Errorf("bad value")

func parseZSTD(s string) (any, error) {
	text, ok := strings.CutPrefix(s, "zstd-")
	level, err := strconv.Atoi(text)
	if !ok || err != nil || level < 1 || level > 19 || text != strconv.Itoa(level) {
		return nil, errValue
	}
	return uint64(ondisk.CompressZSTD) | uint64(level)<<compressionBits, nil
}

// compressionBits is where a level stands in a stored compression
// (SPA_COMPRESSBITS).
const compressionBits = 7

func parseMountpoint(s string) (any, error) {
	switch {
	case s == "none" || s == "legacy":
		return s, nil
	case !strings.HasPrefix(s, "/") || strings.ContainsRune(s, 0) || len(s) >= 4096:
		return nil, errValue
	}
	for _, part := range strings.Split(s[1:], "/") {
		if part == "." || part == ".." || part == "" && s != "/" {
			return nil, errValue
		}
	}
	return s, nil
}

func parseComment(s string) (any, error) {
	if len(s) > 32 || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
		return nil, errValue
	}
	return s, nil
}

func parseCompatibility(s string) (any, error) {
	if !slices.Contains(compatibilityNames(), s) {
		return nil, errValue
	}
	return s, nil
}

func parseRecordSize(s string) (any, error) {
	v, err := parseSize(s)
	n, _ := v.(uint64)
	if err != nil || n < 512 || n > maxRecordSize || n&(n-1) != 0 {
		return nil, errValue
	}
	return n, nil
}

// parseSize reads zfs's sizes: a number with K, M, G, T, P, E, and B or iB
// behind.
func parseSize(s string) (any, error) {
	t := strings.ToUpper(s)
	t = strings.TrimSuffix(strings.TrimSuffix(t, "B"), "I")
	shift := 0
	if i := strings.IndexAny(t, "KMGTPE"); i >= 0 && i == len(t)-1 {
		shift = 10 * (1 + strings.IndexByte("KMGTPE", t[i]))
		t = t[:i]
	}
	n, err := strconv.ParseUint(t, 10, 63)
	if err != nil || n > 1<<62>>shift {
		return nil, errValue
	}
	return n << shift, nil
}

// parseUserProperty holds zfsprops(7)'s rules for names of user properties.
func parseUserProperty(name, value string) (any, error) {
	bad := strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune(":+._-", r))
	})
	bad = bad || strings.ContainsRune(value, 0)
	if bad || strings.HasPrefix(name, "-") || len(name) >= 256 || len(value) >= 8192 {
		return nil, fmt.Errorf("dataset property %q: want lower case letters, digits and :+._- in a user property's name, at most 255, and at most 8191 bytes of value without a NUL", name)
	}
	return value, nil
}

// settings are a dataset's properties as far as the writer acts on them.
type settings struct {
	method     block.Method
	recordSize int
	copies     int
	canMount   bool
	mountpoint string // "" is none or legacy
	dnodeSlots int
	xattr      uint64
	// mostMetadata stores pointers to files' content as often as that
	// (redundant_metadata=most).
	mostMetadata bool
}

// metaCopies is how often metadata is stored: once more than content
// (dmu_write_policy).
func (s settings) metaCopies() int { return min(s.copies+1, maxCopies) }

// parsedProperties are a dataset's own, in order of their names.
type parsedProperties struct {
	names  []string
	values map[string]any
}

func parseProperties(d Dataset) (parsedProperties, error) {
	p := parsedProperties{values: map[string]any{}}
	for name, value := range d.Properties {
		v, err := parseProperty(DatasetProperty, name, value)
		if err != nil {
			return p, fmt.Errorf("dataset %q: %w", d.Name, err)
		}
		p.names = append(p.names, name)
		p.values[name] = v
	}
	slices.Sort(p.names)
	return p, nil
}

// entries are the properties as DSL props hold them.
func (p parsedProperties) entries() []zap.Entry {
	var list []zap.Entry
	for _, name := range p.names {
		switch v := p.values[name].(type) {
		case uint64:
			list = append(list, zap.Uint64(name, v))
		case string:
			list = append(list, zap.String(name, v))
		}
	}
	return list
}

func (p parsedProperties) number(name string, other uint64) uint64 {
	if v, ok := p.values[name].(uint64); ok {
		return v
	}
	return other
}

// defaults are those of a pool's root dataset.
func defaults(pool string) settings {
	return settings{
		method: block.Method{Compression: ondisk.CompressLZ4}, recordSize: 128 << 10, copies: 1,
		canMount: true, mountpoint: "/" + pool, dnodeSlots: 1, xattr: 1,
	}
}

// child is what a dataset called base below one with s starts from.
func (s settings) child(base string) settings {
	s.canMount = true
	if s.mountpoint != "" {
		s.mountpoint = strings.TrimSuffix(s.mountpoint, "/") + "/" + base
	}
	return s
}

// with applies a dataset's own properties.
func (s settings) with(p parsedProperties) settings {
	if v, ok := p.values["compression"].(uint64); ok {
		s.method = method(v)
	}
	s.recordSize = int(p.number("recordsize", uint64(s.recordSize)))
	s.copies = int(p.number("copies", uint64(s.copies)))
	s.xattr = p.number("xattr", s.xattr)
	if v, ok := p.values["redundant_metadata"].(uint64); ok {
		s.mostMetadata = v != 0
	}
	s.canMount = p.number("canmount", 1) != 0
	if v, ok := p.values["dnodesize"].(uint64); ok {
		switch s.dnodeSlots = int(v / ondisk.DnodeSize); v {
		case 0:
			s.dnodeSlots = 1
		case 1:
			s.dnodeSlots = 2 // auto is 1 KiB (DNODE_MIN_SIZE << 1, dmu_objset.c)
		}
	}
	if v, ok := p.values["mountpoint"].(string); ok {
		s.mountpoint = v
		if v == "none" || v == "legacy" {
			s.mountpoint = ""
		}
	}
	return s
}

func method(stored uint64) block.Method {
	m := block.Method{Compression: ondisk.Compression(stored & (1<<compressionBits - 1)), Level: int(stored >> compressionBits)}
	if m.Compression == ondisk.CompressOn {
		m.Compression = ondisk.CompressLZ4
	}
	if m.Compression == ondisk.CompressZSTD && m.Level == 0 {
		m.Level = 3
	}
	return m
}
