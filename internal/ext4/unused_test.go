package ext4

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// ranges puts numbers that follow each other together: 3-7.
type ranges struct {
	text        []string
	first, last int64
}

func (r *ranges) add(first, last int64) {
	if len(r.text) > 0 && first == r.last+1 {
		r.text = r.text[:len(r.text)-1]
		first = r.first
	}
	r.first, r.last = first, last
	r.text = append(r.text, fmt.Sprintf("%d-%d", first, last))
}

// dumped gives the ranges that dumpe2fs prints behind a word, of all groups.
func dumped(t *testing.T, image, word string) string {
	t.Helper()
	var all ranges
	for line := range strings.SplitSeq(run(t, "dumpe2fs", image), "\n") {
		list, ok := strings.CutPrefix(line, "  "+word+": ")
		if !ok {
			continue
		}
		for part := range strings.SplitSeq(list, ", ") {
			from, to, two := strings.Cut(part, "-")
			if !two {
				to = from
			}
			first, err := strconv.ParseInt(from, 10, 64)
			if part == "" {
				continue
			}
			last, err2 := strconv.ParseInt(to, 10, 64)
			if err != nil || err2 != nil {
				t.Fatalf("dumpe2fs: %q", line)
			}
			all.add(first, last)
		}
	}
	return strings.Join(all.text, " ")
}

// unusedAs gives what is free in dumpe2fs's terms.
func unusedAs(t *testing.T, f *FS) (blocks, inodes string) {
	t.Helper()
	var b, in ranges
	err := f.Unused(func(kind string, off, size int64) error {
		switch kind {
		case FreeSpace:
			b.add(off/f.blockSize, (off+size)/f.blockSize-1)
		case FreeInodes:
			for at := off; at < off+size; at += int64(f.inodeSize) {
				n := f.inodeAt(t, at)
				in.add(n, n)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(b.text, " "), strings.Join(in.text, " ")
}

func (f *FS) inodeAt(t *testing.T, at int64) int64 {
	for group := range f.groups {
		table, err := f.inodeTable(group)
		if err != nil {
			t.Fatal(err)
		}
		if n := (at - table*f.blockSize) / int64(f.inodeSize); at >= table*f.blockSize && n < int64(f.inodesPerGroup) {
			return group*int64(f.inodesPerGroup) + n + 1
		}
	}
	t.Fatalf("no inode at %d", at)
	return 0
}

func TestFreeAsDumpe2fs(t *testing.T) {
	images := map[string]string{"own": writeImage(t, testOptions(600<<20), fillSample(t))}
	for _, args := range []string{"-b 4096", "-b 1024", "-b 1024 -O ^flex_bg,^metadata_csum", "-O meta_bg,^resize_inode",
		"-O ^64bit -g 8192", "-b 2048 -I 128 -O ^sparse_super,^resize_inode,uninit_bg,^metadata_csum"} {
		images[args] = mke2fs(t, 300<<20, strings.Fields(args)...)
	}
	for name, image := range images {
		blocks, inodes := unusedAs(t, openImage(t, image))
		if diff := cmp.Diff(dumped(t, image, "Free blocks"), blocks); diff != "" {
			t.Errorf("%s: blocks (-dumpe2fs +here)\n%s", name, diff)
		}
		if diff := cmp.Diff(dumped(t, image, "Free inodes"), inodes); diff != "" {
			t.Errorf("%s: inodes (-dumpe2fs +here)\n%s", name, diff)
		}
	}
}

// found gives the kinds of space that a text is in, and is in no other.
func found(t *testing.T, image, text string, names ...string) string {
	t.Helper()
	f := openImage(t, image)
	b, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]bool{}
	look := func(kind string, off, size int64) error {
		if bytes.Contains(b[off:off+size], []byte(text)) {
			kinds[kind] = true
		}
		return nil
	}
	if err := f.Unused(look); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if err := f.Slack(name, look); err != nil {
			t.Fatal(err)
		}
	}
	var all []string
	for _, k := range []string{BootBlock, FreeSpace, FreeInodes, Journal, FileTail, Preallocated, DirSlack} {
		if kinds[k] {
			all = append(all, k)
		}
	}
	return strings.Join(all, ", ")
}

// What a kernel leaves behind of files that it deletes, cuts and extends.
func TestKernelLeavesBehind(t *testing.T) {
	image := mke2fs(t, 64<<20)
	dir, _, unmount := mountWritable(t, image)
	write := func(name, body string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write("deleted", strings.Repeat("content-of-deleted ", 1000))
	write("name-that-goes", "")
	write("stays", "")
	check(os.Symlink("target-of-link", filepath.Join(dir, "link")))
	file, err := os.Create(filepath.Join(dir, "allocated"))
	check(err)
	check(unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, 64<<10))
	check(file.Close())
	unix.Sync()
	for _, name := range []string{"deleted", "name-that-goes", "link"} {
		check(os.Remove(filepath.Join(dir, name)))
	}
	run(t, "mount", "-o", "remount,ro", dir) // done with the journal, whoever else sees the mount
	unmount()
	for text, want := range map[string]string{
		"content-of-deleted": FreeSpace,
		"name-that-goes":     Journal, // kernels since 5.13 wipe it in the directory
	} {
		if got := found(t, image, text, ".", "stays", "allocated"); got != want {
			t.Errorf("%q is in %q, want %q", text, got, want)
		}
	}
	if got := found(t, image, "target-of-link"); !strings.Contains(got, FreeInodes) && !strings.Contains(got, Journal) {
		t.Errorf("the target of the link is in %q", got)
	}
}

// e2fsprogs leave names where they were, as kernels before 5.13 do.
func TestNameLeftBehind(t *testing.T) {
	image := mke2fs(t, 64<<20)
	for _, cmd := range []string{"write /dev/null name-that-goes", "write /dev/null stays", "rm name-that-goes"} {
		run(t, "debugfs", "-w", "-R", cmd, image)
	}
	if got := found(t, image, "name-that-goes", "."); got != DirSlack {
		t.Errorf("the name is in %q, want %q", got, DirSlack)
	}
}

// Tails and blocks behind the end are found where debugfs says that they lie.
func TestSlackOfFile(t *testing.T) {
	image := mke2fs(t, 64<<20)
	body := filepath.Join(t.TempDir(), "body")
	if err := os.WriteFile(body, bytes.Repeat([]byte("12345678"), 1500), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, cmd := range []string{"write " + body + " file", "fallocate file 3 9", "fallocate file 1 1"} {
		run(t, "debugfs", "-w", "-R", cmd, image)
	}
	block := func(n int) int64 {
		words := strings.Fields(run(t, "debugfs", "-R", fmt.Sprint("bmap file ", n), image))
		for i, w := range words {
			if at, err := strconv.ParseInt(w, 10, 64); err == nil && i > 2 { // behind debugfs's version
				return at
			}
		}
		t.Fatalf("debugfs: %q", words)
		return 0
	}
	last, first := block(2), block(3)
	var got []string
	err := openImage(t, image).Slack("file", func(kind string, off, size int64) error {
		got = append(got, fmt.Sprintf("%s %d %d", kind, off, size))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{fmt.Sprintf("%s %d %d", FileTail, last*4096+12000-8192, 3*4096-12000),
		fmt.Sprintf("%s %d %d", Preallocated, first*4096, 7*4096)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
