package scan

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/xi2/xz"
)

// maxField bounds a field of a log entry; journald's own limit is 768 MiB, its
// default for the size of a core dump's message.
const maxField = 16 << 20

// Flags of systemd's journal files (systemd.io/JOURNAL_FILE_FORMAT).
const (
	journalCompact = 1 << 4 // of the header
	objectData     = 1
	dataXZ         = 1 // of an object
	dataLZ4        = 2
	dataZstd       = 4
)

// walkJournal looks at the file as it is, and at the fields that are
// compressed in it.
func walkJournal(u *unit, r io.Reader) error {
	at, size, done, err := readerAt(r)
	if err != nil {
		return err
	}
	defer done()
	if _, err := u.chunks(io.NewSectionReader(at, 0, size), 0); err != nil {
		return err
	}
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(writeFields(pw, at, size)) }()
	err = u.member("journal fields", u.path, pr)
	_ = pr.Close()
	return err
}

// writeFields prints the data objects, one behind another, a field to a line.
func writeFields(w io.Writer, r io.ReaderAt, size int64) error {
	var h [96]byte
	if _, err := r.ReadAt(h[:], 0); err != nil {
		return errors.New("the header is cut off")
	}
	skip := int64(64)
	if binary.LittleEndian.Uint32(h[12:])&journalCompact != 0 {
		skip += 8
	}
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(maxField))
	if err != nil {
		return err
	}
	defer z.Close()
	for at := int64(binary.LittleEndian.Uint64(h[88:])); at >= 0 && at+16 <= size; {
		var o [16]byte
		if _, err := r.ReadAt(o[:], at); err != nil {
			return err
		}
		n := int64(binary.LittleEndian.Uint64(o[8:]))
		if n < 16 || n > size-at {
			return nil // the end of what was written
		}
		if o[0] == objectData && n > skip && n-skip <= maxField {
			b := make([]byte, n-skip)
			if _, err := r.ReadAt(b, at+skip); err != nil {
				return err
			}
			if _, err := w.Write(append(field(b, o[1], z), '\n')); err != nil {
				return err
			}
		}
		at += (n + 7) &^ 7
	}
	return nil
}

// field unpacks a data object's payload; one that is damaged stays as it is.
func field(b []byte, flags byte, z *zstd.Decoder) []byte {
	var out []byte
	var err error
	switch {
	case flags&dataZstd != 0:
		out, err = z.DecodeAll(b, nil)
	case flags&dataLZ4 != 0:
		if len(b) < 8 || binary.LittleEndian.Uint64(b) > maxField {
			return b
		}
		out = make([]byte, binary.LittleEndian.Uint64(b))
		var n int
		n, err = lz4.UncompressBlock(b[8:], out)
		out = out[:max(n, 0)]
	case flags&dataXZ != 0:
		var x *xz.Reader
		if x, err = xz.NewReader(bytes.NewReader(b), maxDictionary); err == nil {
			out, err = io.ReadAll(io.LimitReader(x, maxField))
		}
	default:
		return b
	}
	if err != nil {
		return b
	}
	return out
}
