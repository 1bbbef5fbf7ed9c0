package pipeline

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kldload/kldload/internal/disk"
	"github.com/kldload/kldload/internal/evidence"
	"github.com/kldload/kldload/internal/template"
)

// kexport is a chain of one kexport.
func kexport(dir, name string, formats ...string) []template.PostProcessor {
	return []template.PostProcessor{{Type: "kexport", Kexport: &template.Kexport{Formats: formats, OutputDirectory: dir, VMName: name}}}
}

// newBuild is a build in an empty working directory, as far as outputs go.
func newBuild(t *testing.T, chains ...[]template.PostProcessor) *build {
	t.Helper()
	key, err := evidence.Generate(filepath.Join(t.TempDir(), "signing.key"))
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	src := &template.Kldload{OutputDirectory: "out", VMName: "web"}
	return &build{
		src: *src, key: key, ids: disk.NewIdentity("test"), opts: Options{Now: func() time.Time { return time.Unix(1700000000, 0) }},
		spec: template.Build{Source: template.Source{Type: "kldload", Name: "web", Kldload: src}, PostProcessors: chains},
	}
}

func list(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestPlanOutputs(t *testing.T) {
	for name, c := range map[string]struct {
		chains [][]template.PostProcessor
		want   string
	}{
		"no kexport":  {nil, "out/web.raw"},
		"two formats": {[][]template.PostProcessor{kexport("", "", "qcow2", "raw")}, "out/web.qcow2 out/web.raw"},
		"twice":       {[][]template.PostProcessor{kexport("", "", "raw"), kexport("./out", "", "raw", "qcow2")}, "out/web.raw out/web.qcow2"},
		"elsewhere":   {[][]template.PostProcessor{kexport("", "", "raw"), kexport("b", "x", "raw")}, "out/web.raw b/x.raw"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBuild(t, c.chains...)
			if err := b.planOutputs(); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, a := range b.artifacts() {
				got = append(got, a.Path)
				if !strings.HasPrefix(a.staged, "."+filepath.Dir(a.Path)+stagingInfix) || filepath.Base(a.staged) != filepath.Base(a.Path) {
					t.Errorf("%s is staged at %s", a.Path, a.staged)
				}
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("got %v: want %s", got, c.want)
			}
			if err := b.dropPlaces(); err != nil || list(t, ".") != "" {
				t.Errorf("left %q, %v", list(t, "."), err)
			}
		})
	}
}

func TestPlanOutputsRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		chains  [][]template.PostProcessor
		prepare func(t *testing.T)
		want    string
	}{
		"a folder that exists": {nil, func(t *testing.T) { write(t, "out/x", "") }, `output folder "out" exists`},
		"a file that exists":   {nil, func(t *testing.T) { write(t, "out", "") }, "there is a file of that name"},
		"one inside the other": {[][]template.PostProcessor{kexport("out", "", "raw"), kexport("out/sub", "", "raw")}, func(*testing.T) {}, `"out/sub" is inside output folder "out"`},
		"the second exists": {[][]template.PostProcessor{kexport("a", "", "raw"), kexport("b", "", "raw")},
			func(t *testing.T) { write(t, "b/x", "") }, `output folder "b" exists`},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBuild(t, c.chains...)
			c.prepare(t)
			before := list(t, ".")
			err := b.planOutputs()
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v: want %q", err, c.want)
			}
			if got := list(t, "."); got != before {
				t.Errorf("left %q: there was %q", got, before)
			}
		})
	}
}

func TestTheSameFolderByTwoNamesIsOnePlace(t *testing.T) {
	b := newBuild(t)
	abs, err := filepath.Abs("out")
	if err != nil {
		t.Fatal(err)
	}
	b.spec.PostProcessors = [][]template.PostProcessor{kexport("", "", "raw"), kexport(abs, "", "qcow2")}
	if err := b.planOutputs(); err != nil || len(b.places) != 1 || len(b.artifacts()) != 2 {
		t.Fatalf("%d places, %v", len(b.places), err)
	}
	for _, name := range []string{"out/manifest.json", filepath.Join(abs, "manifest.json"), "./out/../out/manifest.json"} {
		if at, in := b.staged(name); !in || at != filepath.Join(b.places[0].staging, "manifest.json") {
			t.Errorf("%s is staged at %s", name, at)
		}
	}
	for _, name := range []string{"manifest.json", "out2/x", "../out/x"} {
		if at, in := b.staged(name); in || at != name {
			t.Errorf("%s is staged at %s", name, at)
		}
	}
}

