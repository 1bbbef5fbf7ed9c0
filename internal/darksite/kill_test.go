package darksite

import (
	"context"
	"encoding/json"
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
