package tree

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func archiveLines(t testing.TB, r io.Reader) []string {
	t.Helper()
	var lines []string
	err := ReadArchive(r, func(e *Entry, body io.Reader) error {
		if e.HardLink != "" {
			e.Mode, e.UID, e.GID = 0, 0, 0
			e.Xattrs = nil
		}
		if e.Mode&unix.S_IFMT == unix.S_IFLNK {
			e.Mode = unix.S_IFLNK
		}
		lines = append(lines, entryLine(t, e, body))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// TestArchivesOfTools reads what other programs wrote of one tree.
func TestArchivesOfTools(t *testing.T) {
	dir := t.TempDir()
	makeTree(t, dir)
	sh := func(script string) []byte {
		cmd := exec.Command("sh", "-c", script)
		cmd.Dir, cmd.Stderr = dir, os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", script, err)
		}
		return out
	}
	sh("truncate -s 3M etc/sparse; printf x | dd of=etc/sparse bs=1 seek=1500000 conv=notrunc 2>/dev/null; touch -d '2003-02-01 04:05:06.123456789' etc/sparse")
	var want []string
	err := Walk(dir, WalkOptions{}, func(e *Entry, body io.Reader) error {
		if e.HardLink != "" {
			e.Mode, e.UID, e.GID = 0, 0, 0
		}
		if e.Mode&unix.S_IFMT == unix.S_IFLNK {
			e.Mode = unix.S_IFLNK
		}
		want = append(want, entryLine(t, e, body))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	const gnu = "tar --sort=name --numeric-owner --format=pax --xattrs --xattrs-include='*' -cf - "
	for _, script := range []string{gnu + ".", gnu + "-S .", gnu + ". | gzip", gnu + ". | zstd -q", gnu + ". | bzip2"} {
		got := archiveLines(t, bytes.NewReader(sh(script)))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", script, diff)
		}
	}
	if got := archiveLines(t, bytes.NewReader(sh("tar --format=gnu -S -cf - etc/sparse"))); !strings.Contains(got[1], " 3145728 ") {
		t.Errorf("old GNU sparse file: %q", got)
	}
}

func makeTar(t testing.TB, headers ...*tar.Header) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, h.Size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func TestArchiveMakesParents(t *testing.T) {
	at := time.Unix(5, 0)
	b := makeTar(t,
		&tar.Header{Name: "./a/b/c", Typeflag: tar.TypeReg, Mode: 0o600, Size: 3, ModTime: at},
		&tar.Header{Name: "./a/", Typeflag: tar.TypeDir, Mode: 0o700, ModTime: at},
		&tar.Header{Name: ".", Typeflag: tar.TypeDir, Mode: 0o711, ModTime: at})
	var got []string
	if err := ReadArchive(b, func(e *Entry, _ io.Reader) error {
		got = append(got, e.Path+" "+strings.TrimPrefix(e.ModTime.UTC().Format(time.TimeOnly), "00:00:"))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a 00", "a/b 00", "a/b/c 05", "a 05", ". 05"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestArchiveTimesAndAttributes(t *testing.T) {
	b := makeTar(t, &tar.Header{
		Name: "f", Typeflag: tar.TypeReg, Format: tar.FormatPAX, ModTime: time.Unix(1, 2), AccessTime: time.Unix(3, 4), ChangeTime: time.Unix(5, 6),
		PAXRecords: map[string]string{
			"SCHILY.xattr.user.a": "x\x00y", "LIBARCHIVE.xattr.user.b%20c": "AAEC", "LIBARCHIVE.xattr.user.a": "AAEC",
			"SCHILY.acl.access": "user::rw-,user:bin:r--:2,group::---,mask::r--,other::---",
		},
	})
	var e Entry
	if err := ReadArchive(b, func(got *Entry, _ io.Reader) error { e = *got; return nil }); err != nil {
		t.Fatal(err)
	}
	if !e.ModTime.Equal(time.Unix(1, 2)) || !e.AccessTime.Equal(time.Unix(3, 4)) || !e.ChangeTime.Equal(time.Unix(5, 6)) {
		t.Errorf("times %v %v %v", e.ModTime, e.AccessTime, e.ChangeTime)
	}
	want := map[string][]byte{"user.a": []byte("x\x00y"), "user.b c": {0, 1, 2},
		"system.posix_acl_access": []byte("\x02\x00\x00\x00" + "\x01\x00\x06\x00\xff\xff\xff\xff" + "\x02\x00\x04\x00\x02\x00\x00\x00" +
			"\x04\x00\x00\x00\xff\xff\xff\xff" + "\x10\x00\x04\x00\xff\xff\xff\xff" + "\x20\x00\x00\x00\xff\xff\xff\xff")}
	if diff := cmp.Diff(want, e.Xattrs); diff != "" {
		t.Error(diff)
	}
}

func TestArchiveErrors(t *testing.T) {
	file := func(name string) *tar.Header { return &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o600} }
	link := func(name, to string) *tar.Header {
		return &tar.Header{Name: name, Linkname: to, Typeflag: tar.TypeLink}
	}
	for want, b := range map[string]io.Reader{
		`the name "/etc/x" is absolute`:      makeTar(t, file("/etc/x")),
		`the name "a/../b" leads out of`:     makeTar(t, file("a/../b")),
		`the name "../b" leads out of`:       makeTar(t, link("x", "../b")),
		"that name twice":                    makeTar(t, file("x"), file("./x")),
		`"x" is no directory in the archive`: makeTar(t, file("x"), file("x/y")),
		"packed with xz":                     strings.NewReader("\xfd7zXZ\x00" + strings.Repeat("x", 600)),
		"it is empty":                        strings.NewReader(""),
		"invalid tar header":                 strings.NewReader(strings.Repeat("x", 600)),
		"unexpected EOF":                     io.LimitReader(makeTar(t, file("abc"), &tar.Header{Name: "d", Size: 5000, Typeflag: tar.TypeReg}), 2000),
		"a name without its number": makeTar(t, &tar.Header{Name: "f", Typeflag: tar.TypeReg, Format: tar.FormatPAX,
			PAXRecords: map[string]string{"SCHILY.acl.access": "user:root:rwx"}}),
	} {
		err := ReadArchive(b, func(_ *Entry, body io.Reader) error {
			if body != nil {
				_, err := io.Copy(io.Discard, body)
				return err
			}
			return nil
		})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// FuzzReadArchive: no archive panics, and no name leads out.
func FuzzReadArchive(f *testing.F) {
	f.Add(makeTar(f, &tar.Header{Name: "a/b", Typeflag: tar.TypeReg, Size: 10}, &tar.Header{Name: "a/c", Linkname: "a/b", Typeflag: tar.TypeLink}).Bytes())
	f.Add(makeTar(f, &tar.Header{Name: "f", Typeflag: tar.TypeSymlink, Linkname: "x", Format: tar.FormatPAX,
		PAXRecords: map[string]string{"SCHILY.acl.default": "user::rw-,user:7:r--", "LIBARCHIVE.xattr.user.%41": "AAEC"}}).Bytes())
	f.Add([]byte("\x1f\x8b\x08"))
	f.Add([]byte("\x28\xb5\x2f\xfd"))
	f.Add([]byte("BZh9"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_ = ReadArchive(bytes.NewReader(data), func(e *Entry, body io.Reader) error {
			for _, name := range []string{e.Path, e.HardLink} {
				if strings.HasPrefix(name, "/") || name == ".." || strings.HasPrefix(name, "../") || strings.Contains(name, "/../") {
					t.Errorf("name %q", name)
				}
			}
			if body != nil {
				_, err := io.CopyN(io.Discard, body, 1<<20)
				return err
			}
			return nil
		})
	})
}
