package remote

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/pkg/sftp"

	"github.com/kldload/kldload/internal/run"
)

// lostError is a connection that ended or was not had, which another attempt
// may mend.
type lostError struct{ err error }

func (e *lostError) Error() string { return e.err.Error() }
func (e *lostError) Unwrap() error { return e.err }

// localError is a fault of the file that is to be sent.
type localError struct{ err error }

func (e *localError) Error() string { return e.err.Error() }
func (e *localError) Unwrap() error { return e.err }

// fault tells a connection that broke from everything else, which it returns
// as it is. The broken one is put away and becomes a lostError with ssh's last
// words.
func (s *Session) fault(err error) error {
	var local *localError
	if s.conn == nil || errors.As(err, &local) || !broken(err) {
		return err
	}
	c := s.conn
	_ = s.Close()
	var exit *run.ExitError
	if errors.As(c.exit, &exit) {
		return &lostError{fmt.Errorf("%w: %w", err, s.explain(exit))}
	}
	return &lostError{err}
}

// broken reports whether err is what the SFTP client gives once its pipes are
// closed: to requests on their way, to one being written, to later ones.
func broken(err error) bool {
	return errors.Is(err, sftp.ErrSSHFxConnectionLost) || errors.Is(err, syscall.EPIPE) || errors.Is(err, fs.ErrClosed)
}

// A sign is a piece of what ssh says, the hint that goes with it, and whether
// waiting may help. The texts are those of OpenSSH 7 to 10, which does not
// translate them.
type sign struct {
	text string
	hint string
	pass bool
}

// signs gives the hints, the most telling first. HOST, LOGIN and PORT stand
// for the target's.
var signs = [...]sign{
	{"has changed and you have requested strict checking", "the host shows another key than before: it was installed anew, or somebody is in between. " +
		"Ask its owner; if the new key is right: ssh-keygen -R KNOWN, then log in once with: sshPORT LOGIN", false},
	{"Host key verification failed", "the host is not known yet: log in once with: sshPORT LOGIN, and compare the fingerprint it shows. " +
		"Without a terminal: ssh-keyscanPORT HOST >key; ssh-keygen -lf key; if that is right: cat key >>~/.ssh/known_hosts", false},
	{"Permission denied (", "ssh found no key that the host takes, and may ask for a password only at a terminal: try: sshPORT LOGIN, " +
		"or add a key: ssh-copy-idPORT LOGIN", false},
	{"Too many authentication failures", "name the key in ~/.ssh/config with IdentityFile and IdentitiesOnly yes", false},
	{"subsystem request failed", "the host's sshd has no SFTP: it needs a line \"Subsystem sftp internal-sftp\" in sshd_config", false},
	{"Bad owner or permissions", "ssh wants its configuration writable by you alone", false},
	{"configuration option", "that is a mistake in ssh's configuration", false},
	{"open user config file", "that is the file given as ssh's configuration", false},
	{"Could not resolve hostname", "check the name, or give it a HostName in ~/.ssh/config", true},
	{"Connection refused", "is sshd running there, and on that port? Another port: ssh://LOGIN:2222/dir/", true},
	{"timed out", "is the host up, and does a firewall let SSH through?", true},
	{"No route to host", "is the host up, and does a firewall let SSH through?", true},
}

// explain adds a hint to what ssh said. A fault that waiting may mend, or
// that is not known, is a lostError.
func (s *Session) explain(exit *run.ExitError) error {
	said := *exit
	said.Tail = strings.ReplaceAll(exit.Tail, "\r", "")
	known := s.target.Host
	if s.target.Port != 0 {
		known = fmt.Sprintf("[%s]:%d", known, s.target.Port)
	}
	fill := strings.NewReplacer("HOST", s.target.Host, "LOGIN", s.login(), "PORT", s.portArg(), "KNOWN", quote(known))
	for _, sign := range signs {
		if !strings.Contains(said.Tail, sign.text) {
			continue
		}
		err := fmt.Errorf("%w\nhint: %s", &said, fill.Replace(sign.hint))
		if sign.pass {
			return &lostError{err}
		}
		return err
	}
	return &lostError{&said}
}
