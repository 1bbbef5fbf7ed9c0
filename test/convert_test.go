//go:build integration

package test

import (
	"bytes"
	"encoding/json"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// qemuFormats are the formats of a `convert --format all` that QEMU reads, with
// its names for them, by the extension of the file.
var qemuFormats = map[string]string{".qcow2": "qcow2", ".vmdk": "vmdk", ".vhd": "vpc", ".vhdx": "vhdx", ".raw": "raw"}

// extensions are those of all formats.
var extensions = []string{".qcow2", ".vmdk", ".vhd", ".vhdx", ".ova", ".raw", ".tar.gz"}

// kexport runs a command of `kldload kexport` that has to succeed.
func kexport(t *testing.T, args ...string) outcome {
	t.Helper()
	return call{args: append([]string{"kexport"}, args...)}.run(t).succeeded(t)
}

// The disk of TestConvertLargeSparseDisk: largePieces of largePiece bytes, one
// for each 1/largePieces of it.
const (
	largeDisk   = 1 << 40
	largePiece  = 4 << 20
	largePieces = 512
	// peakMemory is what a conversion may have resident, whatever the disk.
	peakMemory = 256 << 20
)

// makeLargeDisk writes 2 GiB that compress well at scattered places, few of
// which are where a block of a format begins.
func makeLargeDisk(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(largeDisk); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewSource(1))
	unit := make([]byte, 0, largePiece)
	for len(unit) < largePiece {
		var noise [64]byte
		random.Read(noise[:])
		unit = append(append(unit, noise[:]...), bytes.Repeat([]byte("a line of a log\n"), 100)...)
	}
	unit = unit[:largePiece]
	const region = largeDisk / largePieces
	for i := range int64(largePieces) {
		unit[0] = byte(i)
		off := i*region + random.Int63n((region-largePiece)>>12)<<12
		if i == largePieces-1 {
			off = largeDisk - largePiece // the last sector, too
		}
		if _, err := f.WriteAt(unit, off); err != nil {
			t.Fatal(err)
		}
	}
}

// TestConvertLargeSparseDisk has all formats written in one pass over a disk of
// 1 TiB. Without checksums: the SHA-256 of its raw image alone takes minutes.
func TestConvertLargeSparseDisk(t *testing.T) {
	dir := t.TempDir()
	source, out := filepath.Join(dir, "large.img"), filepath.Join(dir, "out")
	makeLargeDisk(t, source)
	o := kexport(t, "convert", "--format", "all", "--checksum", "none", "--input", source, "--output-dir", out)
	if o.peak > peakMemory {
		t.Errorf("convert had %d MiB resident: want at most %d", o.peak>>20, peakMemory>>20)
	}
	want := []string{"large.manifest.json"}
	for _, ext := range extensions {
		want = append(want, "large"+ext)
	}
	slices.Sort(want)
	if got := names(t, out); !slices.Equal(got, want) {
		t.Fatalf("output holds %v: want %v", got, want)
	}
	for _, ext := range extensions {
		t.Run(ext, func(t *testing.T) {
			t.Parallel()
			image := filepath.Join(out, "large"+ext)
			if kind := qemuFormats[ext]; kind != "" {
				checkWithQEMU(t, image, kind, largeDisk)
			}
			if o := kexport(t, "compare", "--strict", source, image); o.peak > peakMemory {
				t.Errorf("compare had %d MiB resident: want at most %d", o.peak>>20, peakMemory>>20)
			}
		})
	}
}

// checkWithQEMU has qemu-img tell the disk's size and, for what it can check,
// whether the structures are sound.
func checkWithQEMU(t *testing.T, image, kind string, size int64) {
	t.Helper()
	var info struct {
		Size int64 `json:"virtual-size"`
	}
	if err := json.Unmarshal([]byte(tool(t, "qemu-img", "info", "--output=json", "-f", kind, image)), &info); err != nil {
		t.Fatal(err)
	}
	if info.Size != size {
		t.Errorf("qemu-img takes %s for a disk of %d bytes: want %d", image, info.Size, size)
	}
	if kind != "raw" && kind != "vpc" {
		tool(t, "qemu-img", "check", "-q", "-f", kind, image)
	}
}

// TestConvertBuiltImage sends an image with a system in it through all formats
// and back through those that QEMU does not read.
func TestConvertBuiltImage(t *testing.T) {
	dir := folder(t, template{darksite: darksite(t), formats: `["qcow2"]`})
	call{dir: dir}.build(t).succeeded(t)
	source, all := filepath.Join(dir, "out/golden.qcow2"), filepath.Join(dir, "all")
	kexport(t, "convert", "--format", "all", "--input", source, "--output-dir", all)
	t.Run("checksums", func(t *testing.T) {
		out := tool(t, "sh", "-ec", `cd "$1"; sha256sum --strict -c *.sha256`, "sh", all)
		if got := strings.Count(out, ": OK\n"); got != len(extensions) {
			t.Errorf("%d of %d checksums:\n%s", got, len(extensions), out)
		}
	})
	t.Run("manifest", func(t *testing.T) { checkExportManifest(t, all) })
	for ext, kind := range qemuFormats {
		t.Run(ext, func(t *testing.T) {
			image := filepath.Join(all, "golden"+ext)
			checkWithQEMU(t, image, kind, 2<<30)
			tool(t, "qemu-img", "compare", "-q", "-f", "qcow2", "-F", kind, source, image)
		})
	}
	for _, ext := range []string{".ova", ".tar.gz"} {
		t.Run("back from "+ext, func(t *testing.T) {
			back := filepath.Join(dir, "back"+ext+".raw")
			kexport(t, "convert", "--format", "raw", "--input", filepath.Join(all, "golden"+ext), "--output", back)
			tool(t, "qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", source, back)
		})
	}
}

// checkExportManifest compares golden.manifest.json with the files beside it.
func checkExportManifest(t *testing.T, dir string) {
	var m struct {
		Schema int
		Input  struct {
			File        string
			VirtualSize int64 `json:"virtual_size"`
		}
		Outputs []struct {
			File, SHA256 string
			Size         int64
			VirtualSize  int64 `json:"virtual_size"`
		}
	}
	if err := json.Unmarshal([]byte(read(t, dir, "golden.manifest.json")), &m); err != nil {
		t.Fatal(err)
	}
	if m.Schema != 1 || m.Input.File != "golden.qcow2" || m.Input.VirtualSize != 2<<30 || len(m.Outputs) != len(extensions) {
		t.Fatalf("manifest %+v", m)
	}
	for i, o := range m.Outputs {
		st, err := os.Stat(filepath.Join(dir, o.File))
		if err != nil {
			t.Fatal(err)
		}
		if o.File != "golden"+extensions[i] || o.Size != st.Size() || o.VirtualSize != 2<<30 {
			t.Errorf("the manifest says %+v: the file has %d bytes", o, st.Size())
		}
		if line := read(t, dir, o.File+".sha256"); line != o.SHA256+"  "+o.File+"\n" {
			t.Errorf("the manifest says %+v: the checksum file %q", o, line)
		}
	}
}
