package darksite

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kldload/kldload/internal/run"
)

func replace(t *testing.T, name, old, now string) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(data, []byte(old)) {
		t.Fatalf("%s has no %q", name, old)
	}
	if err := os.WriteFile(name, bytes.Replace(data, []byte(old), []byte(now), 1), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestOpenRejectsTampering(t *testing.T) {
	m := newMirror(t)
	o := m.options()
	mustCreate(t, o)
	site := o.Output
	const index = "dists/bookworm/main/binary-amd64/Packages"
	for name, c := range map[string]struct {
		do   func()
		want string
	}{
		"lock":      {func() { replace(t, filepath.Join(site, lockName), `"version": "1"`, `"version": "9"`) }, "darksite.lock is not the signed one"},
		"index":     {func() { replace(t, filepath.Join(site, index), "Version: 1", "Version: 9") }, index + " is damaged"},
		"signature": {func() { replace(t, filepath.Join(site, "dists/bookworm/InRelease"), "Label: ", "Label: x") }, "signature of dists/bookworm/InRelease"},
		"key": {func() {
			other, err := os.ReadFile(m.keyring)
			if err == nil {
				err = os.WriteFile(filepath.Join(site, keyName), other, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}, "signature of dists/bookworm/InRelease"},
		"size":    {func() { replace(t, filepath.Join(site, "pool/main/b/bb/bb_1_amd64.deb"), "!<arch>", "!<arch>x") }, "package bb 1: pool/main/b/bb/bb_1_amd64.deb is damaged"},
		"missing": {func() { os.Remove(filepath.Join(site, "pool/main/b/bb/bb_1_amd64.deb")) }, "package bb 1: pool/main/b/bb/bb_1_amd64.deb is missing"},
		"outside": {func() { replace(t, filepath.Join(site, lockName), "pool/main/b/bb", "pool/../../bb") }, "outside the pool"},
	} {
		t.Run(name, func(t *testing.T) {
			backup := filepath.Join(t.TempDir(), "copy")
			if err := os.CopyFS(backup, os.DirFS(site)); err != nil {
				t.Fatal(err)
			}
			c.do()
			_, err := Open(site)
			wantError(t, err, c.want)
			if err := os.RemoveAll(site); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(site, os.DirFS(backup)); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(site); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestVerifyRefusesStrays(t *testing.T) {
	o := newMirror(t).options()
	mustCreate(t, o)
	if err := os.WriteFile(filepath.Join(o.Output, "pool/extra.deb"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := Verify(t.Context(), o.Output, nil)
	wantError(t, err, "pool/extra.deb: not part of the darksite")
}

func TestVerifyProvesInstallation(t *testing.T) {
	o := newMirror(t).options()
	l := mustCreate(t, o)
	// A darksite whose signed state does not install: aa's dependency is in
	// neither the lock nor the index.
	dir := t.TempDir()
	broken := *l
	broken.Packages = nil
	entries := map[string]string{}
	for _, p := range l.Packages {
		if p.Name == "bb" {
			continue
		}
		got, entry, err := addDeb(t.Context(), dir, filepath.Join(o.Output, p.Filename))
		if err != nil {
			t.Fatal(err)
		}
		broken.Packages = append(broken.Packages, got)
		entries[got.Filename] = entry
	}
	key, err := signingKey("")
	if err != nil {
		t.Fatal(err)
	}
	if err := writeIndex(dir, &broken, entries, key); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err != nil {
		t.Fatal(err)
	}
	_, err = Verify(t.Context(), dir, nil)
	wantError(t, err, "simulating profile p", "aa : Depends: bb")
}

// gpgv is what apt verifies with.
func TestGpgvAcceptsTheSignature(t *testing.T) {
	o := newMirror(t).options()
	mustCreate(t, o)
	err := run.Run(t.Context(), run.Cmd{Doing: "verifying", Args: []string{"gpgv", "--keyring", filepath.Join(o.Output, keyName),
		filepath.Join(o.Output, "dists/bookworm/InRelease")}})
	if err != nil {
		t.Error(err)
	}
}

func TestSigningKeyIsPrivate(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	first, err := signingKey("")
	if err != nil {
		t.Fatal(err)
	}
	name, _ := keyPath()
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key: %v, %v", info, err)
	}
	if info, err := os.Stat(filepath.Dir(name)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("its folder: %v, %v", info, err)
	}
	again, err := signingKey(name)
	if err != nil || fingerprint(again) != fingerprint(first) {
		t.Errorf("read back: %v", err)
	}
	if err := os.Chmod(name, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = signingKey("")
	wantError(t, err, "mode 0644 lets others read it", "hint: chmod 600")
}

func TestServe(t *testing.T) {
	o := newMirror(t).options()
	mustCreate(t, o)
	if err := os.Symlink("/etc/hostname", filepath.Join(o.Output, "pool/out")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	addr, done := make(chan string, 1), make(chan error, 1)
	go func() {
		done <- Serve(ctx, o.Output, "127.0.0.1:0", func(d *Darksite, a string) {
			if line := d.AptSource("http://" + a); !strings.HasSuffix(line, "darksite.gpg] http://"+a+" bookworm main") {
				t.Errorf("apt line %q", line)
			}
			addr <- a
		})
	}()
	base := "http://" + <-addr
	for path, want := range map[string]int{"/darksite.lock": 200, "/dists/bookworm/InRelease": 200, "/../../etc/passwd": 404, "/pool/out": 404, "/nothing": 404} {
		if got, body := get(t, base+path); got != want && (want == 200 || got == 200) {
			t.Errorf("%s: %d, want %d (%.40s)", path, got, want, body)
		}
	}
	resp, err := http.Post(base+"/x", "text/plain", nil)
	if err != nil || resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %v, %v", resp, err)
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it does not end")
	}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}
