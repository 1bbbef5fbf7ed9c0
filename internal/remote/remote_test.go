package remote

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// image is a local file to be sent.
type image struct {
	path   string
	size   int64
	digest string
}

// newImage makes a file of size bytes with data, random but the same each
// time, at the given extents (start, end), and holes elsewhere.
func newImage(t *testing.T, size int64, extents ...[2]int64) image {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	random := rand.NewChaCha8([32]byte{1})
	for _, e := range extents {
		if _, err := io.CopyN(io.NewOffsetWriter(f, e[0]), random, e[1]-e[0]); err != nil {
			t.Fatal(err)
		}
	}
	return image{f.Name(), size, fileDigest(t, f.Name())}
}

func fileDigest(t *testing.T, name string) string {
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

// partName is what a part of the image is called on the host.
func (i image) partName(folder, name string) string {
	return filepath.Join(folder, "."+name+".part-"+i.digest[:12])
}

// expect wants the image under name, with its mode, and nothing beside it.
func (i image) expect(t *testing.T, name string) {
	t.Helper()
	if got := fileDigest(t, name); got != i.digest {
		t.Errorf("%q on the host has digest %s, want %s", name, got, i.digest)
	}
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o644 {
		t.Errorf("%q has mode %v, want 0644", name, info.Mode())
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(name), ".*.part-*")); len(left) > 0 {
		t.Errorf("part files are left: %q", left)
	}
}

func (i image) put(t *testing.T, s *Session, name string) PutResult {
	t.Helper()
	last := int64(-1)
	got, err := s.Put(t.Context(), i.path, i.size, i.digest, name, func(done, total int64) {
		if total != i.size || done > total {
			t.Errorf("progress says %d of %d", done, total)
		}
		last = done
	})
	if err != nil {
		t.Fatal(err)
	}
	if last != i.size {
		t.Errorf("progress ended at %d, want %d", last, i.size)
	}
	return got
}

func TestPut(t *testing.T) {
	t.Parallel()
	host := newSSHD(t)
	s := host.dial(t)
	for _, name := range []string{"plain.raw", `it's "a" $(touch x) file`, "-rf", `Zü*?\'`} {
		img := newImage(t, 1<<20+17, [2]int64{0, 1<<20 + 17})
		got := img.put(t, s, name)
		want := PutResult{Path: filepath.Join(host.Target.Path, name), Sent: img.size}
		if got != want {
			t.Errorf("%q: got %+v, want %+v", name, got, want)
		}
		img.expect(t, want.Path)
		if s.noShell {
			t.Fatalf("%q: the digest was not computed on the host", name)
		}
	}
	again := newImage(t, 1<<20+17, [2]int64{0, 1<<20 + 17})
	if got := again.put(t, s, "plain.raw"); !got.AlreadyThere || got.Sent != 0 {
		t.Errorf("again: got %+v, want it there already", got)
	}
	replaced := newImage(t, 5, [2]int64{0, 5})
	replaced.put(t, s, "plain.raw")
	replaced.expect(t, filepath.Join(host.Target.Path, "plain.raw"))
	empty := newImage(t, 0)
	empty.put(t, s, "empty")
	empty.expect(t, filepath.Join(host.Target.Path, "empty"))
}

// Of a large disk with little on it little is sent and little stored.
func TestPutSparse(t *testing.T) {
	t.Parallel()
	host := newSSHD(t)
	const size, data = 1 << 30, 4 << 10
	img := newImage(t, size, [2]int64{1 << 20, 1<<20 + data}, [2]int64{600 << 20, 601 << 20})
	got := img.put(t, host.dial(t), "disk.raw")
	if want := int64(data + 1<<20); got.Sent != want {
		t.Errorf("sent %d bytes, want %d", got.Sent, want)
	}
	var st unix.Stat_t
	if err := unix.Stat(got.Path, &st); err != nil {
		t.Fatal(err)
	}
	if used := st.Blocks * 512; st.Size != size || used > 4<<20 {
		t.Errorf("on the host: %d bytes, %d used; want %d and about 1 MiB", st.Size, used, size)
	}
	// GNU cmp reads holes quickly, and it is not us.
	if out, err := exec.Command("cmp", img.path, got.Path).CombinedOutput(); err != nil {
		t.Errorf("cmp: %v: %s", err, out)
	}
}

// A connection that is cut is made again within one Put.
func TestPutReconnects(t *testing.T) {
	t.Parallel()
	host := newSSHD(t)
	img := newImage(t, 24<<20, [2]int64{0, 9 << 20}, [2]int64{12 << 20, 24 << 20})
	host.Cut <- 7 << 20
	host.Cut <- 9 << 20
	s := host.dial(t)
	got := img.put(t, s, "disk.raw")
	img.expect(t, got.Path)
	if got.Sent > 21<<20+2*window*packet {
		t.Errorf("sent %d bytes of %d: want less sent twice", got.Sent, 21<<20)
	}
	if n := host.logins.Load(); n != 4 {
		t.Errorf("%d logins, want 3 for SFTP and one for the digest", n)
	}
}

