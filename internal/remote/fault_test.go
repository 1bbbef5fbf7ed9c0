package remote

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func wantError(t *testing.T, err error, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Fatalf("got %v, want an error with %q", err, text)
		}
	}
}

func TestDialRefuses(t *testing.T) {
	t.Parallel()
	host := newSSHD(t)
	dial := func(change func(*Target, *Options)) error {
		target, opt := host.Target, host.Options
		change(&target, &opt)
		s, err := Dial(t.Context(), target, opt)
		if err == nil {
			s.Close()
		}
		return err
	}
	file := host.write(t, "file", "x")
	wantError(t, dial(func(t *Target, _ *Options) { t.Path += "/none" }), "none", "not exist", "hint: ssh -p ", "mkdir -p ")
	wantError(t, dial(func(t *Target, _ *Options) { t.Path += "/none/a.raw"; t.Dir = false }), "not exist", "hint: ssh -p ")
	wantError(t, dial(func(t *Target, _ *Options) { t.Path = file }), "want a folder")
	wantError(t, dial(func(t *Target, _ *Options) { t.Path = file + "/x"; t.Dir = false }), "file")
	wantError(t, dial(func(t *Target, _ *Options) { t.User = "nobody-here" }), "Permission denied", "hint: ssh found no key")
	wantError(t, dial(func(t *Target, _ *Options) { t.Host = "name.invalid" }), "Could not resolve", "hint: check the name")
	wantError(t, dial(func(t *Target, _ *Options) { t.Port = 1 }), "refused", "hint: is sshd running")
	wantError(t, dial(func(t *Target, _ *Options) { t.Host = "-oProxyCommand=id" }), "option")
	wantError(t, dial(func(_ *Target, o *Options) { o.ConfigFile = file + "none" }), "hint: that is the file given")

	host.write(t, "known_hosts", "")
	wantError(t, dial(func(*Target, *Options) {}), "connection to", "hint: the host is not known yet", "ssh-keyscan -p ")
	if s := host.read(t, "known_hosts"); s != "" {
		t.Errorf("known_hosts has now %q", s)
	}
	host.know(t)
	if err := os.Remove(filepath.Join(host.dir, "host")); err != nil {
		t.Fatal(err)
	}
	host.keygen(t, "host")
	wantError(t, dial(func(*Target, *Options) {}), "has changed", "hint: the host shows another key", "ssh-keygen -R '[127.0.0.1]:")
}

func TestDialWithoutSFTP(t *testing.T) {
	t.Parallel()
	host := newSSHD(t, "ForceCommand echo welcome, this is a very friendly host")
	_, err := Dial(t.Context(), host.Target, host.Options)
	wantError(t, err, "speaking SFTP", "hint: a login file")
}

func TestFileTarget(t *testing.T) {
	t.Parallel()
	host := newSSHD(t)
	host.Target.Path, host.Target.Dir = host.Target.Path+"/new.raw", false
	s := host.dial(t)
	if s.IsFolder() {
		t.Fatal("a file is taken for a folder")
	}
	img := newImage(t, 100, [2]int64{0, 100})
	img.put(t, s, "")
	img.expect(t, host.Target.Path)
	_, err := s.Put(t.Context(), img.path, img.size, img.digest, "other.raw", nil)
	wantError(t, err, "names the file", "hint: end it with a slash")

	c := s.conn
	if err := errors.Join(s.Close(), s.Close()); err != nil || c.exit != nil {
		t.Errorf("closing: %v; ssh ended with %v", err, c.exit)
	}

	host.Target.Path = filepath.Dir(host.Target.Path)
	if s := host.dial(t); !s.IsFolder() {
		t.Error("an existing folder is taken for a file")
	}
}

func TestPutRefuses(t *testing.T) {
	t.Parallel()
	host := newSSHD(t)
	s := host.dial(t)
	img := newImage(t, 100, [2]int64{0, 100})
	put := func(size int64, digest, name string) error {
		_, err := s.Put(t.Context(), img.path, size, digest, name, nil)
		return err
	}
	wantError(t, put(img.size, img.digest, "../up"), "want the name of a file")
	wantError(t, put(img.size, img.digest, ""), "want the name of a file")
	wantError(t, put(img.size, img.digest, "a\nb"), "cannot be part of it")
	wantError(t, put(img.size, img.digest, strings.Repeat("n", 300)), "300 bytes")
	wantError(t, put(img.size, strings.ToUpper(img.digest), "a"), "lower-case")
	wantError(t, put(99, img.digest, "a"), "want a regular file of 99")
	wrong := "00" + img.digest[2:]
	wantError(t, put(img.size, wrong, "a"), img.digest, wrong, "sent twice")
	if err := os.Mkdir(filepath.Join(host.Target.Path, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	wantError(t, put(img.size, img.digest, "dir"), "not a file")
	if err := os.Symlink("/etc/passwd", img.partName(host.Target.Path, "link")); err != nil {
		t.Fatal(err)
	}
	wantError(t, put(img.size, img.digest, "link"), "not a file")

	// Nobody makes files there, not even root.
	host.Target.Path = "/sys/kernel"
	s = host.dial(t)
	wantError(t, put(img.size, img.digest, "a"), "making part file", "permission denied")
}

func TestPutToFullDisk(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	host := newSSHD(t)
	if err := unix.Mount("tmpfs", host.Target.Path, "tmpfs", 0, "size=6m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(host.Target.Path, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	img := newImage(t, 8<<20, [2]int64{0, 8 << 20})
	_, err := host.dial(t).Put(t.Context(), img.path, img.size, img.digest, "a.raw", nil)
	wantError(t, err, "writing", "hint: the host's file system", "has only 0 bytes free")
}

// An end of the context leaves the part for the next run.
func TestPutCancelled(t *testing.T) {
	t.Parallel()
	host := newSSHD(t)
	host.Options.Interactive = true // ssh in our process group: ended by itself
	s := host.dial(t)
	img := newImage(t, 16<<20, [2]int64{0, 16 << 20})
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("enough")
	_, err := s.Put(ctx, img.path, img.size, img.digest, "a.raw", func(done, _ int64) {
		if done > 8<<20 {
			cancel(stop)
		}
	})
	if !errors.Is(err, stop) {
		t.Fatalf("got %v, want %v", err, stop)
	}
	if _, err := os.Stat(img.partName(host.Target.Path, "a.raw")); err != nil {
		t.Error(err)
	}
	got := img.put(t, s, "a.raw") // the session connects again
	if got.Resumed == 0 {
		t.Error("began anew")
	}
	img.expect(t, got.Path)
}
