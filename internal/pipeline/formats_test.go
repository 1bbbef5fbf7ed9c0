package pipeline

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kldload/kldload/internal/ui"
)

// formatted runs the step formats of a build on a small disk.
func formatted(t *testing.T, b *build) {
	t.Helper()
	if err := b.planOutputs(); err != nil {
		t.Fatal(err)
	}
	b.raw = filepath.Join(b.places[0].staging, ".web.disk")
	disk := make([]byte, 1<<20)
	copy(disk[300<<10:], bytes.Repeat([]byte("data"), 50000))
	write(t, b.raw, string(disk))
	if _, err := b.formats(t.Context(), ui.New(&bytes.Buffer{}, ui.Quiet).Stage("formats")); err != nil {
		t.Fatal(err)
	}
}

func TestFormatsAreWrittenInOnePassWithTheirChecksums(t *testing.T) {
	b := newBuild(t, kexport("", "", "qcow2"), kexport("", "", "raw"), kexport("b", "db", "qcow2"))
	formatted(t, b)
	if got, want := list(t, b.places[0].staging), ".web.disk web.manifest.json web.qcow2 web.qcow2.sha256 web.raw web.raw.sha256"; got != want {
		t.Errorf("out holds %s: want %s", got, want)
	}
	if got, want := list(t, b.places[1].staging), "db.manifest.json db.qcow2 db.qcow2.sha256"; got != want {
		t.Errorf("b holds %s: want %s", got, want)
	}
	for _, p := range b.places {
		cmd := exec.Command("sh", "-c", "sha256sum --strict -c *.sha256")
		cmd.Dir = p.staging
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %s", err, out)
		}
	}
	text, err := os.ReadFile(filepath.Join(b.places[0].staging, "web.manifest.json"))
	if err != nil || strings.Count(string(text), `"file"`) != 2 {
		t.Errorf("%v: %s", err, text)
	}
	if len(b.result.Files) != 5 {
		t.Errorf("files %v", b.result.Files)
	}
}

func TestBootTakesWhatAMachineTakes(t *testing.T) {
	for _, c := range []struct{ formats, want string }{
		{"raw", "out/web.raw"}, {"vmdk qcow2", "out/web.qcow2"}, {"vmdk ova", "the disk that all formats were written from"},
	} {
		b := newBuild(t, kexport("", "", strings.Fields(c.formats)...))
		b.raw = "disk"
		if err := b.planOutputs(); err != nil {
			t.Fatal(err)
		}
		path, art := b.bootDisk()
		if art.Path != c.want || (art.staged == "") != (path == "disk") {
			t.Errorf("%s: boots %s as %q, want %q", c.formats, path, art.Path, c.want)
		}
		if err := b.dropPlaces(); err != nil {
			t.Error(err)
		}
	}
}
