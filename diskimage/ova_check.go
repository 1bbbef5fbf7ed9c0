package diskimage

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // what OVF 1.0 has
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// maxManifest bounds a manifest: a line for each member there may be.
const maxManifest = 1 << 20

// manifestLine is a line as DSP0243 1.1 clause 5.1 wants it, or with the spaces
// that openssl puts in.
var manifestLine = regexp.MustCompile(`^([A-Za-z0-9-]+) *\((.*)\) *= *([0-9A-Fa-f]+)$`)

// newManifestHash returns the algorithm of a manifest line, nil for one that is
// not known.
func newManifestHash(algorithm string) hash.Hash {
	switch algorithm {
	case "SHA1":
		return sha1.New()
	case "SHA256":
		return sha256.New()
	case "SHA512":
		return sha512.New()
	}
	return nil
}

// ovaCheck is a run of OVADisk.Check.
type ovaCheck struct {
	*OVADisk
	CheckResult
	sums []memberSum // to be compared
}

// memberSum is a digest that a member has to have.
type memberSum struct {
	member
	hash hash.Hash
	want string // lower case hex
	line int64  // where the manifest says so
}

// Check checks the order of the files, sizes, the digests of the manifest when
// there is one, and the VMDK.
func (d *OVADisk) Check(ctx context.Context, progress func(done, total int64)) (CheckResult, error) {
	c := &ovaCheck{OVADisk: d}
	c.checkOrder()
	c.checkSizes()
	if err := c.readManifest(); err != nil {
		return c.CheckResult, err
	}
	total := d.vmdk.size
	for _, s := range c.sums {
		total += s.size
	}
	done := int64(0)
	tell := func(n int64) {
		if done += n; progress != nil {
			progress(done, total)
		}
	}
	for _, s := range c.sums {
		if err := c.checkSum(ctx, s, tell); err != nil {
			return c.CheckResult, err
		}
	}
	err := c.checkDisk(ctx, func(part, of int64) {
		if progress != nil && of > 0 {
			progress(done+int64(float64(d.vmdk.size)*(float64(part)/float64(of))), total)
		}
	})
	return c.CheckResult, err
}

// checkOrder holds the members against DSP0243 1.1, clause 5.3: the
// descriptor, then manifest and certificate unless they are last, then the
// files in the order of the References.
func (c *ovaCheck) checkOrder() {
	if c.members[0] != c.ovf {
		c.add("tar archive", c.ovf.offset, "descriptor %.100q is not the first file, which is %.100q", c.ovf.name, c.members[0].name)
	}
	last := c.ovf
	for i := range c.envelope.Files {
		f := &c.envelope.Files[i]
		m, err := f.find(c.members)
		if err != nil {
			c.add("OVF descriptor", c.ovf.offset, "%v", err)
			continue
		}
		if m.offset < last.offset {
			c.add("tar archive", m.offset, "%.100q comes before %.100q, the descriptor has them the other way round", m.name, last.name)
		}
		last = m
	}
}

// checkSizes holds the descriptor's numbers against what is there.
func (c *ovaCheck) checkSizes() {
	for i := range c.envelope.Files {
		f := &c.envelope.Files[i]
		m, err := f.find(c.members)
		if err != nil || f.Size == "" {
			continue
		}
		if n, err := strconv.ParseInt(f.Size, 10, 64); err != nil || n != m.size {
			c.add("OVF descriptor", c.ovf.offset, "ovf:size of %.100q is %.100q, the file has %d bytes", m.name, f.Size, m.size)
		}
	}
	d := &c.envelope.Disks[0]
	n, ok, err := d.capacity()
	switch {
	case err != nil:
		c.add("OVF descriptor", c.ovf.offset, "disk %.100q: %v", d.ID, err)
	case ok && n != c.disk.Size():
		c.add("OVF descriptor", c.ovf.offset, "disk %.100q has a capacity of %d bytes, its file %d", d.ID, n, c.disk.Size())
	}
}

// readManifest reads the manifest, when there is one, and gathers the digests
// to compare: one for each member, so that the work is bounded by the archive.
func (c *ovaCheck) readManifest() error {
	m, ok := c.manifest()
	if !ok {
		return nil
	}
	if want := c.manifestName(); m.name != want {
		c.add("manifest", m.offset, "is called %.100q, want %.100q", m.name, want)
	}
	b, err := m.read(c.file, maxManifest)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	at := m.offset
	for line := range bytes.Lines(b) {
		if text := strings.TrimSpace(string(line)); text != "" {
			c.addLine(text, at, seen)
		}
		at += int64(len(line))
	}
	for _, name := range c.required() {
		if !seen[name] {
			c.add("manifest", m.offset, "has no line for %.100q", name)
		}
	}
	return nil
}

// required returns the members a manifest has to have lines for.
func (c *ovaCheck) required() []string {
	names := []string{c.ovf.name}
	for i := range c.envelope.Files {
		if m, err := c.envelope.Files[i].find(c.members); err == nil && !slices.Contains(names, m.name) {
			names = append(names, m.name)
		}
	}
	return names
}

// addLine takes the line of the manifest at offset at.
func (c *ovaCheck) addLine(text string, at int64, seen map[string]bool) {
	parts := manifestLine.FindStringSubmatch(text)
	if parts == nil {
		c.add("manifest", at, "line %.200q, want ALGORITHM(file)= digest", text)
		return
	}
	algorithm, name, digest := parts[1], parts[2], strings.ToLower(parts[3])
	m, ok := c.members.find(name)
	h := newManifestHash(algorithm)
	switch {
	case seen[name]:
		c.add("manifest", at, "second line for %.100q", name)
	case !ok:
		c.add("manifest", at, "line for %.100q, which is not in the archive", name)
	case h == nil:
		c.add("manifest", at, "algorithm %.100q of %.100q, want SHA1, SHA256 or SHA512", algorithm, name)
	default:
		c.sums = append(c.sums, memberSum{m, h, digest, at})
	}
	seen[name] = true
}

// checkSum compares the digest of one member.
func (c *ovaCheck) checkSum(ctx context.Context, s memberSum, tell func(n int64)) error {
	section := io.NewSectionReader(c.file, s.offset, s.size)
	buf := make([]byte, 1<<20)
	for off := int64(0); off < s.size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := buf[:min(int64(len(buf)), s.size-off)]
		if err := readFull(section, p, off); err != nil {
			return fmt.Errorf("reading %.100q at offset %#x: %w", s.name, s.offset+off, err)
		}
		s.hash.Write(p)
		off += int64(len(p))
		tell(int64(len(p)))
	}
	if got := hex.EncodeToString(s.hash.Sum(nil)); got != s.want {
		c.add("manifest", s.line, "digest of %.100q is %.128s, the file's %s", s.name, s.want, got)
	}
	return nil
}

// checkDisk checks the VMDK; offsets become those of the archive.
func (c *ovaCheck) checkDisk(ctx context.Context, progress func(done, total int64)) error {
	r, err := c.disk.Check(ctx, progress)
	for _, p := range r.Problems {
		c.add(p.Structure, c.vmdk.offset+p.Offset, "%s", p.Text)
	}
	c.Errors += r.Errors - int64(len(r.Problems))
	c.Leaked, c.Used = r.Leaked, r.Used
	if err != nil {
		return fmt.Errorf("checking %.100q: %w", c.vmdk.name, err)
	}
	return nil
}
