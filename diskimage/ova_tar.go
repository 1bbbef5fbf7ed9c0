package diskimage

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

const (
	// maxOctalField is 8 GiB, the first size that the eleven octal digits of
	// a ustar header cannot say.
	maxOctalField = 1 << 33

	// Bounds for archives of others: an appliance has a few files, and a file
	// name no more than PATH_MAX.
	maxMembers    = 1000
	maxMemberName = 4096
)

// tarHeader returns the header block of a regular file. It is of POSIX ustar,
// which DSP0243 1.1 clause 5.3 wants; for a file of 8 GiB or more it is GNU's,
// with a binary size. That is what VMware's own tools write, while a pax header
// is not read by vSphere (github.com/vmware/open-vmdk, pull request 65).
func tarHeader(name string, size int64, mtime time.Time) ([]byte, error) {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: mtime, Format: tar.FormatUSTAR}
	if size >= maxOctalField {
		h.Format = tar.FormatGNU
	}
	var b bytes.Buffer
	err := tar.NewWriter(&b).WriteHeader(h)
	return b.Bytes(), err
}

// padded rounds n up to whole tar blocks.
func padded(n int64) int64 { return ceilDiv(n, tarBlock) * tarBlock }

// member is a regular file in a tar archive.
type member struct {
	name   string
	offset int64 // of its data in the archive
	size   int64
}

// tarMembers are the regular files of an archive in their order.
type tarMembers []member

// readTar lists the regular files of an archive of the given size: ustar, GNU
// or pax. It reads headers only.
func readTar(r io.ReaderAt, size int64) (tarMembers, error) {
	section := io.NewSectionReader(r, 0, size)
	archive := tar.NewReader(section)
	var members tarMembers
	seen := map[string]bool{}
	for entries := 0; ; entries++ {
		h, err := archive.Next()
		if err == io.EOF {
			return members, nil
		}
		at, seekErr := section.Seek(0, io.SeekCurrent)
		if seekErr != nil {
			return nil, seekErr
		}
		if err != nil {
			return nil, tarError(err, at)
		}
		if entries == maxMembers {
			return nil, unsupportedf("reading tar header before offset %#x: more than %d members", at, maxMembers)
		}
		if err := checkMember(h, at, size); err != nil {
			return nil, err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if seen[h.Name] {
			return nil, corruptf("reading tar header before offset %#x: second member %q", at, h.Name)
		}
		seen[h.Name] = true
		members = append(members, member{h.Name, at, h.Size})
	}
}

// tarError classifies an error of archive/tar, met near offset at.
func tarError(err error, at int64) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, tar.ErrFieldTooLong) {
		return corruptf("reading tar header near offset %#x: %v", at, err)
	}
	return fmt.Errorf("reading tar header near offset %#x: %w", at, err)
}

// checkMember checks the header of a member whose data begins at offset at.
func checkMember(h *tar.Header, at, size int64) error {
	if len(h.Name) > maxMemberName {
		return corruptf("reading tar header before offset %#x: name of %d bytes, want at most %d", at, len(h.Name), maxMemberName)
	}
	sparse := h.Typeflag == tar.TypeGNUSparse
	for key := range h.PAXRecords {
		sparse = sparse || strings.HasPrefix(key, "GNU.sparse.")
	}
	if sparse {
		return unsupportedf("reading tar header before offset %#x: member %q is stored sparse", at, h.Name)
	}
	if h.Size > size-at {
		return corruptf("reading tar header before offset %#x: member %q of %d bytes reaches past the end of the file at %#x", at, h.Name, h.Size, size)
	}
	return nil
}

// find returns the member of that name.
func (ms tarMembers) find(name string) (member, bool) {
	for _, m := range ms {
		if m.name == name {
			return m, true
		}
	}
	return member{}, false
}

// withSuffix returns the members whose names end so.
func (ms tarMembers) withSuffix(suffix string) tarMembers {
	var found tarMembers
	for _, m := range ms {
		if strings.HasSuffix(m.name, suffix) {
			found = append(found, m)
		}
	}
	return found
}

// names lists the first members for a message.
func (ms tarMembers) names() string {
	var list []string
	for i, m := range ms {
		if i == 5 {
			list = append(list, "…")
			break
		}
		list = append(list, fmt.Sprintf("%.100q", m.name))
	}
	if list == nil {
		return "no files"
	}
	return strings.Join(list, ", ")
}

// read reads a whole member of at most limit bytes.
func (m member) read(r io.ReaderAt, limit int64) ([]byte, error) {
	if m.size > limit {
		return nil, unsupportedf("reading %q at offset %#x: %d bytes, want at most %d", m.name, m.offset, m.size, limit)
	}
	b := make([]byte, m.size)
	if err := readFull(r, b, m.offset); err != nil {
		return nil, fmt.Errorf("reading %q at offset %#x: %w", m.name, m.offset, err)
	}
	return b, nil
}
