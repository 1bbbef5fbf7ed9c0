package remote

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/pkg/sftp"
	"golang.org/x/sys/unix"
)

const (
	// packet is the data of one write request: what every server takes (SFTP
	// 3, section 3).
	packet = 32 << 10
	// window is how many write requests are on their way. 4 MiB are twice
	// OpenSSH's channel window, which therefore never runs dry.
	window = 128
	// step is how often progress is told.
	step = 1 << 20
)

// upload fills the part file: from where an earlier run got to, or from
// nothing.
func (s *Session) upload(t *transfer, anew bool) error {
	client := s.conn.sftp
	kept := int64(0)
	info, err := client.Lstat(t.part)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("looking for part file %q: %w", t.part, err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("part file %q on the host is not a file (%v)", t.part, info.Mode())
	case !anew && info.Size() <= t.size:
		kept = info.Size()
	}
	flags := os.O_WRONLY | os.O_CREATE
	if kept == 0 {
		flags |= os.O_TRUNC
	}
	f, err := client.OpenFile(t.part, flags)
	if err != nil {
		return s.refused("making part file", t.part, err)
	}
	if err := t.fill(f, kept); err != nil {
		_ = f.Close() // the first error tells more
		return s.refused("writing", t.part, err)
	}
	if err := s.finish(f, t.size); err != nil {
		_ = f.Close()
		return s.refused("finishing", t.part, err)
	}
	if err := f.Close(); err != nil {
		return s.refused("closing", t.part, err)
	}
	return nil
}

// finish sets what data alone does not: the length, for a file that ends in a
// hole, the mode, and that all of it is on the disk.
func (s *Session) finish(f *sftp.File, size int64) error {
	if err := f.Truncate(size); err != nil {
		return fmt.Errorf("setting its size to %d: %w", size, err)
	}
	// A server that keeps modes to itself refuses this; the file is as good.
	if err := f.Chmod(0o644); err != nil && broken(err) {
		return err
	}
	if _, ok := s.conn.sftp.HasExtension(extFsync); ok {
		if err := f.Sync(); err != nil {
			return fmt.Errorf("flushing it to the disk: %w", err)
		}
	}
	return nil
}

// fill sends the data extents of the local file, from as far as the part
// file, of length kept, certainly has them. Holes are left out: nothing else
// has ever been there in the part file.
func (t *transfer) fill(f *sftp.File, kept int64) error {
	start, err := certain(t.local, t.size, kept)
	if err != nil {
		return err
	}
	if t.result.Sent == 0 {
		t.result.Resumed = start
	}
	t.acked = start
	t.progress(start, t.size)
	if err := t.pump(f, start); err != nil {
		return err
	}
	t.acked = t.size
	t.progress(t.size, t.size)
	return nil
}

// request is one piece on its way.
type request struct {
	at, end int64
	done    chan error
}

// pump sends what lies from start on, window requests at a time: the next
// one goes when the one window before it is answered.
func (t *transfer) pump(f *sftp.File, start int64) error {
	var onWay []request
	defer func() {
		for _, r := range onWay { // they hold buffers
			<-r.done
		}
	}()
	buffers := make([]byte, window*packet)
	pieces := pieces{file: t.local, size: t.size, pos: start}
	for i := 0; ; i++ {
		at, n, err := pieces.next()
		if err != nil {
			return err
		}
		for len(onWay) == window || n == 0 && len(onWay) > 0 {
			r := onWay[0]
			onWay = onWay[1:]
			if err := t.settle(r); err != nil {
				return err
			}
		}
		if n == 0 {
			return nil
		}
		b := buffers[i%window*packet:][:n]
		if _, err := t.local.ReadAt(b, at); err != nil {
			return &localError{fmt.Errorf("reading it at %d: %w", at, err)}
		}
		r := request{at, at + int64(n), make(chan error, 1)}
		onWay = append(onWay, r)
		go func() {
			_, err := f.WriteAt(b, at)
			r.done <- err
		}()
	}
}

// settle waits for the answer to the oldest request.
func (t *transfer) settle(r request) error {
	if err := <-r.done; err != nil {
		return err
	}
	if r.end/step > t.acked/step {
		t.progress(r.end, t.size)
	}
	t.acked = r.end
	t.result.Sent += r.end - r.at
	return nil
}

// certain gives an offset before which a part file of length kept has all
// pieces, sure as far as the host's kernel is: the last piece that shows in it
// went out when the one window before had been answered.
func certain(local *os.File, size, kept int64) (int64, error) {
	var last [window]int64
	pieces := pieces{file: local, size: size}
	for i := 0; ; i++ {
		at, n, err := pieces.next()
		if err != nil {
			return 0, err
		}
		if n == 0 || at >= kept {
			if i < window {
				return 0, nil
			}
			return last[i%window], nil
		}
		last[i%window] = at
	}
}

// pieces walks over the data extents of a file, a packet at most at a time.
type pieces struct {
	file     *os.File
	size     int64
	pos, end int64 // in the extent that is being cut up
}

// next gives offset and length of a piece; no length at the end of the file.
func (p *pieces) next() (at int64, n int, err error) {
	if p.pos >= p.end {
		if p.pos, p.end, err = p.extent(); err != nil {
			return 0, 0, &localError{fmt.Errorf("looking for data after %d: %w", p.pos, err)}
		}
	}
	at = p.pos
	n = int(min(packet, p.end-p.pos))
	p.pos += int64(n)
	return at, n, nil
}

// extent gives the bounds of the data at pos or next after it: lseek(2),
// SEEK_DATA. A file system that knows no holes shows one extent.
func (p *pieces) extent() (start, end int64, err error) {
	if p.pos >= p.size {
		return p.size, p.size, nil
	}
	fd := int(p.file.Fd())
	start, err = unix.Seek(fd, p.pos, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return p.size, p.size, nil
	}
	if err != nil {
		return p.pos, 0, err
	}
	end, err = unix.Seek(fd, start, unix.SEEK_HOLE)
	return start, min(end, p.size), err
}

// refused names what was done to which file, and a full disk, which servers
// report as "failure" and nothing more.
func (s *Session) refused(doing, name string, err error) error {
	var status *sftp.StatusError
	if errors.As(err, &status) {
		if vfs, e := s.conn.sftp.StatVFS(s.folder); e == nil && vfs.Bavail*vfs.Frsize < window*packet {
			err = fmt.Errorf("%w\nhint: the host's file system of %q has only %d bytes free", err, s.folder, vfs.Bavail*vfs.Frsize)
		}
	}
	return fmt.Errorf("%s %q: %w", doing, name, err)
}
