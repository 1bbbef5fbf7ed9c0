package tree

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// walked is a line for each entry, with its content.
func walked(t testing.TB, dir string) []string {
	t.Helper()
	var lines []string
	err := Walk(dir, WalkOptions{}, func(e *Entry, body io.Reader) error {
		lines = append(lines, entryLine(t, e, body))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func entryLine(t testing.TB, e *Entry, body io.Reader) string {
	t.Helper()
	var content []byte
	if e.IsRegular() {
		var err error
		if content, err = io.ReadAll(body); err != nil {
			t.Fatal(err)
		}
		if int64(len(content)) != e.Size {
			t.Errorf("%s: %d bytes, its size is %d", e.Path, len(content), e.Size)
		}
	} else if body != nil {
		t.Errorf("%s has a body", e.Path)
	}
	return fmt.Sprintf("%s %o %d:%d %d %d:%d %q %q %d %v %.40q", e.Path, e.Mode, e.UID, e.GID, e.ModTime.UnixNano(), e.Major, e.Minor,
		e.Symlink, e.HardLink, e.Size, e.Xattrs, content)
}

func TestWalkGivesWhatPackGives(t *testing.T) {
	dir := t.TempDir()
	makeTree(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "etc/large"), bytes.Repeat([]byte("0123456789"), 50000), 0o600); err != nil {
		t.Fatal(err)
	}
	var stream bytes.Buffer
	if _, err := Pack(dir, &stream, PackOptions{Epoch: epoch.AddDate(100, 0, 0)}); err != nil {
		t.Fatal(err)
	}
	var packed []string
	err := Read(&stream, func(e *Entry, body io.Reader) error {
		if !e.IsRegular() {
			body = nil
		}
		if e.HardLink != "" {
			e.UID, e.GID, e.Mode = 0, 0, 0
		}
		e.ModTime = epoch
		packed = append(packed, entryLine(t, e, body))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	err = Walk(dir, WalkOptions{}, func(e *Entry, body io.Reader) error {
		if e.HardLink != "" {
			e.UID, e.GID, e.Mode = 0, 0, 0
		}
		e.ModTime = epoch
		got = append(got, entryLine(t, e, body))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(packed, got); diff != "" {
		t.Error(diff)
	}
}

func TestWalkKeepsNanosecondsAndSockets(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/d", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(dir+"/d/sock", unix.S_IFSOCK|0o640, 0); err != nil {
		t.Fatal(err)
	}
	ts := []unix.Timespec{{Sec: 5, Nsec: 6}, {Sec: 1000000001, Nsec: 123456789}}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, dir+"/d/sock", ts, 0); err != nil {
		t.Fatal(err)
	}
	lines := walked(t, dir)
	if want := "d/sock 140640 0:0 1000000001123456789"; len(lines) != 3 || !strings.HasPrefix(lines[2], want) {
		t.Errorf("got %q, want %s …", lines, want)
	}
}

// TestWalkSeesHoles reads a sparse file as the ZFS writer does.
func TestWalkSeesHoles(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(dir + "/sparse")
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 9<<20)
	copy(want[3<<20:], "in the middle")
	copy(want[5<<20:], bytes.Repeat([]byte{7}, 300000))
	for _, at := range []int{3 << 20, 5 << 20} {
		if _, err := f.WriteAt(want[at:at+300000], int64(at)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(f.Truncate(9<<20), f.Close()); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	skipped := int64(0)
	err = Walk(dir, WalkOptions{}, func(e *Entry, body io.Reader) error {
		if !e.IsRegular() {
			return nil
		}
		sparse := body.(interface{ SkipHole() (int64, error) })
		for buf := make([]byte, 1000); ; {
			hole, err := sparse.SkipHole()
			if err != nil {
				return err
			}
			skipped += hole
			got.Write(make([]byte, hole))
			n, err := body.Read(buf)
			got.Write(buf[:n])
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) || skipped < 7<<20 {
		t.Errorf("%d bytes, %d of them holes: want %d with at least 7 MiB of holes", got.Len(), skipped, len(want))
	}
}

func TestWalkErrors(t *testing.T) {
	if err := Walk("/nonexistent/x", WalkOptions{}, nil); err == nil || !strings.Contains(err.Error(), `"/nonexistent/x": no such file`) {
		t.Error(err)
	}
	dir := t.TempDir()
	for i := range 2000 {
		if err := os.WriteFile(fmt.Sprintf("%s/%04d", dir, i), bytes.Repeat([]byte{1}, 200000), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	stop := errors.New("stop")
	before := openFiles(t)
	for _, after := range []int{0, 1, 5, 100} {
		n := 0
		err := Walk(dir, WalkOptions{}, func(*Entry, io.Reader) error {
			if n++; n > after {
				return stop
			}
			return nil
		})
		if !errors.Is(err, stop) {
			t.Errorf("got %v", err)
		}
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d open files before, %d after", before, after)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// TestWalkDeep goes deeper than PATH_MAX.
func TestWalkDeep(t *testing.T) {
	dir := t.TempDir()
	fd, err := unix.Open(dir, unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	const depth = 60
	name := strings.Repeat("d", 100)
	for range depth {
		if err := unix.Mkdirat(fd, name, 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(fd, name, unix.O_DIRECTORY, 0)
		if err := errors.Join(err, unix.Close(fd)); err != nil {
			t.Fatal(err)
		}
		fd = next
	}
	if err := unix.Close(fd); err != nil {
		t.Fatal(err)
	}
	if n := len(walked(t, dir)); n != depth+1 {
		t.Errorf("%d entries", n)
	}
}

func BenchmarkWalk(b *testing.B) {
	dir := os.Getenv("KLDLOAD_BENCH_TREE")
	if dir == "" {
		dir = b.TempDir()
		for i := range 10000 {
			if i%1000 == 0 {
				_ = os.Mkdir(fmt.Sprintf("%s/%d", dir, i/1000), 0o755)
			}
			if err := os.WriteFile(fmt.Sprintf("%s/%d/%d", dir, i/1000, i), make([]byte, 1024), 0o644); err != nil {
				b.Fatal(err)
			}
		}
	}
	for b.Loop() {
		n, buf := 0, make([]byte, 1<<20)
		err := Walk(dir, WalkOptions{}, func(_ *Entry, body io.Reader) error {
			for n++; body != nil; {
				if _, err := body.Read(buf); err != nil {
					break
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(n), "files/op")
	}
}
