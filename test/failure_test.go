//go:build integration

package test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// failing is a template whose bash script fails at line 4.
func failing(site string) template {
	return template{
		darksite: site, blocks: []string{shell("install.sh")},
		scripts: map[string]string{"install.sh": "#!/bin/bash\nset -e\necho working\nls /nosuch-folder\necho never\n"},
	}
}

func TestFailingScript(t *testing.T) {
	dir := folder(t, failing(darksite(t)))
	says := []string{"error: ", "install.sh", "exit status 2", "line 4", "ls /nosuch-folder", "cannot access '/nosuch-folder'"}

	o := call{dir: dir}.build(t)
	o.failed(t, 1, says...)
	if o.status("provision") != "FAILED" || o.logged("never") {
		t.Errorf("provision %q", o.status("provision"))
	}
	if exists(t, filepath.Join(dir, "out")) {
		t.Error("there is an output folder")
	}
	nothingLeft(t, caches, dir)

	o = call{dir: dir}.build(t, "-on-error=abort")
	o.failed(t, 1, says...)
	tree := regexp.MustCompile(`left it in (/\S+)  \(remove: kldload cache prune\)`).FindStringSubmatch(o.stderr)
	if tree == nil {
		t.Fatalf("the error does not name the kept tree:\n%s", o.stderr)
	}
	if !exists(t, filepath.Join(tree[1], "etc/debian_version")) {
		t.Errorf("%s is no tree", tree[1])
	}
	call{args: []string{"cache", "prune", "--older-than", "8760h", "--cache-dir", caches}}.run(t).succeeded(t)
	nothingLeft(t, caches, dir)
}

// TestKillAndInterrupt ends builds at their worst moments.
func TestKillAndInterrupt(t *testing.T) {
	site := darksite(t)
	sleeping := folder(t, template{
		darksite: site, blocks: []string{shell("sleep.sh")},
		scripts: map[string]string{"sleep.sh": "#!/bin/bash\necho asleep\nsleep " + mark + "\n"},
	})
	dir := folder(t, template{darksite: site, formats: `["raw", "qcow2"]`})

	t.Run("interrupt", func(t *testing.T) {
		o := call{dir: sleeping, onEvent: at("log", "asleep", syscall.SIGINT)}.build(t)
		o.failed(t, 130, "provisioning with", "sleep.sh", "interrupt")
		if o.status("provision") != "FAILED" {
			t.Errorf("provision %q: want it named as the step that broke", o.status("provision"))
		}
		nothingLeft(t, caches, sleeping)
	})
	t.Run("interrupt disk", func(t *testing.T) {
		o := call{dir: dir, onEvent: at("stage-start", "disk", syscall.SIGINT)}.build(t)
		o.failed(t, 130, "interrupt")
		if o.status("disk") != "FAILED" {
			t.Errorf("disk %q: want it named as the step that broke", o.status("disk"))
		}
		nothingLeft(t, caches, dir)
	})
	for _, stage := range []string{"provision", "disk", "formats"} {
		t.Run("kill "+stage, func(t *testing.T) {
			where, when := dir, at("stage-start", stage, syscall.SIGKILL)
			if stage == "provision" {
				where, when = sleeping, at("log", "asleep", syscall.SIGKILL)
			}
			if o := (call{dir: where, onEvent: when}).build(t); o.code != -1 {
				t.Fatalf("exit %d: want it killed", o.code)
			}
			noProcesses(t)
			if exists(t, filepath.Join(where, "out")) {
				t.Error("there is output under the final name")
			}
		})
	}
	t.Run("afterwards", func(t *testing.T) {
		call{dir: dir}.build(t).succeeded(t)
		nothingLeft(t, caches, dir)
		if got := names(t, filepath.Join(dir, "out")); strings.Join(got, " ") != evidenceOf("golden.qcow2", "golden.raw") {
			t.Errorf("output holds %v", got)
		}
	})
}

// evidenceOf names, in order, what an output folder with these images of the
// name golden holds.
func evidenceOf(images ...string) string {
	all := []string{"golden.cdx.json", "golden.intoto.jsonl", "golden.manifest.json", "golden.spdx.json"}
	for _, image := range images {
		all = append(all, image+".sha256")
	}
	for _, signed := range all {
		if signed != "golden.intoto.jsonl" { // it holds its signature
			all = append(all, signed+".sig")
		}
	}
	all = append(append(all, "golden.pub"), images...)
	slices.Sort(all)
	return strings.Join(all, " ")
}

// at sends a signal a moment after an event about a stage, or a log line.
func at(kind, what string, sig syscall.Signal) func(event, *os.Process) {
	sent := false
	return func(e event, p *os.Process) {
		if sent || e.Event != kind || e.Stage != what && e.Detail != what {
			return
		}
		sent = true
		time.Sleep(400 * time.Millisecond)
		_ = p.Signal(sig)
	}
}

// TestDiskFull gives the output folder a file system of 200 MiB, in a mount
// namespace that ends with the build.
func TestDiskFull(t *testing.T) {
	needRoot(t)
	dir := folder(t, template{darksite: darksite(t), output: "small/out"})
	if err := os.Mkdir(filepath.Join(dir, "small"), 0o755); err != nil {
		t.Fatal(err)
	}
	// What is left on the small file system is listed to the error stream.
	o := call{dir: dir, prefix: []string{"unshare", "--mount", "sh", "-c",
		`mount -t tmpfs -o size=200M tmpfs small && "$@"; code=$?; echo "left: $(ls -A small)" >&2; exit $code`, "sh"}}.build(t)
	o.failed(t, 1, "no space left on device", "disk", "left: \n")
	if o.status("disk") != "FAILED" {
		t.Errorf("disk %q: want it named as the step that broke", o.status("disk"))
	}
	if strings.Contains(o.stderr, "user namespaces") {
		t.Error("the hint is about user namespaces")
	}
	nothingLeft(t, caches, dir)
}
