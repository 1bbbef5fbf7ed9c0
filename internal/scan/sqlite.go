package scan

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
)

// Bounds of what one record may hold, and of pages walked for it.
const (
	maxRecord  = 8 << 20
	maxColumns = 2000 // SQLite's own default
)

// sqlite is a database file: sqlite.org/fileformat2.html.
type sqlite struct {
	r        io.ReaderAt
	pageSize int64
	usable   int
	pages    int64
}

// walkSQLite looks at the pages as they are, for what was deleted, and at the
// values of all cells, which may go over several pages.
func walkSQLite(u *unit, r io.Reader) error {
	at, size, done, err := readerAt(r)
	if err != nil {
		return err
	}
	defer done()
	if _, err := u.chunks(io.NewSectionReader(at, 0, size), 0); err != nil {
		return err
	}
	db, err := openSQLite(at, size)
	if err != nil {
		return err
	}
	pr, pw := io.Pipe()
	go func() { pw.CloseWithError(db.writeValues(pw)) }()
	err = u.member("SQLite values", u.path, pr)
	_ = pr.Close()
	return err
}

func openSQLite(r io.ReaderAt, size int64) (*sqlite, error) {
	var h [100]byte
	if _, err := r.ReadAt(h[:], 0); err != nil {
		return nil, errors.New("the header is cut off")
	}
	page := int64(binary.BigEndian.Uint16(h[16:]))
	if page == 1 {
		page = 65536
	}
	if page < 512 || page&(page-1) != 0 || page-int64(h[20]) < 480 {
		return nil, errors.New("the page size is none of SQLite's")
	}
	return &sqlite{r, page, int(page) - int(h[20]), size / page}, nil
}

// writeValues prints the values of the cells of each page that is a leaf or an
// index, a record to a line. A page that is something else looks like one by
// chance: its cells do not parse, and are left out.
func (db *sqlite) writeValues(w io.Writer) error {
	page := make([]byte, db.pageSize)
	for n := int64(0); n < db.pages; n++ {
		if _, err := db.r.ReadAt(page, n*db.pageSize); err != nil {
			return err
		}
		h := page
		if n == 0 {
			h = page[100:]
		}
		kind := h[0]
		head, start := 8, 0
		switch kind {
		case 0x0d, 0x0a:
		case 0x02:
			head, start = 12, 4
		default:
			continue
		}
		cells := int(binary.BigEndian.Uint16(h[3:]))
		for i := range min(cells, (len(h)-head)/2) {
			at := int(binary.BigEndian.Uint16(h[head+2*i:])) + start
			record := db.record(page, at, kind)
			if line := recordText(record); len(line) > 0 {
				if _, err := w.Write(append(line, '\n')); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// record gives a cell's payload, with its overflow pages.
func (db *sqlite) record(page []byte, at int, kind byte) []byte {
	if at < 8 || at >= db.usable {
		return nil
	}
	cell := page[at:db.usable]
	size, n := varint(cell)
	cell = cell[n:]
	most := (db.usable-12)*64/255 - 23
	if kind == 0x0d {
		_, n = varint(cell) // rowid
		cell = cell[n:]
		most = db.usable - 35
	}
	if n == 0 || size == 0 || size > maxRecord {
		return nil
	}
	local := int(size)
	if local > most {
		least := (db.usable-12)*32/255 - 23
		local = least + (int(size)-least)%(db.usable-4)
		if local > most {
			local = least
		}
	}
	if local > len(cell) {
		return nil
	}
	if local == int(size) {
		return cell[:local]
	}
	if local+4 > len(cell) {
		return nil
	}
	return db.overflow(bytes.Clone(cell[:local]), int(size), int64(binary.BigEndian.Uint32(cell[local:])))
}

// overflow follows the chain of pages; it ends at a page that is not there.
func (db *sqlite) overflow(record []byte, size int, next int64) []byte {
	page := make([]byte, db.usable)
	for len(record) < size && next > 1 && next <= db.pages {
		if _, err := db.r.ReadAt(page, (next-1)*db.pageSize); err != nil {
			break
		}
		next = int64(binary.BigEndian.Uint32(page))
		record = append(record, page[4:min(len(page), 4+size-len(record))]...)
	}
	return record
}

// recordText joins the texts and blobs of a record with tabs.
func recordText(record []byte) []byte {
	size, n := varint(record)
	if n == 0 || size > uint64(len(record)) || int(size) < n {
		return nil
	}
	types, values := record[n:size], record[size:]
	var line []byte
	for range maxColumns {
		t, n := varint(types)
		if n == 0 {
			break
		}
		types = types[n:]
		length := serialSize(t)
		if length > len(values) {
			length = len(values)
		}
		if t >= 12 && length > 0 {
			line = append(append(line, values[:length]...), '\t')
		}
		values = values[length:]
	}
	return line
}

// serialSize is section 2.1's table.
func serialSize(t uint64) int {
	switch {
	case t >= 12:
		return int(min((t-12)/2, maxRecord))
	case t >= 8:
		return 0
	case t == 7 || t == 6:
		return 8
	case t == 5:
		return 6
	}
	return int(t)
}

// varint is SQLite's, of at most nine bytes; n is 0 where it is cut off.
func varint(b []byte) (v uint64, n int) {
	for i := range min(len(b), 9) {
		if i == 8 {
			return v<<8 | uint64(b[i]), 9
		}
		v = v<<7 | uint64(b[i]&0x7f)
		if b[i] < 0x80 {
			return v, i + 1
		}
	}
	return 0, 0
}
