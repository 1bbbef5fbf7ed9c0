package tree

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// WalkOptions controls Walk.
type WalkOptions struct {
	// OneFileSystem leaves the content of mount points out.
	OneFileSystem bool
	// EmptyDirs are directories whose content is left out, by their paths.
	EmptyDirs map[string]bool
}

// Walk calls f for each file below the folder root, parents before children,
// names in byte order, root itself first. Entries have everything a file
// system keeps of a file but its access and change times, which no two copies
// of a tree share. Hard links are told by device and inode.
//
// Other goroutines read ahead. Entry and body are f's until it returns. The
// body of a sparse file has SkipHole() (int64, error): it passes over the hole
// that begins at the next byte and gives its length, 0 when there is data.
func Walk(root string, opts WalkOptions, f func(e *Entry, body io.Reader) error) error {
	w := newWalker(opts)
	go w.run(root)
	var workers sync.WaitGroup
	for range readers {
		workers.Go(func() {
			look := looker{xattrs: newXattrReader(), noAtime: unix.O_NOATIME}
			for b := range w.work {
				look.batch(b)
				b.ready <- struct{}{}
			}
		})
	}
	h := hander{f: f, seen: map[inode]string{}, noAtime: unix.O_NOATIME}
	err := h.all(w)
	close(w.stop)
	for b := range w.queue { // until the walker has ended
		<-b.ready
		b.release()
	}
	workers.Wait()
	return wrapPath(root, err)
}

// More readers than processors: where the files are not in memory, each waits
// for the disk.
const (
	readers      = 8
	batches      = 2 * readers
	batchEntries = 256      // in a batch
	batchFolders = 16       // that a batch keeps open
	inlineSize   = 16 << 10 // larger files are read as they are handed on
)

// batch is a run of entries with the content of the small files.
type batch struct {
	items   []item
	data    []byte
	folders []*folder
	err     error // of what comes behind the items
	ready   chan struct{}
}

type item struct {
	Entry
	name    string // in the folder
	in      *folder
	typ     byte // as of dirent
	id      inode
	linked  bool // it has other names
	sparse  bool // it has fewer blocks than bytes
	at, end int  // of its content in data
	err     error
}

// folder is open as long as anything refers to it.
type folder struct {
	fd   int
	refs atomic.Int32
}

func (d *folder) release() {
	if d.refs.Add(-1) == 0 {
		_ = unix.Close(d.fd)
	}
}

func (b *batch) release() {
	for _, d := range b.folders {
		d.release()
	}
	b.folders = b.folders[:0]
}

// inode is what the names of one file share.
type inode struct{ dev, ino uint64 }

// hander passes entries on, in order.
type hander struct {
	f       func(e *Entry, body io.Reader) error
	seen    map[inode]string
	noAtime int
	small   memory
}

func (h *hander) all(w *walker) error {
	for b := range w.queue {
		<-b.ready
		err := h.batch(b)
		b.release()
		if err != nil {
			return err
		}
		w.free <- b
	}
	return nil
}

func (h *hander) batch(b *batch) error {
	for i := range b.items {
		it := &b.items[i]
		if it.err != nil {
			return &pathError{it.Path, it.err}
		}
		if it.linked {
			h.link(it)
		}
		if err := h.item(b, it); err != nil {
			return err
		}
	}
	return b.err
}

func (h *hander) item(b *batch, it *item) error {
	switch {
	case !it.IsRegular():
		return h.f(&it.Entry, nil)
	case it.Size <= inlineSize:
		h.small.rest = b.data[it.at:it.end]
		return h.f(&it.Entry, &h.small)
	}
	fd, err := openFile(it.in.fd, it.name, &h.noAtime)
	if err != nil {
		return &pathError{it.Path, err}
	}
	err = h.f(&it.Entry, newFileBody(fd, it))
	if closed := unix.Close(fd); err == nil && closed != nil {
		err = &pathError{it.Path, closed}
	}
	return err
}

// link turns a file that was handed on under another name into a hard link.
func (h *hander) link(it *item) {
	if first, ok := h.seen[it.id]; ok {
		it.HardLink, it.Size, it.Xattrs, it.Symlink = first, 0, nil, ""
		return
	}
	h.seen[it.id] = it.Path
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
func newFileBody(fd int, it *item) io.Reader {
	b := fileBody{fd: fd, size: it.Size, dataEnd: it.Size}
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
