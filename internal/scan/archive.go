package scan

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// maxMembers bounds an archive's list.
const maxMembers = 1 << 20

func walkTar(u *unit, r io.Reader) error {
	t := tar.NewReader(r)
	for range maxMembers {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if err := u.member("tar "+clean(h.Name), h.Name, t); err != nil {
			return err
		}
	}
	return fmt.Errorf("it has more than %d members", maxMembers)
}

// walkZip needs the end first: what is not in memory goes to a file without a
// name.
func walkZip(u *unit, r io.Reader) error {
	at, size, done, err := readerAt(r)
	if err != nil {
		return err
	}
	defer done()
	z, err := zip.NewReader(at, size)
	if err != nil {
		return err
	}
	for _, f := range z.File {
		if f.Flags&1 != 0 {
			u.note(fmt.Sprintf("not looked into: zip member %q is encrypted", clean(f.Name)))
			continue
		}
		if f.FileInfo().IsDir() {
			continue
		}
		m, err := f.Open()
		if err != nil {
			u.note(fmt.Sprintf("not looked into: zip member %q: %v", clean(f.Name), err))
			continue
		}
		err = u.member("zip "+clean(f.Name), f.Name, m)
		_ = m.Close()
		if errors.Is(err, zip.ErrChecksum) || errors.Is(err, zip.ErrFormat) {
			u.note(fmt.Sprintf("zip member %q is damaged: %v", clean(f.Name), err))
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readerAt gives random access to a stream: in memory, or through a temporary
// file that is unlinked at once.
func readerAt(r io.Reader) (io.ReaderAt, int64, func(), error) {
	if b, ok := r.(*bytes.Reader); ok {
		return b, b.Size(), func() {}, nil
	}
	f, err := os.CreateTemp("", "kldload-scan-")
	if err != nil {
		return nil, 0, nil, err
	}
	done := func() { _ = f.Close() }
	n, err := io.Copy(f, r)
	if err = errors.Join(os.Remove(f.Name()), err); err != nil {
		done()
		return nil, 0, nil, err
	}
	return f, n, done, nil
}

// walkAr reads Debian packages and static libraries (ar(5)).
func walkAr(u *unit, r io.Reader) error {
	br := bufio.NewReader(r)
	if _, err := br.Discard(8); err != nil {
		return err
	}
	var h [60]byte
	for range maxMembers {
		if _, err := io.ReadFull(br, h[:]); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		size, err := strconv.ParseInt(strings.TrimSpace(string(h[48:58])), 10, 64)
		if err != nil || size < 0 || string(h[58:]) != "`\n" {
			return errors.New("a member's header is damaged")
		}
		name := strings.TrimRight(strings.TrimSpace(string(h[:16])), "/")
		body := io.LimitReader(br, size)
		if err := u.member("ar "+clean(name), name, body); err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, body); err != nil {
			return err
		}
		if size%2 == 1 {
			_, _ = br.Discard(1) // the last may lack it
		}
	}
	return fmt.Errorf("it has more than %d members", maxMembers)
}

// walkCPIO reads the "newc" archives of an initramfs, one behind another, and
// what follows them: the kernel's documentation, early-userspace/buffer-format.
func walkCPIO(u *unit, r io.Reader) error {
	br := bufio.NewReaderSize(r, 64<<10)
	for range maxMembers {
		name, size, err := cpioHeader(br)
		if err != nil {
			return err
		}
		if name == "TRAILER!!!" {
			if more, err := cpioNext(u, br); err != nil || !more {
				return err
			}
			continue
		}
		body := io.LimitReader(br, size)
		if size > 0 {
			if err := u.member("cpio "+clean(name), name, body); err != nil {
				return err
			}
		}
		if _, err := io.Copy(io.Discard, body); err != nil {
			return err
		}
		if _, err := br.Discard(int(-size & 3)); err != nil {
			return err
		}
	}
	return fmt.Errorf("it has more than %d members", maxMembers)
}

// cpioHeader reads a header of 110 bytes and the name, padded to 4.
func cpioHeader(br *bufio.Reader) (name string, size int64, err error) {
	var h [110]byte
	if _, err := io.ReadFull(br, h[:]); err != nil {
		return "", 0, err
	}
	if m := string(h[:6]); m != "070701" && m != "070702" {
		return "", 0, errors.New("a member's header is damaged")
	}
	size, err = strconv.ParseInt(string(h[54:62]), 16, 64)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseInt(string(h[94:102]), 16, 32)
	if err != nil || n < 1 || n > 4096 {
		return "", 0, errors.New("a member's name is longer than 4096 bytes")
	}
	b := make([]byte, n+(-(110+n))&3)
	if _, err := io.ReadFull(br, b); err != nil {
		return "", 0, err
	}
	return string(bytes.TrimRight(b[:n], "\x00")), size, nil
}

// cpioNext skips the zeros behind a trailer. more says that another archive
// follows; anything else is looked at as what it is.
func cpioNext(u *unit, br *bufio.Reader) (more bool, err error) {
	for {
		c, err := br.ReadByte()
		if err == io.EOF {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if c != 0 {
			if err := br.UnreadByte(); err != nil {
				return false, err
			}
			break
		}
	}
	if m, _ := br.Peek(6); string(m) == "070701" || string(m) == "070702" {
		return true, nil
	}
	return false, u.member("after cpio", u.path, br)
}
