package pipeline

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kldload/kldload/internal/evidence"
	"github.com/kldload/kldload/internal/template"
)

func TestGroups(t *testing.T) {
	b := newBuild(t, kexport("a", "", "raw", "qcow2"), kexport("b", "other", "vmdk"))
	if err := b.planOutputs(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.dropPlaces(); err != nil {
			t.Error(err)
		}
	})
	got := map[string]int{}
	for _, g := range b.groups() {
		got[g.path] = len(g.arts)
	}
	if diff := cmp.Diff(map[string]int{"a/web": 2, "b/other": 1}, got); diff != "" {
		t.Error(diff)
	}
}

func TestOpenKey(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	b := newBuild(t)
	b.key = nil
	if err := b.openKey(); err != nil || b.key != nil {
		t.Errorf("without a key: %v, and one is made before it is needed: %v", err, b.key != nil)
	}
	flag, err := evidence.Generate("flag.key")
	if err != nil {
		t.Fatal(err)
	}
	set, err := evidence.Generate("set.key")
	if err != nil {
		t.Fatal(err)
	}
	b.src.SignKey = "set.key"
	if err := b.openKey(); err != nil || b.key.Public.Fingerprint() != set.Public.Fingerprint() {
		t.Errorf("the template's key is not taken: %v", err)
	}
	b.opts.SignKey = "flag.key"
	if err := b.openKey(); err != nil || b.key.Public.Fingerprint() != flag.Public.Fingerprint() {
		t.Errorf("the flag's key does not come first: %v", err)
	}
	b.opts.SignKey = "nothing.key"
	if err := b.openKey(); err == nil {
		t.Error("a key that is not there is taken")
	}
}

func TestDescriptionsAreSigned(t *testing.T) {
	b := newBuild(t)
	texts := map[string][]byte{"x/manifest.json": []byte("{}\n")}
	b.signTexts(texts)
	if len(texts) != 2 || b.key.Public.Verify([]byte("{}\n"), texts["x/manifest.json.sig"]) != nil {
		t.Errorf("%q", texts)
	}
}

func TestUses(t *testing.T) {
	b := newBuild(t)
	write(t, "t/run.sh", "true\n")
	write(t, "t/folder/b", "b")
	write(t, "t/folder/a/x", "x")
	if err := os.Symlink("/etc/passwd", "t/folder/link"); err != nil {
		t.Fatal(err)
	}
	b.opts.TemplateDir = "t"
	folder := &template.File{Direction: "upload", Sources: []string{"t/folder", "t/nothing"}}
	for _, p := range []template.Provisioner{
		{Shell: &template.Shell{Scripts: []string{"t/run.sh"}}}, {Shell: &template.Shell{Scripts: []string{"./t/run.sh"}}},
		{Shell: &template.Shell{Inline: []string{"true"}}}, {File: folder},
		{File: &template.File{Direction: "download", Sources: []string{"/etc/hostname"}}},
	} {
		if err := b.uses(p); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("sh", "-ec", "sha256sum <t/run.sh; cd t/folder; find . -type f -printf '%P\n' | LC_ALL=C sort | xargs sha256sum | sha256sum").Output()
	if err != nil {
		t.Fatal(err)
	}
	sums := strings.Fields(string(out))
	want := []evidence.Input{{Path: "run.sh", Role: roleScript, SHA256: sums[0]}, {Path: "folder", Role: roleUpload, SHA256: sums[2]}}
	if diff := cmp.Diff(want, b.inputs); diff != "" {
		t.Error(diff)
	}
}

// A link to a folder is uploaded as the folder, and has its digest.
func TestDigestOfALinkToAFolder(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "folder", "x"), "x")
	if err := os.Symlink("folder", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	want, errA := digestOf(filepath.Join(dir, "folder"))
	got, errB := digestOf(filepath.Join(dir, "link"))
	if errA != nil || errB != nil || got != want {
		t.Errorf("link %s, %v; folder %s, %v", got, errB, want, errA)
	}
}

// A digest of a file that holds a short secret would let it be guessed.
func TestUsesTellsNoDigestOfASecret(t *testing.T) {
	b := newBuild(t)
	write(t, "t/pin", "4711\n")
	write(t, "t/folder/pin", "4711\n")
	write(t, "t/run.sh", "true\n")
	b.opts.TemplateDir = "t"
	b.opts.Sensitive = []template.Secret{{Name: "var.pin", Value: "4711"}}
	if err := b.uses(template.Provisioner{File: &template.File{Direction: "upload", Sources: []string{"t/pin", "t/folder", "t/run.sh"}}}); err != nil {
		t.Fatal(err)
	}
	for _, in := range b.inputs {
		if (in.SHA256 != "") != (in.Path == "run.sh") {
			t.Errorf("%s: sha256 %q", in.Path, in.SHA256)
		}
	}
	if len(b.inputs) != 3 {
		t.Errorf("%d inputs, want 3", len(b.inputs))
	}
}

// git runs git, which judges and makes what commit reads.
func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestCommit(t *testing.T) {
	t.Setenv("GIT_DIR", "/nowhere") // of a hook that runs us
	dir := t.TempDir()
	if g := commit(t.Context(), dir); g != nil {
		t.Errorf("outside of a repository: %+v", g)
	}
	if err := os.Unsetenv("GIT_DIR"); err != nil {
		t.Fatal(err)
	}
	git(t, dir, "init", "-q")
	if g := commit(t.Context(), dir); g != nil {
		t.Errorf("before the first commit: %+v", g)
	}
	write(t, filepath.Join(dir, "t", "a.pkr.hcl"), "one\n")
	write(t, filepath.Join(dir, "elsewhere"), "one\n")
	git(t, dir, "add", "-A")
	git(t, dir, "commit", "-q", "-m", "x")
	git(t, dir, "remote", "add", "origin", "https://joe:"+"s3cret"+"@example.org/images.git?token=1")
	marker := filepath.Join(t.TempDir(), "ran")
	git(t, dir, "config", "core.fsmonitor", "touch "+marker+"; false")
	write(t, filepath.Join(dir, "t", "untracked"), "")
	write(t, filepath.Join(dir, "elsewhere"), "two\n")

	want := &evidence.Git{URI: "https://example.org/images.git", Commit: git(t, dir, "rev-parse", "HEAD")}
	if err := os.Remove(marker); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, commit(t.Context(), filepath.Join(dir, "t"))); diff != "" {
		t.Error(diff)
	}
	write(t, filepath.Join(dir, "t", "a.pkr.hcl"), "two\n")
	want.Dirty = true
	if diff := cmp.Diff(want, commit(t.Context(), filepath.Join(dir, "t"))); diff != "" {
		t.Error(diff)
	}
	if _, err := os.Stat(marker); err == nil {
		t.Error("a program of the repository's configuration ran")
	}
	t.Setenv("PATH", "/nowhere")
	if g := commit(context.Background(), dir); g != nil {
		t.Errorf("without git: %+v", g)
	}
}

func TestPublicURL(t *testing.T) {
	for remote, want := range map[string]string{
		"https://example.org/a.git":       "https://example.org/a.git",
		"https://u:p@example.org/a?t=1#x": "https://example.org/a",
		"ssh://git@example.org/a":         "ssh://example.org/a",
		"git@example.org:a/b.git":         "",
		"/srv/git/a":                      "",
		"file:///srv/a":                   "",
		"":                                "",
	} {
		if got := publicURL(remote); got != want {
			t.Errorf("%q: %q, want %q", remote, got, want)
		}
	}
}
