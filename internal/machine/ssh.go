package machine

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// loginTime bounds one attempt to log in. Under TCG the key exchange alone
// takes seconds; QEMU accepts the connection long before the guest listens.
const loginTime = 20 * time.Second

// reachTime is how long a clone that was there may be away.
const reachTime = time.Minute

// newKey makes the key of one clone.
func newKey() (ssh.Signer, []byte, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "kldload throw-away")
	if err != nil {
		return nil, nil, err
	}
	signer, err := ssh.NewSignerFromKey(private)
	return signer, pem.EncodeToMemory(block), err
}

// readKey reads a private key in OpenSSH's or PEM form.
func readKey(file string) (ssh.Signer, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the SSH key: %w", err)
	}
	signer, err := ssh.ParsePrivateKey(b)
	var locked *ssh.PassphraseMissingError
	switch {
	case errors.As(err, &locked):
		return nil, fmt.Errorf("SSH key %q has a passphrase\nhint: leave --ssh-key out, the clone gets a key of its own", file)
	case err != nil && strings.HasPrefix(string(b), "ssh-"):
		return nil, fmt.Errorf("SSH key %q is a public key: want the private one", file)
	case err != nil:
		return nil, fmt.Errorf("SSH key %q: %w", file, err)
	}
	return signer, nil
}

// errHostKey is another host key than at the first login.
var errHostKey = errors.New("the clone shows another host key than before")

// login opens one SSH connection. The clone's host key is new to everybody,
// and the way to it a forwarded loopback port of our own QEMU: the first
// login pins the key, later ones must find it again.
func (m *Machine) login(ctx context.Context) (*ssh.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, loginTime)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", m.Addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	var seen ssh.PublicKey
	c, channels, requests, err := ssh.NewClientConn(conn, m.Addr, &ssh.ClientConfig{
		User: m.User,
		Auth: []ssh.AuthMethod{ssh.PublicKeys(m.signer)},
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			seen = key
			if m.hostKey != nil && !bytes.Equal(key.Marshal(), m.hostKey.Marshal()) {
				return errHostKey
			}
			return nil
		},
	})
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	client := ssh.NewClient(c, channels, requests)
	if m.hostKey == nil {
		m.hostKey = seen
		line := knownhosts.Line([]string{m.Addr}, seen)
		if err := os.WriteFile(m.KnownHosts(), []byte(line+"\n"), 0o600); err != nil {
			return nil, errors.Join(err, client.Close())
		}
	}
	return client, nil
}

// reach logs in to a clone that has let us in before. Its sshd may be starting
// again, told so by cloud-init or a package: connections that break before
// the login are tried anew for reachTime.
func (m *Machine) reach(ctx context.Context) (*ssh.Client, error) {
	end := time.Now().Add(reachTime)
	for {
		client, err := m.login(ctx)
		if err == nil {
			return client, nil
		}
		if !broken(err) || ctx.Err() != nil || m.child.exited() || time.Now().After(end) {
			return nil, fmt.Errorf("logging in to the clone: %w", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pollTime):
		}
	}
}

// broken tells a connection that ended, or took more than loginTime, from one
// that was answered with no.
func broken(err error) bool {
	for _, gone := range []error{syscall.ECONNRESET, syscall.ECONNREFUSED, syscall.EPIPE, io.EOF, net.ErrClosed} {
		if errors.Is(err, gone) {
			return true
		}
	}
	return false
}

// Command is one program to run in the clone.
type Command struct {
	Line           string // for the login shell
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// TTY asks for a terminal of Width × Height; Term is its $TERM.
	TTY           bool
	Term          string
	Width, Height int
}

// Run runs one command as User and returns its exit status; 128 plus the
// number of a signal when that ended it. It runs the command once.
func (m *Machine) Run(ctx context.Context, c Command) (int, error) {
	client, err := m.reach(ctx)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	return runOn(ctx, client, c)
}

func runOn(ctx context.Context, client *ssh.Client, c Command) (int, error) {
	session, err := client.NewSession()
	if err != nil {
		return 0, fmt.Errorf("opening an SSH session: %w", err)
	}
	defer session.Close()
	session.Stdout, session.Stderr = c.Stdout, c.Stderr
	if c.TTY {
		if err := session.RequestPty(c.Term, c.Height, c.Width, ssh.TerminalModes{}); err != nil {
			return 0, fmt.Errorf("asking the clone for a terminal: %w", err)
		}
	}
	if c.Stdin != nil {
		// Not session.Stdin: Wait would wait for the end of a terminal.
		in, err := session.StdinPipe()
		if err != nil {
			return 0, err
		}
		go func() {
			_, _ = io.Copy(in, c.Stdin)
			in.Close()
		}()
	}
	if err := session.Start(c.Line); err != nil {
		return 0, fmt.Errorf("running %q in the clone: %w", c.Line, err)
	}
	done := make(chan error, 1)
	go func() { done <- session.Wait() }()
	select {
	case err = <-done:
	case <-ctx.Done():
		_ = session.Signal(ssh.SIGKILL)
		client.Close()
		<-done
		return 0, context.Cause(ctx)
	}
	return exitStatus(c.Line, err)
}

func exitStatus(line string, err error) (int, error) {
	var exit *ssh.ExitError
	switch {
	case err == nil:
		return 0, nil
	case !errors.As(err, &exit):
		return 0, fmt.Errorf("running %q in the clone: %w", line, err)
	}
	// x/crypto/ssh turns a signal's name into 128 plus its number.
	return exit.ExitStatus(), nil
}

// Quote makes one shell word of each argument; a single argument is a line
// for the shell already, as with ssh(1).
func Quote(args []string) string {
	if len(args) == 1 {
		return args[0]
	}
	words := make([]string, len(args))
	for i, arg := range args {
		words[i] = quote(arg)
	}
	return strings.Join(words, " ")
}

func quote(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-"
	if s != "" && strings.Trim(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
