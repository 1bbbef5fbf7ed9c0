package pipeline

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestQuoteSurvivesTheShell(t *testing.T) {
	for _, s := range []string{"", "plain", "it's", `a "b" $c \d`, "two\nlines", "'", "''x'", "-n"} {
		out, err := exec.Command("sh", "-c", "printf %s "+quote(s)).Output()
		if err != nil || string(out) != s {
			t.Errorf("%q came back as %q, %v", s, out, err)
		}
	}
}

func TestScriptError(t *testing.T) {
	b := &build{apt: t.TempDir()}
	for name, c := range map[string]struct {
		where string
		valid []int
		last  []string
		want  string
	}{
		"bare":    {"", []int{0}, nil, "provisioning with x: exit status 100"},
		"valid":   {"", []int{0, 3}, nil, "provisioning with x: exit status 100 (valid: [0 3])"},
		"located": {"12 (false)", []int{0}, []string{"one", "two"}, "provisioning with x: exit status 100 at line 12 (false)\n  two"},
		"package": {"", []int{0}, []string{"E: Unable to locate package ncat"}, "provisioning with x: exit status 100\n  E: Unable to locate package ncat\n" +
			"hint: the darksite has no package \"ncat\"; add it with\n" +
			"      kldload darksite create --extra-package ncat …; or write a source of your own below\n" +
			"      /etc/apt/sources.list.d, set network = true on this provisioner and run apt-get update"},
	} {
		if err := os.WriteFile(filepath.Join(b.apt, "failed"), []byte(c.where), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := b.scriptError("provisioning with x", 100, c.valid, c.last).Error(); got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, c.want)
		}
	}
}

func TestFirstErrorIsTheCause(t *testing.T) {
	packer, disk := errors.New("packer"), errors.New("disk")
	for _, c := range []struct {
		name          string
		written, read error
		ended         bool // the packer, before the disk
		want          error
	}{
		{"well", nil, nil, true, nil},
		{"packer killed", packer, disk, true, packer},
		{"disk full", packer, disk, false, disk},
		{"disk full at the end", nil, disk, true, disk},
		{"packer last", packer, nil, false, packer},
	} {
		r, w := io.Pipe()
		written := make(chan error, 1)
		if c.ended {
			written <- c.written
		} else {
			go func() { // ends when its reader goes
				_, _ = w.Write([]byte("x"))
				written <- c.written
			}()
		}
		if got := firstError(written, c.read, r); !errors.Is(got, c.want) {
			t.Errorf("%s: got %v", c.name, got)
		}
	}
}

// uploadTo runs the file provisioner's upload on a small tree.
func uploadTo(t *testing.T, dest string, content *string, sources ...string) (root, tmp string, err error) {
	t.Helper()
	root, tmp = t.TempDir(), t.TempDir()
	write(t, filepath.Join(root, "etc/old.conf"), "a longer old text")
	_, err = upload(transferArg{Root: root, Tmp: tmp, Sources: sources, Content: content, Dest: dest})
	return root, tmp, err
}

