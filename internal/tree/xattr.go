package tree

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// xattrReader reads extended attributes. Its buffers are as large as the
// kernel's limits (XATTR_LIST_MAX, XATTR_SIZE_MAX; xattr(7)).
type xattrReader struct{ list, value []byte }

func newXattrReader() *xattrReader {
	return &xattrReader{make([]byte, 64<<10), make([]byte, 64<<10)}
}

// ofOpen gives all attributes of an open file; nil without any.
func (x *xattrReader) ofOpen(fd int) (map[string][]byte, error) {
	n, err := unix.Flistxattr(fd, x.list)
	if n == 0 && err == nil {
		return nil, nil
	}
	return x.read(n, err, func(name string) (int, error) { return unix.Fgetxattr(fd, name, x.value) })
}

// ofNamed gives those of a file that is not opened; a link's are its own.
func (x *xattrReader) ofNamed(dir int, name string) (map[string][]byte, error) {
	return x.ofPath("/proc/self/fd/" + strconv.Itoa(dir) + "/" + name)
}

func (x *xattrReader) ofPath(path string) (map[string][]byte, error) {
	n, err := unix.Llistxattr(path, x.list)
	return x.read(n, err, func(name string) (int, error) { return unix.Lgetxattr(path, name, x.value) })
}

// read reads what list has n bytes of names of.
func (x *xattrReader) read(n int, err error, get func(name string) (int, error)) (map[string][]byte, error) {
	if errors.Is(err, unix.ENOTSUP) || n == 0 && err == nil {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing extended attributes: %w", err)
	}
	out := map[string][]byte{}
	for name := range strings.SplitSeq(strings.TrimRight(string(x.list[:n]), "\x00"), "\x00") {
		n, err := get(name)
		if err != nil {
			return nil, fmt.Errorf("reading extended attribute %s: %w", name, err)
		}
		out[name] = append([]byte{}, x.value[:n]...)
	}
	return out, nil
}
