//go:build integration

package test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// described is a template with every kind of description.
func described(site string) template {
	return template{
		darksite: site, formats: `["raw", "qcow2"]`,
		blocks: []string{
			`post-processor "manifest" {
    output      = "out/manifest.json"
    custom_data = { team = "images" }
  }`,
			`post-processor "checksum" {
    checksum_types = ["sha256", "md5"]
    output         = "out/golden.{{.ChecksumType}}sum"
  }`,
		},
	}
}

// TestJSONEventsAndDescriptions also asserts that nothing is mounted: the
// build runs in a mount namespace of its own, whose mounts stay the same.
func TestJSONEventsAndDescriptions(t *testing.T) {
	needRoot(t)
	dir := folder(t, described(darksite(t)))
	var mounts []string
	watch := func(e event, p *os.Process) {
		if e.Event == "stage-start" || e.Event == "stage-done" {
			mounts = append(mounts, mountsOf(p))
		}
	}
	// The same process becomes unshare and then the binary.
	o := call{dir: dir, prefix: []string{"unshare", "--mount"}, onEvent: watch}.build(t).succeeded(t)
	for _, m := range mounts {
		if m == "" || m != mounts[0] {
			t.Errorf("the mounts changed:\n%s\nto\n%s", mounts[0], m)
			break
		}
	}
	nothingLeft(t, caches, dir)
	t.Run("events", func(t *testing.T) { checkEvents(t, o) })
	t.Run("result", func(t *testing.T) { checkResult(t, dir, o) })
	t.Run("manifest", func(t *testing.T) { checkManifest(t, dir) })
	t.Run("checksums", func(t *testing.T) {
		tool(t, "sh", "-ec", `cd "$1"; sha256sum --strict -c golden.sha256sum *.sha256; md5sum --strict -c golden.md5sum`, "sh", filepath.Join(dir, "out"))
	})
	t.Run("evidence", func(t *testing.T) { checkEvidence(t, filepath.Join(dir, "out")) })
	t.Run("formats", func(t *testing.T) {
		out := filepath.Join(dir, "out")
		tool(t, "qemu-img", "check", filepath.Join(out, "golden.qcow2"))
		tool(t, "qemu-img", "compare", filepath.Join(out, "golden.raw"), filepath.Join(out, "golden.qcow2"))
	})
}

// checkEvidence has openssl verify each signature, then us all of it, before
// and after a byte of an image is changed.
func checkEvidence(t *testing.T, out string) {
	tool(t, "sh", "-ec", `cd "$1"; ls *.sig | wc -l | grep -qx 8
for s in *.sig; do openssl pkeyutl -verify -pubin -inkey golden.pub -rawin -in "${s%.sig}" -sigfile "$s"; done`, "sh", out)
	verify := []string{binary, "key", "verify", "--key", filepath.Join(out, "golden.pub"), out}
	said := tool(t, verify...)
	for _, want := range []string{"golden.raw  as it was built", "golden.qcow2  as it was built", "golden.spdx.json  as it was built"} {
		if !strings.Contains(said, want) {
			t.Errorf("kldload key verify does not say %q:\n%s", want, said)
		}
	}
	spdx := tool(t, "sh", "-ec", `grep -c '"algorithm": "SHA256"' "$1"`, "sh", filepath.Join(out, "golden.spdx.json"))
	if n, err := strconv.Atoi(strings.TrimSpace(spdx)); err != nil || n < 100 {
		t.Errorf("%s packages have the digest of their file: want them all", spdx)
	}
	flipAt(t, filepath.Join(out, "golden.qcow2"), 100_000)
	if said, err := exec.Command(verify[0], verify[1:]...).CombinedOutput(); err == nil || !strings.Contains(string(said), "is not what was built") {
		t.Errorf("a changed image: %v\n%s", err, said)
	}
	flipAt(t, filepath.Join(out, "golden.qcow2"), 100_000)
}

// mountsOf is empty when the process is gone.
func mountsOf(p *os.Process) string {
	b, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.Pid), "mountinfo"))
	return string(b)
}

func checkEvents(t *testing.T, o outcome) {
	var stages []string
	for _, line := range strings.Split(strings.TrimSpace(o.stdout), "\n") {
		var e event
		dec := json.NewDecoder(strings.NewReader(line))
		if err := dec.Decode(&e); err != nil || e.Time == "" || e.Event == "" || dec.More() {
			t.Errorf("%q is no event: %v", line, err)
		}
		if e.Event == "stage-done" {
			stages = append(stages, e.Stage)
		}
	}
	want := []string{"darksite", "tree", "configure", "seal", "disk", "verify", "scan", "formats", "evidence", "publish"}
	if !slices.Equal(stages, want) {
		t.Errorf("stages %v: want %v", stages, want)
	}
	if last := o.events[len(o.events)-1]; last.Event != "result" {
		t.Errorf("the last event is %q: want result", last.Event)
	}
}

func checkResult(t *testing.T, dir string, o outcome) {
	var r struct {
		Name      string
		Artifacts []struct {
			Format, Path, SHA256 string
			Size                 int64
		}
		Manifest string
		Files    []string
	}
	if err := json.Unmarshal(o.events[len(o.events)-1].Data, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Artifacts) != 2 || r.Manifest != "out/manifest.json" || len(r.Files) != 18 {
		t.Fatalf("result %+v", r)
	}
	for _, a := range r.Artifacts {
		f, err := os.Open(filepath.Join(dir, a.Path))
		if err != nil {
			t.Fatal(err)
		}
		h := sha256.New()
		n, err := io.Copy(h, f)
		f.Close()
		if err != nil || n != a.Size || hex.EncodeToString(h.Sum(nil)) != a.SHA256 {
			t.Errorf("%s: %d bytes, %v: not what the result says: %+v", a.Path, n, err, a)
		}
	}
}

// checkManifest decodes with exactly the fields of Packer's
// post-processor/manifest/artifact.go.
func checkManifest(t *testing.T, dir string) {
	var m struct {
		Builds []struct {
			Name        string `json:"name"`
			BuilderType string `json:"builder_type"`
			BuildTime   int64  `json:"build_time"`
			Files       []struct {
				Name string `json:"name"`
				Size int64  `json:"size"`
			} `json:"files"`
			ArtifactID    string            `json:"artifact_id"`
			PackerRunUUID string            `json:"packer_run_uuid"`
			CustomData    map[string]string `json:"custom_data"`
		} `json:"builds"`
		LastRunUUID string `json:"last_run_uuid"`
	}
	dec := json.NewDecoder(bytes.NewReader([]byte(read(t, dir, "out/manifest.json"))))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&m); err != nil {
		t.Fatal(err)
	}
	if len(m.Builds) != 1 || m.LastRunUUID == "" || m.LastRunUUID != m.Builds[0].PackerRunUUID {
		t.Fatalf("manifest %+v", m)
	}
	b := m.Builds[0]
	if b.Name != "golden" || b.BuilderType != "kldload" || b.BuildTime == 0 || b.ArtifactID == "" || b.CustomData["team"] != "images" || len(b.Files) != 2 {
		t.Errorf("build %+v", b)
	}
	for _, f := range b.Files {
		if st, err := os.Stat(filepath.Join(dir, f.Name)); err != nil || st.Size() != f.Size {
			t.Errorf("%s: %d bytes, %v", f.Name, f.Size, err)
		}
	}
}
