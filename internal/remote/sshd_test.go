package remote

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// sshd is a host for tests: OpenSSH's own server, one process for each
// connection (sshd -i), behind a listener on the loopback that counts what
// comes in and can cut it off.
type sshd struct {
	Target  Target
	Options Options
	// Cut lists after how many bytes a connection is cut: the first of the
	// list is the next connection's. 0 never cuts.
	Cut chan int64

	dir    string
	addr   *net.TCPAddr
	logins atomic.Int32
	procs  sync.WaitGroup
}

// newSSHD starts a host with lines added to its sshd_config. The target is a
// new folder on it.
func newSSHD(t *testing.T, lines ...string) *sshd {
	t.Helper()
	s := &sshd{dir: t.TempDir(), Cut: make(chan int64, 20)}
	for _, key := range []string{"host", "user"} {
		s.keygen(t, key)
	}
	pub := s.read(t, "user.pub")
	s.write(t, "authorized_keys", pub)
	config := fmt.Sprintf(`HostKey %[1]s/host
AuthorizedKeysFile %[1]s/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
PidFile none
Subsystem sftp internal-sftp
`, s.dir)
	for _, line := range lines {
		config += line + "\n"
	}
	s.write(t, "sshd_config", config)
	s.listen(t)
	s.Options.ConfigFile = s.write(t, "config", fmt.Sprintf(`Host *
IdentityFile %[1]s/user
IdentitiesOnly yes
IdentityAgent none
UserKnownHostsFile %[1]s/known_hosts
GlobalKnownHostsFile none
`, s.dir))
	s.know(t)
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(s.dir, "folder")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	s.Target = Target{User: me.Username, Host: "127.0.0.1", Port: s.addr.Port, Path: folder, Dir: true}
	return s
}

func (s *sshd) keygen(t *testing.T, name string) {
	t.Helper()
	out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(s.dir, name)).CombinedOutput()
	if err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
}

// know tells the client the host's key.
func (s *sshd) know(t *testing.T) {
	t.Helper()
	s.write(t, "known_hosts", fmt.Sprintf("[127.0.0.1]:%d %s", s.addr.Port, s.read(t, "host.pub")))
}

func (s *sshd) read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func (s *sshd) write(t *testing.T, name, content string) string {
	t.Helper()
	name = filepath.Join(s.dir, name)
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// listen serves until the test ends, and then waits for the servers.
func (s *sshd) listen(t *testing.T) {
	t.Helper()
	if os.Getuid() == 0 { // where sshd, started by root, locks itself in
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().(*net.TCPAddr)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		l.Close()
		cancel()
		s.procs.Wait()
	})
	s.procs.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.logins.Add(1)
			var cut int64
			select {
			case cut = <-s.Cut:
			default:
			}
			s.procs.Go(func() { s.serve(ctx, t, conn, cut) })
		}
	})
}

func (s *sshd) serve(ctx context.Context, t *testing.T, conn net.Conn, cut int64) {
	defer conn.Close()
	cmd := exec.CommandContext(ctx, "/usr/sbin/sshd", "-i", "-e", "-f", filepath.Join(s.dir, "sshd_config"))
	cmd.WaitDelay = 2 * time.Second
	cmd.Stdout = conn
	var log logWriter
	cmd.Stderr = &log
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Errorf("starting sshd (Debian package openssh-server): %v", err)
		return
	}
	if cut > 0 {
		_, _ = io.CopyN(in, conn, cut)
		conn.Close()
		_ = cmd.Process.Kill()
	} else {
		_, _ = io.Copy(in, conn)
	}
	in.Close()
	_ = cmd.Wait()
	if t.Failed() {
		t.Logf("sshd said: %s", log.b)
	}
}

type logWriter struct{ b []byte }

func (l *logWriter) Write(b []byte) (int, error) {
	l.b = append(l.b, b...)
	return len(b), nil
}

// dial connects, and makes waiting short.
func (s *sshd) dial(t *testing.T) *Session {
	t.Helper()
	session, err := Dial(t.Context(), s.Target, s.Options)
	if err != nil {
		t.Fatal(err)
	}
	session.pauses = []time.Duration{time.Millisecond, time.Millisecond}
	t.Cleanup(func() {
		if err := session.Close(); err != nil {
			t.Error(err)
		}
	})
	return session
}
