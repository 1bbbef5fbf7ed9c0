package remote

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"time"

	"github.com/pkg/sftp"
)

// PutResult says what Put did.
type PutResult struct {
	Path         string // of the file on the host, absolute
	AlreadyThere bool   // same size and digest: nothing was sent
	Resumed      int64  // where in the file sending began, past what an earlier run had left
	Sent         int64  // bytes of the file sent, without holes, with what was sent twice
}

const (
	extPosixRename = "posix-rename@openssh.com"
	extFsync       = "fsync@openssh.com"
)

// maxName is the longest name of a file system (NAME_MAX), less what a part
// file's name adds.
const maxName = 255 - len(".") - len(".part-") - partDigits

// partDigits is how much of the digest a part file's name holds.
const partDigits = 12

// transfer is one Put.
type transfer struct {
	local    *os.File
	size     int64
	digest   string
	part     string // absolute on the host, like final
	final    string
	progress func(done, total int64)
	result   PutResult
	differs  bool  // an old final file was looked at, and is another
	acked    int64 // how far the host was known to have it
}

// Put sends the file local, of size bytes and with the SHA-256 sha256 (hex),
// as name into the target folder; for a target that names a file, name must be
// that name or "". Under its name the file appears whole and proved, mode
// 0644, in place of an older one; it is left alone when it is there already.
//
// It resumes what an earlier run left, and connects again, a few times, when
// the connection is lost. When ctx ends, what has arrived stays for the next
// run. progress is called with offsets in the file, in order except that a
// resumed part may step back; it may be nil.
func (s *Session) Put(ctx context.Context, local string, size int64, sha256, name string, progress func(done, total int64)) (PutResult, error) {
	t, err := s.newTransfer(local, size, sha256, name, progress)
	if err == nil {
		defer t.local.Close()
		err = s.keepTrying(ctx, t)
	}
	if err != nil {
		return PutResult{}, fmt.Errorf("sending %q to %q: %w", local, s.target, err)
	}
	return t.result, nil
}

func (s *Session) newTransfer(local string, size int64, sha256, name string, progress func(int64, int64)) (*transfer, error) {
	if name == "" {
		name = s.name
	}
	if !s.IsFolder() && name != s.name {
		return nil, fmt.Errorf("the target names the file %q, so %q cannot go there\nhint: end it with a slash if it is to be a folder, and make that folder first", s.name, name)
	}
	if err := errors.Join(checkName(name), checkDigest(sha256)); err != nil {
		return nil, err
	}
	f, err := os.Open(local)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && (!info.Mode().IsRegular() || info.Size() != size) {
		err = fmt.Errorf("it has %d bytes (%v): want a regular file of %d", info.Size(), info.Mode(), size)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if progress == nil {
		progress = func(int64, int64) {}
	}
	final := path.Join(s.folder, name)
	return &transfer{
		local: f, size: size, digest: sha256, progress: progress, final: final,
		part:   path.Join(s.folder, "."+name+".part-"+sha256[:partDigits]),
		result: PutResult{Path: final},
	}, nil
}

// checkName wants the name of a file in a folder.
func checkName(name string) error {
	if name == "" || name == "." || name == ".." || path.Base(name) != name {
		return fmt.Errorf("%q: want the name of a file", name)
	}
	if len(name) > maxName {
		return fmt.Errorf("name %q has %d bytes: want %d at most", name, len(name), maxName)
	}
	return checkPrint("name", name)
}

// keepTrying makes attempts until one is answered, or the connection has been
// lost too often without getting further.
func (s *Session) keepTrying(ctx context.Context, t *transfer) error {
	tries := 0
	for {
		before := t.acked
		err := s.attempt(ctx, t)
		var lost *lostError
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !errors.As(err, &lost):
			return err
		}
		if t.acked > before {
			tries = 0
		}
		if tries == len(s.pauses) {
			return fmt.Errorf("giving up after %d attempts in a row: %w\nhint: the same command goes on from byte %d of %d", tries+1, err, t.acked, t.size)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		case <-time.After(s.pauses[tries]):
		}
		tries++
	}
}

// attempt makes one Put on one connection.
func (s *Session) attempt(ctx context.Context, t *transfer) error {
	if s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	if s.conn == nil {
		if err := s.connect(ctx); err != nil {
			return err
		}
	}
	stop := context.AfterFunc(ctx, s.conn.cancel)
	defer stop()
	there, err := s.alreadyThere(ctx, t)
	if err == nil && there {
		t.result.AlreadyThere = t.result.Sent == 0 && t.result.Resumed == 0
		t.progress(t.size, t.size)
		return nil
	}
	if err == nil {
		err = s.sendProved(ctx, t)
	}
	if err == nil {
		err = s.publish(t)
	}
	return s.fault(err)
}

// alreadyThere reports whether the final file is the one to be sent. One that
// could not be replaced later is refused now.
func (s *Session) alreadyThere(ctx context.Context, t *transfer) (bool, error) {
	if t.differs {
		// Only the rename, whose answer may have got lost, can change that.
		if _, err := s.conn.sftp.Lstat(t.part); err == nil {
			return false, nil
		}
	}
	info, err := s.conn.sftp.Stat(t.final)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("looking for %q: %w", t.final, err)
	case !info.Mode().IsRegular():
		return false, fmt.Errorf("%q on the host is not a file (%v)", t.final, info.Mode())
	}
	if info.Size() == t.size {
		sum, err := s.digest(ctx, t.final)
		if err != nil || sum == t.digest {
			return err == nil, err
		}
	}
	if _, ok := s.conn.sftp.HasExtension(extPosixRename); !ok {
		return false, errKept(t.final)
	}
	t.differs = true
	return false, nil
}

// errKept refuses to take an old file away before the new one has its name.
func errKept(name string) error {
	return fmt.Errorf("another file %q is on the host, which cannot replace one at once (no %s)\nhint: remove it, or send under another name", name, extPosixRename)
}

// sendProved brings the part file to its full, proved content: a second time
// from nothing when what an earlier run left proves wrong.
func (s *Session) sendProved(ctx context.Context, t *transfer) error {
	var sum string
	for _, anew := range []bool{false, true} {
		err := s.upload(t, anew)
		if err == nil {
			sum, err = s.digest(ctx, t.part)
		}
		if err != nil || sum == t.digest {
			return err
		}
	}
	err := fmt.Errorf("%q has SHA-256 %s on the host, though sent twice: want %s\nhint: was the local file changed meanwhile?", t.part, sum, t.digest)
	return errors.Join(err, s.conn.sftp.Remove(t.part))
}

// publish gives the part file its final name.
func (s *Session) publish(t *transfer) error {
	client := s.conn.sftp
	if _, ok := client.HasExtension(extPosixRename); ok {
		if err := client.PosixRename(t.part, t.final); err != nil {
			return fmt.Errorf("renaming %q to %q: %w", t.part, t.final, err)
		}
		return nil
	}
	// SFTP 3, section 6.5: an error if the new name exists.
	err := client.Rename(t.part, t.final)
	var status *sftp.StatusError
	if errors.As(err, &status) {
		if _, there := client.Lstat(t.final); there == nil {
			return errKept(t.final)
		}
	}
	if err != nil {
		return fmt.Errorf("renaming %q to %q: %w", t.part, t.final, err)
	}
	return nil
}
