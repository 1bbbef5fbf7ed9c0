package tree

import (
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// WalkOptions controls Walk.
type WalkOptions struct {
	// OneFileSystem leaves the content of mount points out.
	OneFileSystem bool
}

// Walk calls f for each file below the folder root, parents before children,
// names in byte order, root itself first. Entries have everything a file
// system keeps of a file but its access and change times, which no two copies
// of a tree share. Hard links are told by device and inode.
//
// A second goroutine reads ahead. Entry and body are f's until it returns. The
// body of a sparse file has SkipHole() (int64, error): it passes over the hole
// that begins at the next byte and gives its length, 0 when there is data.
func Walk(root string, opts WalkOptions, f func(e *Entry, body io.Reader) error) error {
	w := &walker{
		opts: opts, seen: map[inode]string{}, noAtime: unix.O_NOATIME, xattrs: newXattrReader(),
		full: make(chan *batch, readAhead), free: make(chan *batch, readAhead+2), stop: make(chan struct{}),
	}
	for range cap(w.free) {
		w.free <- &batch{}
	}
	go w.run(root)
	err := w.hand(f)
	close(w.stop)
	for b := range w.full { // until the walker has ended
		b.close()
	}
	return err
}

const (
	readAhead    = 3         // batches
	batchEntries = 256       // in one of them
	batchBytes   = 1 << 20   // of file content
	inlineSize   = 128 << 10 // larger files are read as they are handed on
)

// batch is a run of entries with the content of the small files.
type batch struct {
	items []item
	data  []byte
	err   error // of what comes behind the items
}

type item struct {
	Entry
	at, end int  // of its content in data
	fd      int  // of a file that is not read yet; 0 for none
	sparse  bool // it has fewer blocks than bytes
}

func (b *batch) close() {
	for i := range b.items {
		if b.items[i].fd != 0 {
			_ = unix.Close(b.items[i].fd)
			b.items[i].fd = 0
		}
	}
}

// hand passes the batches on to f.
func (w *walker) hand(f func(e *Entry, body io.Reader) error) error {
	for b := range w.full {
		if err := b.hand(f); err != nil {
			return err
		}
		w.free <- b
	}
	return nil
}

func (b *batch) hand(f func(e *Entry, body io.Reader) error) error {
	defer b.close()
	var small memory
	for i := range b.items {
		it := &b.items[i]
		var body io.Reader
		switch {
		case it.fd != 0:
			body = newFileBody(it)
		case it.IsRegular():
			small = memory{b.data[it.at:it.end]}
			body = &small
		}
		if err := f(&it.Entry, body); err != nil {
			return err
		}
		if it.fd != 0 {
			_ = unix.Close(it.fd)
			it.fd = 0
		}
	}
	return b.err
}

// memory is a reader of bytes.
type memory struct{ rest []byte }

func (m *memory) Read(p []byte) (int, error) {
	if len(m.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, m.rest)
	m.rest = m.rest[n:]
	return n, nil
}

// newFileBody gives the reader of a file that was opened.
func newFileBody(it *item) io.Reader {
	b := fileBody{fd: it.fd, size: it.Size, dataEnd: it.Size}
	if !it.sparse {
		return &b
	}
	b.dataEnd = 0
	return &sparseBody{b}
}

// fileBody reads the size bytes that a file had when it was looked at.
type fileBody struct {
	fd      int
	at      int64
	size    int64
	dataEnd int64 // where the data that at lies in ends; nothing is known behind it
}

func (b *fileBody) Read(p []byte) (int, error) {
	if b.at >= b.size {
		return 0, io.EOF
	}
	n, err := readAt(b.fd, p[:min(int64(len(p)), b.size-b.at)], b.at)
	b.at += int64(n)
	if err == nil && n == 0 && len(p) > 0 {
		err = fmt.Errorf("the file shrank from %d to %d bytes while it was read", b.size, b.at)
	}
	return n, err
}

func readAt(fd int, p []byte, at int64) (int, error) {
	for {
		n, err := unix.Pread(fd, p, at)
		if !errors.Is(err, unix.EINTR) {
			return max(n, 0), err
		}
	}
}

// sparseBody is a body that knows of its holes.
type sparseBody struct{ fileBody }

// SkipHole is described at Walk.
func (b *sparseBody) SkipHole() (int64, error) {
	if b.at < b.dataEnd || b.at >= b.size {
		return 0, nil
	}
	data, err := unix.Seek(b.fd, b.at, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) { // none up to the end
		data, err = b.size, nil
	}
	if err == nil && data < b.size {
		b.dataEnd, err = unix.Seek(b.fd, data, unix.SEEK_HOLE)
	}
	if err != nil {
		return 0, fmt.Errorf("looking for holes: %w", err)
	}
	data = min(data, b.size)
	n := data - b.at
	b.at = data
	return n, nil
}

// modTime is st's, to the nanosecond.
func modTime(st *unix.Stat_t) time.Time { return time.Unix(st.Mtim.Sec, st.Mtim.Nsec) }