func TestUploadTargets(t *testing.T) {
	host := t.TempDir()
	write(t, filepath.Join(host, "app/bin/run"), "run")
	write(t, filepath.Join(host, "one.conf"), "one")
	for _, err := range []error{
		os.Chmod(filepath.Join(host, "app/bin/run"), 0o750),
		os.Symlink("run", filepath.Join(host, "app/bin/alias")), os.Symlink("app", filepath.Join(host, "link")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	text := "text"
	for _, c := range []struct{ src, dest, want string }{
		{"one.conf", "/etc/new.conf", "etc/new.conf"},
		{"one.conf", "/etc/old.conf", "etc/old.conf"},
		{"one.conf", "/etc", "etc/one.conf"},
		{"one.conf", "/etc/", "etc/one.conf"},
		{"one.conf", "/../etc/x", "etc/x"},
		{"one.conf", "/tmp/x", "T/x"},
		{"one.conf", "/tmp", "T/one.conf"},
		{"app", "/opt", "opt/app/bin/run"},
		{"app/", "/opt", "opt/bin/run"},
		{"app/", "/tmp/", "T/bin/run"},
		{"link", "/opt", "opt/link/bin/run"},
		{"", "/etc/motd", "etc/motd"},
	} {
		var content *string
		sources := []string{filepath.Join(host, c.src)}
		if strings.HasSuffix(c.src, "/") {
			sources[0] += "/"
		}
		if c.src == "" {
			content, sources = &text, nil
		}
		root, tmp, err := uploadTo(t, c.dest, content, sources...)
		at := filepath.Join(root, c.want)
		if rest, ok := strings.CutPrefix(c.want, "T/"); ok {
			at = filepath.Join(tmp, rest)
		}
		want := map[string]string{"one.conf": "one", "": "text"}[c.src]
		if want == "" {
			want = "run"
		}
		if got, readErr := os.ReadFile(at); err != nil || readErr != nil || string(got) != want {
			t.Errorf("%q to %q: %q, %v, %v", c.src, c.dest, got, err, readErr)
		}
		if st, err := os.Stat(at); want == "run" && (err != nil || st.Mode().Perm() != 0o750) {
			t.Errorf("%q to %q: mode %v, %v", c.src, c.dest, st.Mode(), err)
		}
		if link, err := os.Readlink(filepath.Join(filepath.Dir(at), "alias")); want == "run" && (err != nil || link != "run") {
			t.Errorf("%q to %q: alias → %q, %v", c.src, c.dest, link, err)
		}
	}
}

func TestUploadReplacesLinksAndRefusesTheRest(t *testing.T) {
	host, root := t.TempDir(), t.TempDir()
	if err := os.Symlink("there", filepath.Join(host, "l")); err != nil {
		t.Fatal(err)
	}
	arg := transferArg{Root: root, Tmp: t.TempDir(), Sources: []string{host + "/"}, Dest: "/opt"}
	for range 2 {
		if _, err := upload(arg); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("mkfifo", filepath.Join(host, "pipe")).CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	for _, src := range []string{host + "/", host + "/pipe"} {
		arg.Sources = []string{src}
		if _, err := upload(arg); err == nil || !strings.Contains(err.Error(), "it is neither file") {
			t.Errorf("%s: got %v", src, err)
		}
	}
}

func TestUploadStaysInTheTree(t *testing.T) {
	outside, root := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(root, "way")); err != nil {
		t.Fatal(err)
	}
	text := "x"
	_, err := upload(transferArg{Root: root, Tmp: t.TempDir(), Content: &text, Dest: "/way/x"})
	if err == nil || list(t, outside) != "" {
		t.Errorf("wrote %q, %v", list(t, outside), err)
	}
	_, err = upload(transferArg{Root: root, Tmp: t.TempDir(), Content: &text, Dest: "/no/folder/x"})
	if err == nil || !strings.Contains(err.Error(), "hint: the destination's folder must exist") {
		t.Errorf("got %v", err)
	}
}

func TestDownload(t *testing.T) {
	root, tmp, host := t.TempDir(), t.TempDir(), t.TempDir()
	write(t, filepath.Join(root, "etc/os-release"), "debian")
	write(t, filepath.Join(tmp, "report"), "report")
	for _, c := range []struct{ src, dest, want string }{
		{"/etc/os-release", "got", "got"}, {"/etc/os-release", "new/", "new/os-release"}, {"/tmp/report", ".", "report"},
	} {
		dest := filepath.Join(host, c.dest)
		if strings.HasSuffix(c.dest, "/") {
			dest += "/"
		}
		if _, err := download(transferArg{Root: root, Tmp: tmp, Sources: []string{c.src}, Dest: dest}); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(filepath.Join(host, c.want)); err != nil {
			t.Error(err)
		}
	}
	_, err := download(transferArg{Root: root, Tmp: tmp, Sources: []string{"/etc"}, Dest: filepath.Join(host, "x")})
	if err == nil || !strings.Contains(err.Error(), "/etc is no regular file") {
		t.Errorf("got %v", err)
	}
}

func TestTheUmaskDoesNotReachTheTree(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	dir := filepath.Join(t.TempDir(), "root")
	if err := makeDir(dir); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
}
