package darksite

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kldload/kldload/internal/run"
)

// TestMain lets the test's own program be a kldload that can be killed.
func TestMain(m *testing.M) {
	if text := os.Getenv("DARKSITE_TEST_CREATE"); text != "" {
		var o CreateOptions
		if err := json.Unmarshal([]byte(text), &o); err != nil {
			panic(err)
		}
		if _, err := Create(context.Background(), o); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestKilledInTheDownloadResumes(t *testing.T) {
	m := newMirror(t)
	o := m.options()
	asked, release := make(chan struct{}, 1), make(chan struct{})
	m.setChange(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/libcc_") {
			return false
		}
		w.Header().Set("Content-Length", "1000")
		io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		asked <- struct{}{}
		select {
		case <-release:
		case <-r.Context().Done():
		}
		return true
	})
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	p, err := run.Start(t.Context(), run.Cmd{Doing: "creating", Args: []string{os.Args[0]},
		Env: append(os.Environ(), "DARKSITE_TEST_CREATE="+string(text), "TMPDIR="+t.TempDir())})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-asked:
	case <-time.After(60 * time.Second):
		t.Fatal("the package was not asked for")
	}
	time.Sleep(300 * time.Millisecond) // let the files before it land
	if err := syscall.Kill(p.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err == nil {
		t.Fatal("it ended well")
	}
	close(release)
	if exists(o.Output) {
		t.Fatal("a half-made darksite has its final name")
	}
	if left, _ := filepath.Glob(filepath.Join(o.Output+".partial", fetchDir, "*")); len(left) == 0 {
		t.Error("nothing was kept")
	}
	m.setChange(nil)
	m.requests()
	mustCreate(t, o)
	if got := m.requests(); len(got) != 1 || got["libcc"] == 0 {
		t.Errorf("the second run fetched %v, want libcc alone", got)
	}
	if _, err := Verify(t.Context(), o.Output, nil); err != nil {
		t.Error(err)
	}
}

// What an earlier run left need not be the head of what the mirror has now:
// apt goes on from it all the same when the times agree, and the digest fails.
func TestForeignPartialIsFetchedAgain(t *testing.T) {
	m := newMirror(t)
	o := m.options()
	found, err := filepath.Glob(filepath.Join(m.dir, "pool/*/*/*/libcc_*"))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	partial := found[0]
	info, err := os.Stat(partial)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(partial)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(o.Output+".partial", fetchDir, fmt.Sprintf("%x", sha256.Sum256(text)))
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte("half"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	mustCreate(t, o)
	if got := m.requests()["libcc"]; got < 2 {
		t.Errorf("libcc was asked for %d times: apt did not go on from the partial file, so nothing was tried", got)
	}
	if _, err := Verify(t.Context(), o.Output, nil); err != nil {
		t.Error(err)
	}
}
