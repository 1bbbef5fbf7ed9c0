package diskimage

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
)

// maxGCPSize is the largest disk Google has, 64 TiB.
const maxGCPSize = 64 << 40

// GCPReadOptions are the options of OpenGCP.
type GCPReadOptions struct {
	// TempDir is where the disk is unpacked; empty means os.TempDir().
	TempDir string
	// MaxSize is the size of the largest disk to unpack; 0 means 64 TiB.
	MaxSize int64
}

// GCPDisk is the disk of a GCP archive, unpacked.
type GCPDisk struct {
	*RawDisk
	member  *tarDisk
	problem []Problem
}

// OpenGCP opens the archive of size bytes in r: it unpacks disk.raw to a sparse
// file without a name, which Close frees, and checks the CRC of all there is.
// So it takes as long as inflating does, and room for what is not zero. Further
// members are passed over; Check tells of them.
func OpenGCP(r io.ReaderAt, size int64, opts GCPReadOptions) (*GCPDisk, error) {
	if opts.MaxSize == 0 {
		opts.MaxSize = maxGCPSize
	}
	in := &sourceErrors{r: io.NewSectionReader(r, 0, size)}
	d, err := unpackGCP(in, opts)
	switch {
	case err == nil:
		return d, nil
	case in.err != nil:
		return nil, fmt.Errorf("reading gcp archive: %w", in.err)
	}
	return nil, fmt.Errorf("unpacking gcp archive: %w", err)
}

// sourceErrors remembers what went wrong with reading, to tell it from what is
// wrong with the content.
type sourceErrors struct {
	r   io.Reader
	err error
}

func (s *sourceErrors) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// contentError makes an error of a decoder one about a corrupt image.
func contentError(err error) error {
	if err == nil || errors.Is(err, ErrCorrupt) || errors.Is(err, ErrUnsupported) {
		return err
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return corruptf("%v", err)
}

func unpackGCP(in io.Reader, opts GCPReadOptions) (*GCPDisk, error) {
	z, err := gzip.NewReader(bufio.NewReaderSize(in, 256<<10))
	if err != nil {
		return nil, corruptf("reading gzip header: %v", err)
	}
	m, err := tarFirst(z)
	if err != nil {
		return nil, contentError(err)
	}
	if !gcpDiskName(m.name) {
		return nil, unsupportedf("first file of the tar is %q, want %q", m.name, gcpName)
	}
	if m.size > opts.MaxSize {
		return nil, unsupportedf("%q has %d bytes, want at most %d", m.name, m.size, opts.MaxSize)
	}
	if err := m.readMap(); err != nil {
		return nil, contentError(err)
	}
	f, err := unlinkedTemp(opts.TempDir)
	if err != nil {
		return nil, err
	}
	d := &GCPDisk{member: m}
	if err = f.Truncate(m.size); err == nil {
		err = m.unpack(f)
	}
	if err == nil {
		err = d.readRest(z)
	}
	if err == nil {
		d.RawDisk, err = OpenRaw(f)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return d, nil
}

// gcpDiskName also takes what "tar -c ." makes of the name.
func gcpDiskName(name string) bool { return name == gcpName || name == "./"+gcpName }

// unpack writes the runs of data to where they belong.
func (d *tarDisk) unpack(to io.WriterAt) error {
	buf := make([]byte, writeBuffer)
	for _, x := range d.runs {
		for off := x.start; off < x.end; {
			p := buf[:min(int64(len(buf)), x.end-off)]
			if n, err := io.ReadFull(d.data, p); err != nil {
				return corruptf("reading data of %q: %v at offset %#x of %d bytes", d.name, contentError(err), off+int64(n), d.size)
			}
			if err := writeSparse(to, &Block{Offset: off, Data: p}, 0); err != nil {
				return err
			}
			off += int64(len(p))
		}
	}
	if d.form == tarFormSparse && d.stored%tarBlock != 0 { // what is left of the last block
		if _, err := io.CopyN(io.Discard, d.data, tarBlock-d.stored%tarBlock); err != nil {
			return contentError(err)
		}
	}
	return nil
}

// readRest reads on to the end of the gzip stream, where the CRC is, and notes
// how the tar differs from what Google takes.
func (d *GCPDisk) readRest(z io.Reader) error {
	m := d.member
	note := func(structure string, format string, args ...any) {
		d.problem = append(d.problem, Problem{structure, 0, fmt.Sprintf(format, args...)})
	}
	if m.name != gcpName {
		note("tar header", "file is named %q, want %q", m.name, gcpName)
	}
	if m.size%gcpUnit != 0 || m.size == 0 {
		note("tar header", "disk of %d bytes, want a whole number of GiB", m.size)
	}
	t, ok := m.data.(*tar.Reader)
	if !ok {
		t = tar.NewReader(z)
	}
	h, err := t.Next()
	switch {
	case err == nil:
		note("tar", "file %q comes after %q, want nothing else", h.Name, m.name)
	case err != io.EOF:
		return contentError(err)
	}
	_, err = io.Copy(io.Discard, z)
	return contentError(err)
}

// Info implements Image.
func (d *GCPDisk) Info() Info {
	return Info{Format: GCP, VirtualSize: d.Size(), Compression: "deflate", Details: []Detail{
		{"disk file", d.member.name}, {"tar form", string(d.member.form)}, {"stored bytes", fmt.Sprint(d.member.stored)},
	}}
}

// Check implements checker: the tar's form against what Google takes. CRC and
// map were checked when the image was opened.
func (d *GCPDisk) Check(_ context.Context, progress func(done, total int64)) (CheckResult, error) {
	if progress != nil {
		progress(d.Size(), d.Size())
	}
	return CheckResult{Problems: d.problem, Errors: int64(len(d.problem)), Used: d.member.stored}, nil
}

// isGCP tells whether the gzip stream in r is of a tar that begins with a
// disk.raw. It looks at no more than the first 64 KiB.
func isGCP(r io.ReaderAt, size int64) bool {
	z, err := gzip.NewReader(io.NewSectionReader(r, 0, min(size, 64<<10)))
	if err != nil {
		return false
	}
	m, err := tarFirst(io.LimitReader(z, 64<<10))
	return err == nil && gcpDiskName(m.name)
}
