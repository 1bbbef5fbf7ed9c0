package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kldload/kldload/internal/run"
)

func TestMain(m *testing.M) {
	Main(map[string]Func{
		"whoami": func(_ context.Context, arg json.RawMessage) (any, error) {
			var name string
			if err := json.Unmarshal(arg, &name); err != nil {
				return nil, err
			}
			return fmt.Sprintf("%s is %d:%d", name, os.Getuid(), os.Getpid()), nil
		},
		"fail": func(context.Context, json.RawMessage) (any, error) { return nil, errors.New("no luck") },
		"own": func(_ context.Context, arg json.RawMessage) (any, error) {
			var dir string
			if err := json.Unmarshal(arg, &dir); err != nil {
				return nil, err
			}
			name := filepath.Join(dir, "f")
			if err := os.WriteFile(name, nil, 0o600); err != nil {
				return nil, err
			}
			return nil, errors.Join(os.Chown(name, 65534, 65534), os.Remove(name))
		},
	})
	if len(os.Args) > 1 && os.Args[1] == "hold-sandbox" {
		_ = Run(context.Background(), Job{Doing: "holding", Command: []string{"sleep", "4242"}})
		return
	}
	os.Exit(m.Run())
}

func TestCallIsRootAndPID1(t *testing.T) {
	var got string
	if err := Call(context.Background(), Job{Doing: "asking", Call: "whoami", Arg: "it"}, &got); err != nil {
		t.Fatal(err)
	}
	if got != "it is 0:1" {
		t.Errorf("got %q", got)
	}
}

func TestCallError(t *testing.T) {
	err := Call(context.Background(), Job{Doing: "asking", Call: "fail"}, nil)
	if err == nil || err.Error() != "asking: no luck" {
		t.Errorf("got %v", err)
	}
}

func TestCallOwnsMappedIDs(t *testing.T) {
	if err := Call(context.Background(), Job{Doing: "owning", Call: "own", Arg: t.TempDir()}, nil); err != nil {
		t.Fatal(err)
	}
}

func TestCommandHasNoNetworkAndPassesItsStatus(t *testing.T) {
	var out bytes.Buffer
	err := Run(context.Background(), Job{Doing: "looking", Command: []string{"sh", "-c", "uname -n; cat /proc/net/dev; ls /proc | grep -c '^[0-9]'; exit 9"}, Stdout: &out})
	var exit *run.ExitError
	if !errors.As(err, &exit) || exit.Code != 9 || exit.Tool != "sh" {
		t.Fatalf("got %v, want exit status 9", err)
	}
	if !strings.HasPrefix(out.String(), "localhost\n") {
		t.Errorf("the host's name is seen: %q", out.String())
	}
	if strings.Count(out.String(), ":") != 1 || !strings.Contains(out.String(), "lo:") {
		t.Errorf("interfaces:\n%s", out.String())
	}
}

func TestOverlayKeepsTheLowerFolder(t *testing.T) {
	dir := t.TempDir()
	o := &Overlay{Lower: filepath.Join(dir, "low,er:x"), Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work"), Target: filepath.Join(dir, "target")}
	for _, d := range []string{o.Lower + "/d", o.Upper, o.Work, o.Target} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(o.Lower+"/d/f", []byte("lower\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	change := Job{Doing: "changing", Command: []string{"sh", "-ec", "cat d/f; echo new >d/f; mkdir e; rm -r d; mkdir d"}, Dir: o.Target, Overlay: o}
	if err := Run(context.Background(), change); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	look := Job{Doing: "looking", Command: []string{"find", ".", "-mindepth", "1"}, Dir: o.Target, Overlay: o, Stdout: &out}
	if err := Run(context.Background(), look); err != nil {
		t.Fatal(err)
	}
	if got := strings.Fields(out.String()); len(got) != 2 {
		t.Errorf("the second job sees %v", got)
	}
	if b, err := os.ReadFile(o.Lower + "/d/f"); err != nil || string(b) != "lower\n" {
		t.Errorf("the lower folder changed: %q, %v", b, err)
	}
}

// A killed caller takes the sandbox with it.
func TestKilledCallerLeavesNoProcess(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", "hold-sandbox")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	holds := func() bool {
		out, _ := exec.Command("pgrep", "-f", "^sleep 4242$").Output()
		return len(out) > 0
	}
	eventually(t, "the sandbox to start", holds)
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	eventually(t, "the sandbox to end", func() bool { return !holds() })
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("waited 10s for %s", what)
}

func TestCancelEndsTheSandbox(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if err := Run(ctx, Job{Doing: "sleeping", Command: []string{"sleep", "60"}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestSubRange(t *testing.T) {
	for line, want := range map[string]bool{"ann:100000:65536": true, "1001:5:70000": true, "annx:1:65536": false, "ann:x:1": false, "": false} {
		if _, got := subRange(line, "ann", "1001"); got != want {
			t.Errorf("%q: got %v", line, got)
		}
	}
}

func TestInsideRefusesLinks(t *testing.T) {
	root := t.TempDir()
	if err := os.Symlink("/etc", filepath.Join(root, "run")); err != nil {
		t.Fatal(err)
	}
	if _, err := inside(root, "/run/x"); err == nil {
		t.Error("a link out of the tree was followed")
	}
	if got, err := inside(root, "../../a/b"); err != nil || got != filepath.Join(root, "a/b") {
		t.Errorf("got %q, %v", got, err)
	}
}
