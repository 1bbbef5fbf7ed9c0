//go:build integration

package test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

//go:embed kernel_judge.sh
var kernelJudge []byte

// TestKernelJudgesPools boots a golden image that was just built, and has its
// kernel import, compare, scrub, send, write and export pools written here from
// a tree of everything and from a tar. Then zdb and our own check look at what
// the kernel left.
func TestKernelJudgesPools(t *testing.T) {
	needRoot(t)
	dir := folder(t, template{darksite: darksite(t)})
	call{dir: dir}.build(t).succeeded(t)

	tree := filepath.Join(dir, "tree")
	makeRichTree(t, tree)
	lines := writeAttributesTar(t, filepath.Join(dir, "attributes.tar"))
	pool, fromTar := filepath.Join(dir, "judge.img"), filepath.Join(dir, "fromtar.img")
	createPool(t, dir, "judge", tree, pool, "1536M",
		"--dataset", "home:quota=1G,compression=off",
		"--dataset", "data:mountpoint=/data,compression=zstd-3,recordsize=1M",
		"--dataset", "data/plain:compression=off,dnodesize=legacy")
	createPool(t, dir, "fromtar", filepath.Join(dir, "attributes.tar"), fromTar, "256M")
	for name, img := range map[string]string{"judge": pool, "fromtar": fromTar} {
		noLeaks(t, img, name)
	}

	job := map[string][]byte{"judge.sh": kernelJudge, "expected-tar": []byte(lines), "manifest": buildManifest(t, dir)}
	job["expected"] = []byte(tool(t, filepath.Join(dir, "manifest"), "-expect", tree))
	out := inClone(t, filepath.Join(dir, "out", "golden.raw"), job, pool, fromTar)
	if !strings.HasSuffix(strings.TrimSpace(out), "JUDGED") {
		t.Fatal("the kernel's judgement ended early")
	}
	for name, img := range map[string]string{"judge": pool, "fromtar": fromTar} {
		noLeaks(t, img, name)
		call{dir: dir, args: []string{"zfs", "check", img}}.run(t).succeeded(t)
	}
}

// createPool runs kldload zfs create with the datasets of a machine.
func createPool(t *testing.T, dir, name, from, img, size string, more ...string) {
	t.Helper()
	args := append([]string{"zfs", "create", "--pool", name, "--from", from, "--output", img, "--size", size,
		"--layout", "root", "--snapshot", "golden"}, more...)
	call{dir: dir, args: args}.run(t).succeeded(t)
}

// noLeaks has zdb read every block of the pool.
func noLeaks(t *testing.T, img, pool string) {
	t.Helper()
	alone := t.TempDir() // zdb takes all devices in a folder
	if err := os.Symlink(img, filepath.Join(alone, "pool.img")); err != nil {
		t.Fatal(err)
	}
	out := tool(t, "zdb", "-e", "-p", alone, "-bcc", pool)
	if !strings.Contains(out, "No leaks") || strings.Contains(out, "errno") || strings.Contains(out, "Got error") {
		t.Errorf("zdb -bcc %s:\n%s", img, tailOf(out))
	}
}

// writeAttributesTar writes a tar with attributes that few file systems of a
// host can hold, and returns lines that the files' manifest must have.
func writeAttributesTar(t *testing.T, name string) string {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	var lines string
	for _, n := range []int{5_000, 30_000, 60_000} {
		value := bytes.Repeat([]byte(fmt.Sprintf("%d,", n)), n)[:n]
		h := tar.Header{Name: fmt.Sprintf("attribute-%d", n), Typeflag: tar.TypeReg, Mode: 0o644, ModTime: time.Unix(1_700_000_000, 0),
			PAXRecords: map[string]string{"SCHILY.xattr.user.large": string(value), "SCHILY.xattr.user.small": "x"}}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		lines += fmt.Sprintf("%q=%d bytes, sha256 %x\n", "user.large", n, sha256.Sum256(value))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return lines
}

// buildManifest makes a program that runs here and in the clone.
func buildManifest(t *testing.T, dir string) []byte {
	t.Helper()
	cmd := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(dir, "manifest"), "./manifest")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build ./manifest: %v\n%s", err, out)
	}
	return []byte(read(t, dir, "manifest"))
}

// inClone boots a clone of the image with more disks, runs judge.sh of the job
// in it as root, and returns what it said. Not in /run, which is noexec.
func inClone(t *testing.T, image string, job map[string][]byte, disks ...string) string {
	t.Helper()
	var files bytes.Buffer
	w := tar.NewWriter(&files)
	for name, content := range job {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	args := []string{"boot", image}
	for _, d := range disks {
		args = append(args, "--disk", d+",format=raw")
	}
	args = append(args, "--", "sudo sh -c 'mkdir /root/judge && tar -C /root/judge -x && sh /root/judge/judge.sh'")
	cmd := exec.CommandContext(t.Context(), binary, args...)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = &files, &stderr
	begin := time.Now()
	out, err := cmd.Output()
	t.Logf("%s: %v after %s\n%s%s", strings.Join(args, " "), err, time.Since(begin).Round(time.Second), out, stderr.String())
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
