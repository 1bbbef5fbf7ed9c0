package ui

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// clock advances by step at each reading.
func clock(step time.Duration) func() time.Time {
	t := time.Unix(1700000000, 0)
	return func() time.Time { t = t.Add(step); return t }
}

func TestPlainPrintsOneLineAStage(t *testing.T) {
	var out bytes.Buffer
	u := New(&out, Auto)
	u.now = clock(time.Second)
	s := u.Stage("tree")
	s.Progress(1<<20, 4<<20, "unpacking")
	s.Cached("412 packages")
	if got := out.String(); strings.Count(got, "\n") != 1 || strings.ContainsAny(got, "\r\x1b") ||
		!strings.Contains(got, "412 packages") || !strings.Contains(got, "cached") {
		t.Errorf("got %q", got)
	}
}

func TestTerminalMovesAndKeepsFinishedLines(t *testing.T) {
	var out bytes.Buffer
	u := New(&out, Terminal)
	u.now = clock(time.Second)
	s := u.Stage("disk")
	s.Progress(1<<20, 4<<20, "usr/bin/bash")
	s.Log("a line of the child")
	s.Done("GPT")
	got := out.String()
	for _, want := range []string{" 25%", "1 MiB of 4 MiB", "ETA", "| a line of the child\n", "GPT"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q lacks %q", got, want)
		}
	}
}

func TestJSONEventsParseAndMask(t *testing.T) {
	var out bytes.Buffer
	u := New(&out, JSON)
	u.Mask("s3cret", `qu"ote`)
	s := u.Stage("provision")
	s.Log("password is s3cret")
	s.Fail()
	u.Result("text", "brief", map[string]string{"n": "has s3cret", "q": `a qu"ote`})
	if strings.Contains(out.String(), "s3cret") || strings.Contains(out.String(), "ote") {
		t.Fatalf("secret printed: %s", out.String())
	}
	for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		var e Event
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Event == "" {
			t.Errorf("%q: %v", line, err)
		}
	}
}

func TestQuietPrintsTheResultAlone(t *testing.T) {
	var out bytes.Buffer
	u := New(&out, Quiet)
	u.Stage("tree").Done("x")
	u.Print("hello")
	u.Result("long text", "output/x", nil)
	if out.String() != "output/x\n" {
		t.Errorf("got %q", out.String())
	}
}

func TestUnits(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 391 << 20: "391 MiB", 40 << 30: "40 GiB", 1 << 20: "1 MiB"} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{800 * time.Millisecond: "0.8s", 125 * time.Second: "2m05s"} {
		if got := Seconds(d); got != want {
			t.Errorf("Seconds(%v) = %q, want %q", d, got, want)
		}
	}
}
