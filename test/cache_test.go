//go:build integration

package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCache changes a script alone: the tree comes from the cache. A damaged
// cache is part of TestOrdinaryUserWithoutNetworkSameBytes.
func TestCache(t *testing.T) {
	tmpl := template{
		darksite: darksite(t), blocks: []string{shell("a.sh")},
		scripts: map[string]string{"a.sh": "#!/bin/sh\necho first\nexit 7\n"},
	}
	dir := folder(t, tmpl)
	// Broken builds fill the cache too: what they broke at comes later.
	call{dir: dir}.build(t).failed(t, 1, "exit status 7")
	if err := os.WriteFile(filepath.Join(dir, "a.sh"), []byte("#!/bin/sh\necho second\nexit 8\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	o := call{dir: dir}.build(t)
	o.failed(t, 1, "exit status 8")
	if got := o.status("tree"); got != "cached" {
		t.Errorf("tree stage %q: want cached", got)
	}
	if !o.logged("second") || o.logged("first") {
		t.Error("not the changed script ran")
	}
}

// TestForce keeps what is there until the new image is good.
func TestForce(t *testing.T) {
	tmpl := template{
		darksite: darksite(t), formats: `["qcow2"]`, blocks: []string{shell("a.sh")},
		scripts: map[string]string{"a.sh": "#!/bin/bash\nfalse\n"},
	}
	dir := folder(t, tmpl)
	old := filepath.Join(dir, "out", "old")
	if err := os.Mkdir(filepath.Dir(old), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(old, []byte("old\n"), 0o644); err != nil {
		t.Fatal(err)
	}

	o := call{dir: dir}.build(t)
	o.failed(t, 1, `output folder "out" exists`, "hint: -force")
	for _, e := range o.events {
		if e.Event == "stage-start" {
			t.Errorf("work began: %s", e.Stage)
		}
	}
	call{dir: dir}.build(t, "-force").failed(t, 1, "exit status 1")
	if got := read(t, old); got != "old\n" {
		t.Errorf("a failed build changed the old output: %q", got)
	}

	tmpl.scripts["a.sh"] = "#!/bin/bash\ntrue\n"
	tmpl.write(t, dir)
	call{dir: dir, onEvent: func(e event, _ *os.Process) {
		if e.Event == "stage-done" && e.Stage == "formats" && !exists(t, old) {
			t.Error("the old output went before the new one was finished")
		}
	}}.build(t, "-force").succeeded(t)
	if got := names(t, filepath.Join(dir, "out")); strings.Join(got, " ") != evidenceOf("golden.qcow2") {
		t.Errorf("output holds %v", got)
	}
	nothingLeft(t, caches, dir)
}
