package run

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestExitErrorQuotesTail(t *testing.T) {
	err := Run(context.Background(), Cmd{Doing: "counting", Args: []string{"sh", "-c", "echo one >&2; echo two >&2; exit 7"}})
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Code != 7 {
		t.Fatalf("got %v, want exit status 7", err)
	}
	if got := err.Error(); got != "counting: sh: exit status 7\n  one\n  two" {
		t.Errorf("got %q", got)
	}
}

func TestCancelEndsTheWholeGroup(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	start := time.Now()
	time.AfterFunc(100*time.Millisecond, cancel)
	err := Run(ctx, Cmd{Doing: "sleeping", Args: []string{"sh", "-c", "sleep 60 & sleep 60"}})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want context canceled", err)
	}
	if d := time.Since(start); d > grace {
		t.Errorf("took %v to end", d)
	}
}

func TestSessionLeader(t *testing.T) {
	// Fields of proc_pid_stat(5): pid, (comm), state, ppid, pgrp, session.
	out, err := Output(context.Background(), Cmd{
		Doing:       "looking at itself",
		Args:        []string{"sh", "-c", "read -r pid comm state ppid pgrp session rest </proc/$$/stat; echo $$ $pgrp $session"},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	})
	if f := strings.Fields(string(out)); err != nil || len(f) != 3 || f[0] != f[1] || f[0] != f[2] {
		t.Errorf("pid, group and session are %q, %v: want one number", out, err)
	}
}

func TestMissingToolNamesPackage(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	err := Run(context.Background(), Cmd{Doing: "bootstrapping", Args: []string{"mmdebstrap"}})
	if err == nil || !strings.Contains(err.Error(), "hint: apt-get install mmdebstrap") {
		t.Fatalf("got %v, want the package named", err)
	}
}

func TestLines(t *testing.T) {
	var got []string
	l := &Lines{Func: func(s string) { got = append(got, s) }}
	for _, s := range []string{"a\nb", "c\n\n", "d\re"} {
		if _, err := l.Write([]byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	if s := strings.Join(got, "|"); s != "a|bc|d|e" {
		t.Errorf("got %q", s)
	}
}