func TestRenameReplacesOnlyWhenAsked(t *testing.T) {
	for _, force := range []bool{false, true} {
		b := newBuild(t)
		if err := b.planOutputs(); err != nil {
			t.Fatal(err)
		}
		p := b.places[0]
		write(t, p.arts[0].staged, "new")
		write(t, "out/other", "of another process, made meanwhile")
		err := p.rename(force)
		want := map[bool]string{false: "other", true: "web.raw"}[force]
		if (err == nil) != force || list(t, "out") != want {
			t.Errorf("force %v: out holds %q, %v", force, list(t, "out"), err)
		}
		if err := b.dropPlaces(); err != nil || list(t, ".") != "out" {
			t.Errorf("force %v: left %q, %v", force, list(t, "."), err)
		}
	}
}

func TestSweepRemovesWhatTheDeadLeft(t *testing.T) {
	b := newBuild(t)
	write(t, ".out.partial-1-123/x", "")         // process 1 lives
	write(t, ".out.partial-4194305-123/x", "")   // above PID_MAX_LIMIT, proc(5)
	write(t, ".other.partial-4194305-123/x", "") // of another output folder
	if err := errors.Join(b.planOutputs(), b.dropPlaces()); err != nil {
		t.Fatal(err)
	}
	if got := list(t, "."); got != ".other.partial-4194305-123 .out.partial-1-123" {
		t.Errorf("left %q", got)
	}
}

// described runs describe on a build with one artifact and these descriptions.
func described(t *testing.T, b *build, p ...template.PostProcessor) map[string][]byte {
	t.Helper()
	b.spec.PostProcessors = [][]template.PostProcessor{p}
	if err := b.planOutputs(); err != nil {
		t.Fatal(err)
	}
	a := b.artifacts()[0]
	write(t, a.staged, "content")
	a.Size = 7
	outside, err := b.describe()
	if err != nil {
		t.Fatal(err)
	}
	return outside
}

func TestManifestIsAddedTo(t *testing.T) {
	b := newBuild(t)
	write(t, "packer-manifest.json", `{"builds":[{"name":"old","builder_type":"qemu","files":null,"artifact_id":"VM","packer_run_uuid":"u","custom_data":null}],"last_run_uuid":"u"}`)
	outside := described(t, b, template.PostProcessor{Type: "manifest", Manifest: &template.Manifest{Output: "packer-manifest.json", StripPath: true}})
	var m manifest
	if err := json.Unmarshal(outside["packer-manifest.json"], &m); err != nil {
		t.Fatal(err)
	}
	if len(m.Builds) != 2 || m.Builds[0].Name != "old" || m.Builds[1].Name != "web" || m.LastRunUUID != m.Builds[1].PackerRunUUID {
		t.Errorf("got %+v", m)
	}
	if f := m.Builds[1].Files; len(f) != 1 || f[0] != (manifestFile{"web.raw", 7}) || m.Builds[1].BuildTime != 1700000000 {
		t.Errorf("got %+v", m.Builds[1])
	}
}

func TestManifestOfAnotherKindIsNotTouched(t *testing.T) {
	b := newBuild(t)
	write(t, "m.json", "no JSON")
	err := b.manifest(template.Manifest{Output: "m.json"}, map[string][]byte{})
	if err == nil || !strings.Contains(err.Error(), "hint: it is not Packer's JSON") {
		t.Errorf("got %v", err)
	}
}

func TestChecksumsLieBesideTheImage(t *testing.T) {
	b := newBuild(t)
	outside := described(t, b, template.PostProcessor{Type: "checksum", Checksum: &template.Checksum{
		Types: []string{"md5", "sha256"}, Output: "out/{{.BuildName}}.{{.ChecksumType}}sum"}})
	if len(outside) != 0 {
		t.Errorf("outside: %v", outside)
	}
	for name, want := range map[string]string{ // printf content | md5sum, sha256sum
		"web.md5sum":    "9a0364b9e99bb480dd25e1f0284c8555  web.raw\n",
		"web.sha256sum": "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73  web.raw\n",
	} {
		if got, err := os.ReadFile(filepath.Join(b.places[0].staging, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestPlanOutputsRefusesTwoSettingsOfOneFile(t *testing.T) {
	other := kexport("", "", "qcow2")
	other[0].Kexport.Settings = []string{"qcow2.compression=zstd"}
	b := newBuild(t, kexport("", "", "qcow2"), other)
	if err := b.planOutputs(); err == nil || !strings.Contains(err.Error(), `writes "out/web.qcow2" with other settings`) {
		t.Errorf("got %v", err)
	}
}
