package tree

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var epoch = time.Unix(1700000000, 0)

// makeTree fills dir with every kind of file.
func makeTree(t *testing.T, dir string) {
	t.Helper()
	script := `set -e
mkdir -p etc usr/bin "a dir/with spaces"
echo hello > etc/hello; chmod 640 etc/hello; chown 7:8 etc/hello
ln etc/hello usr/bin/hard; ln -s ../etc/hello usr/bin/soft
echo x > usr/bin/suid; chmod 4755 usr/bin/suid
echo y > usr/bin/cap; setcap cap_net_raw+ep usr/bin/cap
setfacl -m u:12:rwx etc; setfacl -d -m g:13:rx etc
setfattr -n user.note -v hi usr/bin/cap
mkfifo etc/fifo; mknod etc/null c 1 3; mknod etc/blk b 259 70000
touch -d '2001-01-01T00:00:00Z' etc/hello; touch -h -d '2002-01-01T00:00:00Z' usr/bin/soft
chmod 1777 "a dir"; touch "$(printf 'n%.0s' $(seq 250))"; touch 'ünïcode'`
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("making a tree (as root, with acl, attr and libcap2-bin): %v\n%s", err, out)
	}
}

// listing is GNU find's and getfattr's word on a tree.
func listing(t *testing.T, dir string) string {
	t.Helper()
	cmd := exec.Command("sh", "-c", `find . -mindepth 1 -printf '%p %M %U %G %n %s %T@ %l\n' | sed -E 's/^(.* d[^ ]+ [0-9]+ [0-9]+ [0-9]+) [0-9]+/\1/' | LC_ALL=C sort; getfattr -Rhdm- -e hex . 2>/dev/null | LC_ALL=C sort; find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum; stat -c '%n %t %T' etc/null etc/blk`)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("listing: %v\n%s", err, out)
	}
	return string(out)
}

func TestRoundTripIsExact(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	makeTree(t, src)
	var stream bytes.Buffer
	packed, err := Pack(src, &stream, PackOptions{Epoch: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	unpacked, err := Unpack(bytes.NewReader(stream.Bytes()), dst)
	if err != nil {
		t.Fatal(err)
	}
	if packed != unpacked {
		t.Errorf("packed %+v, unpacked %+v", packed, unpacked)
	}
	// whole seconds are what the stream keeps
	var again bytes.Buffer
	if _, err := Pack(dst, &again, PackOptions{Epoch: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(stream.Bytes(), again.Bytes()) {
		t.Error("packing the copy gives other bytes")
	}
	trim := func(s string) string { // drop the fractions of seconds
		var out []string
		for _, l := range strings.Split(s, "\n") {
			f := strings.Fields(l)
			for i := range f {
				if before, frac, ok := strings.Cut(f[i], "."); ok && len(frac) == 10 {
					f[i] = before
				}
			}
			out = append(out, strings.Join(f, " "))
		}
		return strings.Join(out, "\n")
	}
	if a, b := trim(listing(t, src)), trim(listing(t, dst)); a != b {
		t.Errorf("source:\n%s\ncopy:\n%s", a, b)
	}
}

func TestPackClampsAndGNUTarReadsIt(t *testing.T) {
	src := t.TempDir()
	makeTree(t, src)
	out := filepath.Join(t.TempDir(), "t.tar")
	f, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Pack(src, f, PackOptions{Epoch: epoch, EmptyDirs: []string{"a dir"}}); err != nil {
		t.Fatal(err)
	}
	f.Close()
	list, err := exec.Command("tar", "--xattrs", "--full-time", "--numeric-owner", "-tvf", out).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, list)
	}
	text := string(list)
	for _, want := range []string{"2001-01-01", "-rwsr-xr-x", "7/8", "link to etc/hello", "-> ../etc/hello"} {
		if !strings.Contains(text, want) {
			t.Errorf("GNU tar does not show %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "with spaces") {
		t.Error("EmptyDirs was packed")
	}
	err = Read(mustOpen(t, out), func(e *Entry, _ io.Reader) error {
		if e.ModTime.After(epoch) {
			t.Errorf("%s is of %v", e.Path, e.ModTime)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func mustOpen(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestUnpackRefusesToLeaveTheTree(t *testing.T) {
	outside := t.TempDir()
	for name, headers := range map[string][]tar.Header{
		"dotdot":   {{Name: "../x", Typeflag: tar.TypeReg}},
		"absolute": {{Name: "/x", Typeflag: tar.TypeReg}},
		"link":     {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: outside}, {Name: "l/x", Typeflag: tar.TypeReg}},
		"hardlink": {{Name: "l", Typeflag: tar.TypeLink, Linkname: "../../etc/passwd"}},
	} {
		var b bytes.Buffer
		tw := tar.NewWriter(&b)
		for _, h := range headers {
			h.ModTime = epoch
			if err := tw.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
		}
		tw.Close()
		if _, err := Unpack(&b, t.TempDir()); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if left, _ := os.ReadDir(outside); len(left) > 0 {
		t.Errorf("written outside: %v", left)
	}
}

func TestUnpackTruncated(t *testing.T) {
	src := t.TempDir()
	makeTree(t, src)
	var b bytes.Buffer
	if _, err := Pack(src, &b, PackOptions{Epoch: epoch}); err != nil {
		t.Fatal(err)
	}
	_, err := Unpack(bytes.NewReader(b.Bytes()[:b.Len()/2]), t.TempDir())
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}

func FuzzRead(f *testing.F) {
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	_ = tw.WriteHeader(&tar.Header{Name: "a", Typeflag: tar.TypeReg, Size: 1, PAXRecords: map[string]string{xattrPrefix + "user.x": "y"}})
	_, _ = tw.Write([]byte("z"))
	tw.Close()
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		_ = Read(bytes.NewReader(data), func(e *Entry, body io.Reader) error {
			if e.Mode&unix.S_IFMT == 0 || strings.HasPrefix(e.Path, "/") {
				t.Errorf("bad entry %+v", e)
			}
			_, err := io.Copy(io.Discard, io.LimitReader(body, 1<<20))
			return err
		})
	})
}