// A later run resumes what one left whose connection was lost for good.
func TestPutResumes(t *testing.T) {
	t.Parallel()
	host := newSSHD(t)
	img := newImage(t, 20<<20, [2]int64{0, 20 << 20})
	for range 4 {
		host.Cut <- 12 << 20
	}
	s := host.dial(t)
	s.pauses = nil
	_, err := s.Put(t.Context(), img.path, img.size, img.digest, "disk.raw", nil)
	wantError(t, err, "giving up after 1 attempts", "connection lost", "hint: the same command goes on from byte ")
	part := img.partName(host.Target.Path, "disk.raw")
	info, err := os.Stat(part)
	if err != nil || info.Size() < 8<<20 {
		t.Fatalf("the part file: %v, %v; want at least 8 MiB", info, err)
	}
	for len(host.Cut) > 0 {
		<-host.Cut
	}
	got := img.put(t, host.dial(t), "disk.raw")
	if want := info.Size() - window*packet; got.Resumed < want-packet || got.Resumed > want+packet {
		t.Errorf("went on from %d: want about %d", got.Resumed, want)
	}
	if got.Sent != img.size-got.Resumed {
		t.Errorf("sent %d from %d on", got.Sent, got.Resumed)
	}
	img.expect(t, got.Path)
}

// A sparse part that was cut is resumed, whatever its length says.
func TestPutResumesSparse(t *testing.T) {
	t.Parallel()
	host := newSSHD(t)
	img := newImage(t, 64<<20, [2]int64{0, 10 << 20}, [2]int64{40 << 20, 50 << 20})
	part := img.partName(host.Target.Path, "disk.raw")
	content, err := os.ReadFile(img.path)
	if err != nil {
		t.Fatal(err)
	}
	// As if the last window before 41 MiB had not arrived in order.
	if err := os.WriteFile(part, content[:41<<20], 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(part, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(make([]byte, 3<<20), 7<<20); err != nil {
		t.Fatal(err)
	}
	got := img.put(t, host.dial(t), "disk.raw")
	if want := int64(7 << 20); got.Resumed != want {
		t.Errorf("went on from %d, want %d", got.Resumed, want)
	}
	if want := int64(13 << 20); got.Sent != want {
		t.Errorf("sent %d bytes, want %d: nothing twice", got.Sent, want)
	}
	img.expect(t, got.Path)
}

// Bytes that went wrong in a part, begun or complete, are found and sent again.
func TestPutSendsSpoiltPartAgain(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		lines string
		kept  int
	}{{"", 6 << 20}, {"ForceCommand internal-sftp", 5 << 20}} {
		host := newSSHD(t, tt.lines)
		img := newImage(t, 6<<20, [2]int64{0, 6 << 20})
		content, err := os.ReadFile(img.path)
		if err != nil {
			t.Fatal(err)
		}
		content[100] ^= 1
		if err := os.WriteFile(img.partName(host.Target.Path, "disk.raw"), content[:tt.kept], 0o600); err != nil {
			t.Fatal(err)
		}
		s := host.dial(t)
		got := img.put(t, s, "disk.raw")
		if got.Sent < img.size+window*packet {
			t.Errorf("sent %d bytes: want the end and then all", got.Sent)
		}
		if s.noShell != (tt.lines != "") {
			t.Errorf("read back: %v", s.noShell)
		}
		img.expect(t, got.Path)
	}
}

func TestPutWithoutShell(t *testing.T) {
	t.Parallel()
	host := newSSHD(t, "ForceCommand internal-sftp")
	s := host.dial(t)
	img := newImage(t, 5<<20, [2]int64{0, 1 << 20})
	got := img.put(t, s, "it's a.raw")
	img.expect(t, got.Path)
	if got = img.put(t, s, "it's a.raw"); !got.AlreadyThere {
		t.Errorf("again: got %+v, want it there already", got)
	}
	if n := host.logins.Load(); n != 2 {
		t.Errorf("%d logins, want one for SFTP and one that tries the shell", n)
	}
}

// A server that cannot replace a file at once keeps the old one.
func TestPutWithoutPosixRename(t *testing.T) {
	t.Parallel()
	host := newSSHD(t, "ForceCommand internal-sftp -P posix-rename")
	s := host.dial(t)
	if _, ok := s.conn.sftp.HasExtension(extPosixRename); ok {
		t.Fatal("the server has posix-rename after all")
	}
	img := newImage(t, 1<<20, [2]int64{0, 1 << 20})
	got := img.put(t, s, "a.raw")
	img.expect(t, got.Path)
	old := filepath.Join(host.Target.Path, "b.raw")
	if err := os.WriteFile(old, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := s.Put(t.Context(), img.path, img.size, img.digest, "b.raw", nil)
	wantError(t, err, "another file", "hint: remove it")
	if b, err := os.ReadFile(old); err != nil || !bytes.Equal(b, []byte("old")) {
		t.Errorf("the old file: %q, %v", b, err)
	}
}
