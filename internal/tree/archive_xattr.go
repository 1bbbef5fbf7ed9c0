package tree

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Attributes in PAX records beside star's: bsdtar's, whose names are quoted as
// in URLs and whose values are base64, and access control lists as text
// (libarchive's tar(5), star's star(5)).
const (
	libarchivePrefix = "LIBARCHIVE.xattr."
	accessACL        = "SCHILY.acl.access"
	defaultACL       = "SCHILY.acl.default"
)

func moreXattrs(e *Entry, records map[string]string) error {
	for key, value := range records {
		name, bytes := "", []byte(nil)
		var err error
		quoted, isLibarchive := strings.CutPrefix(key, libarchivePrefix)
		switch {
		case isLibarchive:
			if name, err = url.PathUnescape(quoted); err == nil {
				bytes, err = base64.StdEncoding.WithPadding(base64.NoPadding).DecodeString(strings.TrimRight(value, "="))
			}
		case key == accessACL:
			name = "system.posix_acl_access"
			bytes, err = parseACL(value)
		case key == defaultACL:
			name = "system.posix_acl_default"
			bytes, err = parseACL(value)
		default:
			continue
		}
		if err != nil {
			return fmt.Errorf("record %s: %w", key, err)
		}
		if e.Xattrs == nil {
			e.Xattrs = map[string][]byte{}
		}
		if e.Xattrs[name] == nil { // star's record says the same
			e.Xattrs[name] = bytes
		}
	}
	return nil
}

// aclEntry is one line of an access control list, with the numbers of Linux's
// posix_acl_xattr.h, version 2.
type aclEntry struct {
	tag, perm uint16
	id        uint32
}

const aclNoID = 1<<32 - 1

// parseACL reads the text form (acl(5), "long text form" with commas or line
// ends between entries): tag:qualifier:permissions, where a fourth field, or a
// qualifier that is a number, is the id. It gives the bytes that the kernel
// takes.
func parseACL(text string) ([]byte, error) {
	var list []aclEntry
	for _, line := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == '\n' }) {
		line, _, _ = strings.Cut(line, "#") // effective rights
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		e, err := parseACLEntry(line)
		if err != nil {
			return nil, err
		}
		list = append(list, e)
	}
	slices.SortStableFunc(list, func(a, b aclEntry) int {
		if a.tag != b.tag {
			return int(a.tag) - int(b.tag)
		}
		return int(int64(a.id) - int64(b.id))
	})
	out := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range list {
		out = binary.LittleEndian.AppendUint16(out, e.tag)
		out = binary.LittleEndian.AppendUint16(out, e.perm)
		out = binary.LittleEndian.AppendUint32(out, e.id)
	}
	return out, nil
}

func parseACLEntry(line string) (aclEntry, error) {
	f := strings.Split(line, ":")
	if len(f) < 3 || len(f) > 4 {
		return aclEntry{}, fmt.Errorf("access control entry %q: want tag:name:rwx", line)
	}
	e := aclEntry{id: aclNoID}
	for i, bit := range []uint16{4, 2, 1} {
		if len(f[2]) == 3 && f[2][i] == "rwx"[i] {
			e.perm |= bit
		}
	}
	named := f[1] != ""
	switch f[0] {
	case "user", "u":
		e.tag = 1 // ACL_USER_OBJ; ACL_USER is 2
	case "group", "g":
		e.tag = 4
	case "mask", "m":
		e.tag = 16
	case "other", "o":
		e.tag = 32
	default:
		return e, fmt.Errorf("access control entry %q: unknown tag %q", line, f[0])
	}
	if e.tag >= 16 || !named {
		return e, nil
	}
	e.tag *= 2
	id, err := strconv.ParseUint(f[len(f)-1], 10, 32)
	if len(f) == 3 {
		id, err = strconv.ParseUint(f[1], 10, 32)
	}
	if err != nil {
		return e, fmt.Errorf("access control entry %q: a name without its number\nhint: make the archive with tar --xattrs --xattrs-include='*', without --acls: it keeps the numbers", line)
	}
	e.id = uint32(id)
	return e, nil
}
