package repack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kldload/kldload/diskimage"
	"github.com/kldload/kldload/internal/gpt"
	"github.com/kldload/kldload/internal/ui"
)

const mib = 1 << 20

// epoch is when the disks of the tests were made.
var epoch = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// run runs a judge or a maker of disks, which must be there.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// layout is a disk to make: each part is a file that is put into its partition.
type layout struct {
	part gpt.Partition
	file string
}

// makeDisk puts parts into a GPT one after another.
func makeDisk(t testing.TB, size int64, parts []layout) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.raw")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table := gpt.Table{DiskGUID: guid(0xdd), Size: size, Align: 512}
	at := int64(mib)
	for i, l := range parts {
		p := l.part
		p.Start, p.GUID = at, guid(byte(i+1))
		at += (p.Size + mib - 1) / mib * mib
		table.Partitions = append(table.Partitions, p)
	}
	if err := errorsOf(f.Truncate(size), gpt.Write(f, table)); err != nil {
		t.Fatal(err)
	}
	for i, l := range parts {
		if l.file == "" {
			continue
		}
		content, err := os.Open(l.file)
		if err != nil {
			t.Fatal(err)
		}
		copySparse(t, f, table.Partitions[i].Start, content)
		content.Close()
	}
	return path
}

func errorsOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func copySparse(t testing.TB, to *os.File, at int64, from io.Reader) {
	t.Helper()
	b, zero := make([]byte, mib), make([]byte, mib)
	for {
		n, err := io.ReadFull(from, b)
		if !bytes.Equal(b[:n], zero[:n]) {
			if _, err := to.WriteAt(b[:n], at); err != nil {
				t.Fatal(err)
			}
		}
		at += int64(n)
		if err != nil {
			return
		}
	}
}

func guid(n byte) gpt.GUID {
	g, err := gpt.ParseGUID(fmt.Sprintf("6B3C8E%02X-1111-4222-8333-444455556666", n))
	if err != nil {
		panic(err)
	}
	return g
}

// repackFile re-packs a raw disk into a new file.
func repackFile(t testing.TB, in string, opts Options) (string, *Report, error) {
	t.Helper()
	src, err := os.Open(in)
	if err != nil {
		t.Fatal(err)
	}
	disk, err := diskimage.OpenRaw(src)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	out, err := os.Create(filepath.Join(t.TempDir(), "new.raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	opts.UI = ui.New(io.Discard, ui.Plain)
	r, err := Disk(context.Background(), disk, out, opts)
	return out.Name(), r, err
}

func mustRepack(t testing.TB, in string) (string, *Report) {
	t.Helper()
	before := digest(t, in)
	out, r, err := repackFile(t, in, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if digest(t, in) != before {
		t.Fatal("the input was changed")
	}
	return out, r
}

func digest(t testing.TB, name string) string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// partition copies one partition of a disk into a file of its own.
func partition(t testing.TB, disk string, number int) string {
	t.Helper()
	f, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, _ := f.Stat()
	table, err := gpt.Read(f, st.Size())
	if err != nil {
		t.Fatal(err)
	}
	p := table.Partitions[number-1]
	out, err := os.Create(filepath.Join(t.TempDir(), "part"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := out.Truncate(p.Size); err != nil {
		t.Fatal(err)
	}
	copySparse(t, out, 0, io.NewSectionReader(f, p.Start, p.Size))
	return out.Name()
}

// holds tells whether a text is anywhere in a file.
func holds(t testing.TB, name, text string) bool {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, mib+len(text))
	for kept := 0; ; {
		n, err := io.ReadFull(f, b[kept:])
		if bytes.Contains(b[:kept+n], []byte(text)) {
			return true
		}
		if err != nil {
			return false
		}
		kept = copy(b, b[kept+n-len(text):kept+n])
	}
}

// mount mounts a file system by loop; the kernel is the judge.
func mount(t testing.TB, image, options string) string {
	t.Helper()
	dir := t.TempDir()
	run(t, "mount", "-o", "loop,"+options, image, dir)
	t.Cleanup(func() { _ = exec.Command("umount", dir).Run() })
	return dir
}

// manifest tells all of a mounted tree, by name.
func manifest(t testing.TB, dir string) map[string]string {
	t.Helper()
	all, inodes := map[string]string{}, map[uint64]string{}
	err := filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, name)
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil {
			return err
		}
		text := fmt.Sprintf("%o %d:%d %d m%d.%d c%d.%d dev%d", st.Mode, st.Uid, st.Gid, st.Nlink, st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec, st.Rdev)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			text += fmt.Sprintf(" %d %s", st.Size, digest(t, name))
			if st.Nlink > 1 {
				if inodes[st.Ino] == "" {
					inodes[st.Ino] = rel
				}
				text += " =" + inodes[st.Ino]
			}
		case unix.S_IFLNK:
			to, err := os.Readlink(name)
			if err != nil {
				return err
			}
			text += " " + to
		}
		all[rel] = text + xattrsOf(t, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func xattrsOf(t testing.TB, name string) (text string) {
	t.Helper()
	b := make([]byte, 64<<10)
	n, err := unix.Llistxattr(name, b)
	if err == syscall.ENOTSUP || err == syscall.EPERM {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	names := strings.Split(strings.TrimSuffix(string(b[:n]), "\x00"), "\x00")
	slices.Sort(names)
	for _, x := range names {
		if x == "" {
			continue
		}
		v := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(name, x, v)
		if err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf(" %s=%x", x, v[:n])
	}
	return text
}

// put writes a file, and its folders.
func put(t testing.TB, dir, name, content string, mode os.FileMode) {
	t.Helper()
	at := filepath.Join(dir, name)
	if err := errorsOf(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte(content), mode)); err != nil {
		t.Fatal(err)
	}
}
