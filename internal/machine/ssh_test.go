package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// guest is an SSH server that plays a clone: "echo" sends its input back,
// "hang" never ends, "exit N" ends with N, anything else is printed and ends
// with 77 when it holds the word skip.
type guest struct {
	listener net.Listener
	config   atomic.Pointer[ssh.ServerConfig]
	drop     atomic.Int32 // connections to break before the login
	let      func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error)
}

// newGuest lets key in and returns a machine that reaches it.
func newGuest(t *testing.T) (*guest, *Machine) {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	signer, _, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{let: func(c ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if c.User() != "kldload" || !bytes.Equal(key.Marshal(), signer.PublicKey().Marshal()) {
			return nil, errors.New("not let in")
		}
		return nil, nil
	}}
	g.newHostKey(t)
	if g.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.listener.Close() })
	go func() {
		for {
			conn, err := g.listener.Accept()
			if err != nil {
				return
			}
			if g.drop.Add(-1) >= 0 {
				_ = conn.(*net.TCPConn).SetLinger(0) // a reset, as a port without a listener behind it
				conn.Close()
				continue
			}
			go serve(conn, g.config.Load())
		}
	}()
	work, err := newWorkDir()
	if err != nil {
		t.Fatal(err)
	}
	cfg := testLaunch().cfg
	m := &Machine{Name: "web1", User: "kldload", Addr: g.listener.Addr().String(), cfg: cfg, work: work, signer: signer,
		child: &child{done: make(chan struct{})}}
	if m.serial, err = newSerial(work.path("serial.log")); err != nil {
		t.Fatal(err)
	}
	return g, m
}

func (g *guest) newHostKey(t *testing.T) {
	t.Helper()
	host, _, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	fresh := &ssh.ServerConfig{PublicKeyCallback: g.let}
	fresh.AddHostKey(host)
	g.config.Store(fresh)
}

func serve(conn net.Conn, config *ssh.ServerConfig) {
	_, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for fresh := range channels {
		channel, requests, err := fresh.Accept()
		if err != nil {
			return
		}
		go serveSession(channel, requests)
	}
}

func serveSession(channel ssh.Channel, requests <-chan *ssh.Request) {
	defer channel.Close()
	for req := range requests {
		if req.Type != "exec" {
			_ = req.Reply(req.Type == "pty-req", nil)
			continue
		}
		_ = req.Reply(true, nil)
		var exec struct{ Line string }
		_ = ssh.Unmarshal(req.Payload, &exec)
		status := uint32(0)
		switch line := exec.Line; {
		case strings.Contains(line, "hang"):
			select {}
		case line == "echo":
			_, _ = io.Copy(channel, channel)
		case strings.HasPrefix(line, "exit "):
			_, _ = fmt.Sscanf(line, "exit %d", &status)
		default:
			fmt.Fprintln(channel, line)
			if strings.Contains(line, "skip") {
				status = skipStatus
			}
		}
		_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
		return
	}
}

func TestRunPassesStreamsAndStatus(t *testing.T) {
	_, m := newGuest(t)
	var out bytes.Buffer
	status, err := m.Run(context.Background(), Command{Line: "echo", Stdin: strings.NewReader("hello"), Stdout: &out, TTY: true, Term: "vt100", Width: 80, Height: 24})
	if err != nil || status != 0 || out.String() != "hello" {
		t.Errorf("got %q, %d, %v", out.String(), status, err)
	}
	if status, err := m.Run(context.Background(), Command{Line: "exit 7"}); status != 7 || err != nil {
		t.Errorf("got %d, %v, want 7", status, err)
	}
	known, err := os.ReadFile(m.KnownHosts())
	if err != nil || !strings.Contains(string(known), "ssh-ed25519 ") {
		t.Errorf("known_hosts: %q, %v", known, err)
	}
}

func TestRunWaitsForAnSshdThatStartsAgain(t *testing.T) {
	g, m := newGuest(t)
	g.drop.Store(2)
	if status, err := m.Run(context.Background(), Command{Line: "exit 3"}); status != 3 || err != nil {
		t.Errorf("got %d, %v, want 3", status, err)
	}
}

func TestHostKeyIsPinned(t *testing.T) {
	g, m := newGuest(t)
	if _, err := m.Run(context.Background(), Command{Line: "exit 0"}); err != nil {
		t.Fatal(err)
	}
	g.newHostKey(t)
	if _, err := m.Run(context.Background(), Command{Line: "exit 0"}); err == nil || !strings.Contains(err.Error(), errHostKey.Error()) {
		t.Errorf("another host key: got %v", err)
	}
}

func TestStrangerIsExplained(t *testing.T) {
	_, m := newGuest(t)
	m.User = "stranger"
	_, err := m.login(context.Background())
	if err == nil || plainSSH(err) != "sshd answers, but does not let the key in" {
		t.Errorf("got %v: %s", err, plainSSH(err))
	}
}

func TestCommandEndsWithItsContext(t *testing.T) {
	_, m := newGuest(t)
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if _, err := m.Run(ctx, Command{Line: "hang"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestChecksGoOnAfterOneThatHangs(t *testing.T) {
	_, m := newGuest(t)
	m.cfg.CheckTimeout = 200 * time.Millisecond
	checks := []Check{{Name: "ok", Script: "true\n"}, {Name: "slow", Script: "hang\n"}, {Name: "not-here", Script: "skip\n"}}
	var r Report
	if err := m.runChecks(context.Background(), checks, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Checks) != 3 || r.Count(Pass) != 1 || r.Count(Fail) != 1 || r.Count(Skip) != 1 {
		t.Fatalf("got %+v", r.Checks)
	}
	if got := r.Checks[1].Brief(); got != "out of time after 200ms" {
		t.Errorf("got %q", got)
	}
	if got := r.Checks[0].Output; !strings.Contains(got, "sudo -n sh -ec 'CLONE_NAME=web1 CLONE_DISK=0\ntrue\n'") {
		t.Errorf("ran %q", got)
	}
	if got, want := r.Summary(), "uefi,  · 1 check passed, 1 skipped, 1 FAILED"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestQuote(t *testing.T) {
	for want, args := range map[string][]string{
		"systemctl --failed; df":  {"systemctl --failed; df"},
		`echo 'a b' '' 'it'\''s'`: {"echo", "a b", "", "it's"},
	} {
		if got := Quote(args); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestReadKeyExplains(t *testing.T) {
	dir := t.TempDir()
	signer, private, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		content []byte
		want    string
	}{"good": {private, ""}, "pub": {ssh.MarshalAuthorizedKey(signer.PublicKey()), "is a public key"}, "junk": {[]byte("x"), "no key found"}} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, c.content, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := readKey(file)
		if (err == nil) != (c.want == "") || (err != nil && !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}
