//go:build integration

package test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// event is one line of --json.
type event struct {
	Time    string          `json:"time"`
	Event   string          `json:"event"`
	Stage   string          `json:"stage"`
	Detail  string          `json:"detail"`
	Status  string          `json:"status"`
	Seconds float64         `json:"seconds"`
	Data    json.RawMessage `json:"data"`
}

// call is one run of the binary.
type call struct {
	dir     string // working directory
	args    []string
	env     []string // added to ours
	prefix  []string // a command that starts the binary: unshare, runuser
	cache   string   // "" is the tests' own
	onEvent func(e event, p *os.Process)
}

// outcome is what came of it.
type outcome struct {
	code           int // -1: ended by a signal
	stdout, stderr string
	events         []event
	peak           int64 // resident memory of the process, in bytes
}

// build runs `kldload build --json` on a template and collects the events.
func (c call) build(t *testing.T, flags ...string) outcome {
	t.Helper()
	c.args = append(append([]string{"build", "--json", "--cache-dir", c.cacheDir()}, flags...), "golden.pkr.hcl")
	return c.run(t)
}

func (c call) cacheDir() string {
	if c.cache != "" {
		return c.cache
	}
	return caches
}

func (c call) run(t *testing.T) outcome {
	t.Helper()
	argv := append(append([]string{}, c.prefix...), append([]string{binary}, c.args...)...)
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), c.env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var o outcome
	o.stdout, o.events = readEvents(stdout, func(e event) {
		if c.onEvent != nil {
			c.onEvent(e, cmd.Process)
		}
	})
	err = cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	o.code, o.stderr = cmd.ProcessState.ExitCode(), stderr.String()
	o.peak = cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10 // KiB: getrusage(2)
	t.Logf("%s: exit %d\n%s%s", strings.Join(argv, " "), o.code, o.stages(), o.stderr)
	return o
}

// readEvents reads all output; lines that are no JSON are no events.
func readEvents(r io.Reader, each func(event)) (string, []event) {
	var text strings.Builder
	var events []event
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		text.WriteString(s.Text() + "\n")
		var e event
		if json.Unmarshal(s.Bytes(), &e) == nil && e.Event != "" {
			events = append(events, e)
			each(e)
		}
	}
	return text.String(), events
}

// stages is the log of a failing test.
func (o outcome) stages() string {
	var b strings.Builder
	for _, e := range o.events {
		if strings.HasPrefix(e.Event, "stage-") && e.Event != "stage-start" {
			b.WriteString("  " + e.Stage + " " + e.Status + " " + e.Detail + "\n")
		}
	}
	return b.String()
}

// status is how a stage ended: "", "cached", "FAILED"; "-" when it did not.
func (o outcome) status(stage string) string {
	for _, e := range o.events {
		if e.Stage == stage && (e.Event == "stage-done" || e.Event == "stage-failed") {
			return e.Status
		}
	}
	return "-"
}

// logged tells whether a child or the build said text.
func (o outcome) logged(text string) bool {
	for _, e := range o.events {
		if strings.Contains(e.Detail, text) {
			return true
		}
	}
	return false
}

func (o outcome) succeeded(t *testing.T) outcome {
	t.Helper()
	if o.code != 0 {
		t.Fatalf("exit %d: %s\n%s", o.code, o.stderr, tailOf(o.stdout))
	}
	return o
}

// failed asserts the exit code and what the error names.
func (o outcome) failed(t *testing.T, code int, says ...string) {
	t.Helper()
	if o.code != code {
		t.Errorf("exit %d: want %d", o.code, code)
	}
	for _, want := range says {
		if !strings.Contains(o.stderr, want) {
			t.Errorf("the error does not say %q:\n%s", want, o.stderr)
		}
	}
}

func tailOf(s string) string { return s[max(0, len(s)-4000):] }

// folder makes a working directory that every user may enter, with the
// template in it.
func folder(t *testing.T, tmpl template) string {
	t.Helper()
	dir, err := os.MkdirTemp(public, "run-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	tmpl.write(t, dir)
	return dir
}

// tool runs a foreign program and gives its output; its failure is the test's.
func tool(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func exists(t *testing.T, name string) bool {
	t.Helper()
	_, err := os.Lstat(name)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

// names lists a folder; one that is not there is empty.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func read(t *testing.T, elem ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
