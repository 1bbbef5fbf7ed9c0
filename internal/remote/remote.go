// Package remote sends finished image files to a folder of another host over
// SFTP, and ends with proof that what lies there is what was sent.
//
// The connection is OpenSSH's own client, started as "ssh -s HOST sftp": host
// keys, agents, certificates, jump hosts and ~/.ssh/config are its business
// and work as the user is used to. SFTP is version 3,
// draft-ietf-secsh-filexfer-02, with the extensions of OpenSSH's PROTOCOL
// file, section 4, where the server has them.
//
// # Not supported
//
// Downloads, whole folders, owners and times of files, making of remote
// folders, hosts whose key is not known yet, and passwords in any other way
// than by ssh asking for them on the terminal.
//
// See docs/design/remote.md.
package remote

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"
)

// Options of a session. The zero value connects without asking anything.
type Options struct {
	// ConfigFile is given to ssh as -F, in place of ~/.ssh/config and the
	// system's. Optional.
	ConfigFile string
	// Interactive lets ssh ask for passwords and passphrases on the terminal.
	// Without it a login that would have to ask fails. Set it when somebody
	// sits at the terminal.
	Interactive bool
}

// Session is a connection to one target. It serves one call at a time.
type Session struct {
	target Target
	opt    Options
	ctx    context.Context // of Dial: every connection of the session ends with it
	conn   *conn           // nil when lost
	// noShell: the host was found not to run commands for us.
	noShell bool

	folder string // absolute on the host
	name   string // what a single file is to be called; "" when the target is a folder
	pauses []time.Duration
}

// Dial connects and looks at the target: a folder must exist, and so must the
// folder of a file. Errors of ssh are given with what it said and a hint. It
// does not retry. The session lives until Close, or until ctx ends.
func Dial(ctx context.Context, t Target, opt Options) (*Session, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	s := &Session{target: t, opt: opt, ctx: ctx, pauses: []time.Duration{
		time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 20 * time.Second}}
	if err := s.connect(ctx); err != nil {
		return nil, err
	}
	if err := s.resolve(); err != nil {
		return nil, errors.Join(s.fault(err), s.Close())
	}
	return s, nil
}

// IsFolder reports whether the target is a folder. If it is not, it names the
// one file that can be sent.
func (s *Session) IsFolder() bool { return s.name == "" }

// Close ends the connection.
func (s *Session) Close() error {
	if s.conn == nil {
		return nil
	}
	c := s.conn
	s.conn = nil
	return c.close()
}

// resolve finds the target's folder, and whether the target is that folder or
// a file in it.
func (s *Session) resolve() error {
	dir := s.target.Path
	info, err := s.conn.sftp.Stat(dir)
	switch {
	case err == nil && info.IsDir():
	case err == nil && s.target.Dir:
		return fmt.Errorf("target %q: on the host %q is a file: want a folder", s.target, dir)
	case err == nil, errors.Is(err, fs.ErrNotExist) && !s.target.Dir:
		dir, s.name = path.Split(dir)
		dir = path.Clean(dir)
		if err := checkName(s.name); err != nil {
			return fmt.Errorf("target %q: %w", s.target, err)
		}
		if info, err = s.conn.sftp.Stat(dir); err != nil {
			return s.noFolder(dir, err)
		}
		if !info.IsDir() {
			return fmt.Errorf("target %q: on the host %q is a file: want a folder", s.target, dir)
		}
	default:
		return s.noFolder(dir, err)
	}
	if s.folder, err = s.conn.sftp.RealPath(dir); err != nil {
		return fmt.Errorf("resolving folder %q of %s: %w", dir, s.target.Host, err)
	}
	return nil
}

// noFolder is the error of a folder that is not there. It is not made, since
// the reason is a slip of the pen more often than not.
func (s *Session) noFolder(dir string, err error) error {
	err = fmt.Errorf("target %q: looking for folder %q on the host: %w", s.target, dir, err)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w\nhint: ssh%s %s %s", err, s.portArg(), s.login(), quote("mkdir -p "+quote(dir)))
	}
	return err
}
