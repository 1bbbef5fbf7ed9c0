package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kldload/kldload/internal/evidence"
	"github.com/kldload/kldload/internal/run"
	"github.com/kldload/kldload/internal/template"
)

// Roles of what a build reads beside its template.
const (
	roleScript = "script"
	roleUpload = "upload"
	roleChecks = "checks"
)

// uses notes what a provisioner is about to read. What is not there the
// provisioner reports.
func (b *build) uses(p template.Provisioner) error {
	switch {
	case p.Shell != nil:
		return b.usesFiles(roleScript, p.Shell.Scripts)
	case p.File != nil && p.File.Direction != "download":
		return b.usesFiles(roleUpload, p.File.Sources)
	}
	return nil
}

func (b *build) usesFiles(role string, paths []string) error {
	for _, path := range paths {
		sum, err := digestOf(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("noting what the build reads: %w", err)
		}
		in := evidence.Input{Path: template.ShownPath(b.opts.TemplateDir, path), Role: role}
		secret, err := b.holdsSecret(path)
		if err != nil {
			return fmt.Errorf("noting what the build reads: %w", err)
		}
		if !secret {
			in.SHA256 = sum
		}
		if !slices.Contains(b.inputs, in) {
			b.inputs = append(b.inputs, in)
		}
	}
	return nil
}

// maxSecret bounds the files that are looked at for sensitive values: in a
// larger one, no digest helps to guess one.
const maxSecret = 1 << 20

// holdsSecret tells whether a file, or one of a folder, has a sensitive value in
// it: a digest would let a short one be guessed.
func (b *build) holdsSecret(path string) (found bool, err error) {
	if len(b.opts.Sensitive) == 0 {
		return false, nil
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return false, err
	}
	err = filepath.WalkDir(path, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !e.Type().IsRegular() && name != path {
			return err
		}
		st, err := os.Stat(name)
		if err != nil || st.Size() > maxSecret || !st.Mode().IsRegular() {
			return err
		}
		text, err := os.ReadFile(name)
		for _, s := range b.opts.Sensitive {
			if v := strings.TrimSpace(s.Value); v != "" && strings.Contains(string(text), v) {
				found = true
				return fs.SkipAll
			}
		}
		return err
	})
	return found, err
}

// digestOf hashes a file; a folder's digest is that of the lines of sha256sum
// for its regular files, by name. Links in it are left out.
func digestOf(path string) (string, error) {
	st, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !st.IsDir() {
		return evidence.Digest(path)
	}
	if path, err = filepath.EvalSymlinks(path); err != nil { // WalkDir does not follow it
		return "", err
	}
	h := sha256.New()
	err = filepath.WalkDir(path, func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		sum, err := evidence.Digest(name)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(path, name)
		fmt.Fprintf(h, "%s  %s\n", sum, filepath.ToSlash(rel))
		return err
	})
	return hex.EncodeToString(h.Sum(nil)), err
}

// commit asks git where the template's folder is at: nil outside of a
// repository, without git, or where git does not trust the folder's owner. Only
// what is tracked below the folder counts as dirty. The repository's hooks and file
// system monitor do not run.
func commit(ctx context.Context, dir string) *evidence.Git {
	git := func(args ...string) (string, error) {
		args = append([]string{"git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "--no-optional-locks"}, args...)
		out, err := run.Output(ctx, run.Cmd{Doing: "asking git for the commit", Args: args, Dir: dir, Env: gitEnv()})
		return strings.TrimSpace(string(out)), err
	}
	head, err := git("rev-parse", "--verify", "--quiet", "HEAD")
	if err != nil || strings.Trim(head, "0123456789abcdef") != "" {
		return nil
	}
	g := &evidence.Git{Commit: head}
	if g.Commit == "" {
		return nil
	}
	status, err := git("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all", "--", ".")
	g.Dirty = err != nil || status != ""
	if origin, err := git("config", "--get", "remote.origin.url"); err == nil {
		g.URI = publicURL(origin)
	}
	return g
}

// gitEnv is the environment without what would lead git elsewhere.
func gitEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "GIT_") })
}

// publicURL gives a remote's address without a name and password in it; ""
// for one that is no address: a folder, git@host:path.
func publicURL(remote string) string {
	u, err := url.Parse(remote)
	if err != nil || u.Host == "" || u.Scheme == "file" {
		return ""
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}
