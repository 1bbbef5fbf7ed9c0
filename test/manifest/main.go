// Manifest prints what a file tree holds, one line per file, so that two trees
// can be compared with diff(1): here, and in a machine whose kernel has mounted
// what was written from the tree.
//
//	manifest [-expect] DIR
//	manifest -owners DIR
//
// A line has, separated by tabs: path below DIR (quoted as Go does), type, mode
// in octal, owner, and, where the type has it: time of modification with
// nanoseconds, number of links, first path of the same file, size in bytes,
// digest of the content, target, device number, extended attributes (in
// hexadecimal; of long values the digest). Lines are in the order of a walk,
// names sorted by bytes.
//
// With -expect, numbers of links are counted in DIR instead of believed: the
// source of a tree may have links outside of it, or a file system that counts
// no folders.
//
// With -owners, the lines are instead: uid, files it owns on DIR's file system,
// and bytes of disk that stat(2) says they take.
//
// Not printed: sizes of folders, which are the file system's own matter, times
// of access and change, and where a file has holes.
package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// longest is how many bytes of an attribute are shown as they are.
const longest = 64

func main() {
	expect := flag.Bool("expect", false, "count links instead of believing the file system")
	owners := flag.Bool("owners", false, "sum up what each owner has")
	flag.Parse()
	if flag.NArg() != 1 || *expect && *owners {
		fmt.Fprintln(os.Stderr, "usage: manifest [-expect | -owners] DIR")
		os.Exit(2)
	}
	out := bufio.NewWriter(os.Stdout)
	m := manifest{root: flag.Arg(0), expect: *expect, out: out, first: map[file]string{}, links: map[file]uint64{}}
	run := m.run
	if *owners {
		run = m.owners
	}
	err := run()
	if flushErr := out.Flush(); err == nil {
		err = flushErr
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// file is what hard links share. A tree may span file systems.
type file struct{ dev, ino uint64 }

type manifest struct {
	root   string
	expect bool
	out    io.Writer
	first  map[file]string // of files with several links
	links  map[file]uint64 // of files that are no folders, with expect
}

func (m *manifest) run() error {
	if m.expect {
		err := m.walk(".", func(_ string, st *unix.Stat_t) error {
			m.links[file{uint64(st.Dev), st.Ino}]++
			return nil
		})
		if err != nil {
			return err
		}
	}
	return m.walk(".", m.line)
}

// owners prints the sums of each user.
func (m *manifest) owners() error {
	files, bytes := map[uint32]int{}, map[uint32]int64{}
	seen := map[file]bool{}
	var root uint64
	err := m.walk(".", func(name string, st *unix.Stat_t) error {
		key := file{uint64(st.Dev), st.Ino}
		if name == "." {
			root = key.dev
		}
		if key.dev != root || seen[key] {
			return nil
		}
		seen[key] = true
		files[st.Uid]++
		bytes[st.Uid] += st.Blocks * 512
		return nil
	})
	for _, uid := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(m.out, "%d\t%d\t%d\n", uid, files[uid], bytes[uid])
	}
	return err
}

// walk calls each for name and everything below it, parents first.
func (m *manifest) walk(name string, each func(string, *unix.Stat_t) error) error {
	var st unix.Stat_t
	full := filepath.Join(m.root, name)
	if err := unix.Lstat(full, &st); err != nil {
		return fmt.Errorf("looking at %q: %w", full, err)
	}
	if err := each(name, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	names, err := list(full)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := m.walk(path.Join(name, n), each); err != nil {
			return err
		}
	}
	return nil
}

// list is a folder's names, sorted by bytes.
func list(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// types are names for the bits of S_IFMT (inode(7)).
var types = map[uint32]string{
	unix.S_IFREG: "file", unix.S_IFDIR: "dir", unix.S_IFLNK: "symlink", unix.S_IFIFO: "fifo",
	unix.S_IFSOCK: "socket", unix.S_IFCHR: "char", unix.S_IFBLK: "block",
}

// line prints one file.
func (m *manifest) line(name string, st *unix.Stat_t) error {
	full := filepath.Join(m.root, name)
	kind := st.Mode & unix.S_IFMT
	fields := []string{fmt.Sprintf("%q", name), types[kind], fmt.Sprintf("%04o", st.Mode&^unix.S_IFMT),
		fmt.Sprintf("%d:%d", st.Uid, st.Gid), fmt.Sprintf("mtime=%d.%09d", st.Mtim.Sec, st.Mtim.Nsec)}
	add := func(key, value string) { fields = append(fields, key+"="+value) }
	links, err := m.linksOf(full, st)
	if err != nil {
		return err
	}
	add("links", fmt.Sprint(links))
	if first := m.firstOf(name, links, st); first != name {
		add("same", fmt.Sprintf("%q", first))
	}
	switch kind {
	case unix.S_IFREG:
		digest, err := digestOf(full, st.Size)
		if err != nil {
			return err
		}
		add("size", fmt.Sprint(st.Size))
		add("content", digest)
	case unix.S_IFLNK:
		target, err := os.Readlink(full)
		if err != nil {
			return err
		}
		add("size", fmt.Sprint(st.Size))
		add("target", fmt.Sprintf("%q", target))
	case unix.S_IFCHR, unix.S_IFBLK:
		add("device", fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)))
	}
	attrs, err := xattrsOf(full)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(m.out, strings.Join(append(fields, attrs...), "\t"))
	return err
}

// linksOf is a file's number of links: of a folder, 2 and one per folder in it.
func (m *manifest) linksOf(full string, st *unix.Stat_t) (uint64, error) {
	if !m.expect {
		return uint64(st.Nlink), nil
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return m.links[file{uint64(st.Dev), st.Ino}], nil
	}
	entries, err := os.ReadDir(full)
	n := uint64(2)
	for _, e := range entries {
		if e.IsDir() {
			n++
		}
	}
	return n, err
}

// firstOf is the first name of a file in the walk.
func (m *manifest) firstOf(name string, links uint64, st *unix.Stat_t) string {
	if links < 2 || st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return name
	}
	key := file{uint64(st.Dev), st.Ino}
	if _, seen := m.first[key]; !seen {
		m.first[key] = name
	}
	return m.first[key]
}

// block is the unit of digests.
const block = 4096

// digestOf is the SHA-256 of a file's blocks that are not zero, each after its
// offset: equal for equal contents, wherever the holes are, and soon done for a
// large file of holes.
func digestOf(full string, size int64) (string, error) {
	h := sha256.New()
	if size == 0 { // in a large folder of such files, opening them is most of the work
		return hex.EncodeToString(h.Sum(nil)), nil
	}
	f, err := os.Open(full)
	if err != nil {
		return "", err
	}
	defer f.Close()
	for at := int64(0); at < size; {
		data, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if err == unix.ENXIO { // nothing but a hole follows
			break
		} else if err != nil {
			return "", fmt.Errorf("looking for data in %q: %w", full, err)
		}
		if at, err = unix.Seek(int(f.Fd()), data, unix.SEEK_HOLE); err != nil {
			return "", fmt.Errorf("looking for holes in %q: %w", full, err)
		}
		data -= data % block
		if err := hashBlocks(h, io.NewSectionReader(f, data, at-data), data); err != nil {
			return "", fmt.Errorf("reading %q: %w", full, err)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// hashBlocks takes r, whose first byte is at offset at of a file.
func hashBlocks(h io.Writer, r io.Reader, at int64) error {
	var zero, buf [block]byte
	in := bufio.NewReaderSize(r, 1<<20)
	for ; ; at += block {
		n, err := io.ReadFull(in, buf[:])
		if n > 0 && !bytes.Equal(buf[:n], zero[:n]) {
			fmt.Fprintf(h, "%d ", at)
			h.Write(buf[:n])
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// xattrsOf is all extended attributes, ACLs and capabilities with them, sorted.
func xattrsOf(full string) ([]string, error) {
	names, err := grown(func(b []byte) (int, error) { return unix.Llistxattr(full, b) })
	if err == unix.ENOTSUP {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("listing the attributes of %q: %w", full, err)
	}
	var out []string
	for _, name := range strings.Split(string(names), "\x00") {
		if name == "" {
			continue
		}
		value, err := grown(func(b []byte) (int, error) { return unix.Lgetxattr(full, name, b) })
		if err != nil {
			return nil, fmt.Errorf("reading attribute %q of %q: %w", name, full, err)
		}
		text := hex.EncodeToString(value)
		if len(value) > longest {
			text = fmt.Sprintf("%d bytes, sha256 %x", len(value), sha256.Sum256(value))
		}
		out = append(out, fmt.Sprintf("%q=%s", name, text))
	}
	slices.Sort(out)
	return out, nil
}

// grown calls a function that fills a buffer, first to learn the size.
func grown(fill func([]byte) (int, error)) ([]byte, error) {
	n, err := fill(nil)
	if err != nil || n == 0 {
		return nil, err
	}
	b := make([]byte, n)
	n, err = fill(b)
	return b[:max(n, 0)], err
}
