//go:build integration

package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const secret = "s3cret-wOrd-0815"

// TestNetwork looks at the interfaces from inside of provisioners.
func TestNetwork(t *testing.T) {
	show := "#!/bin/sh\nfor i in $(ls /sys/class/net); do echo \"$1 interface $i\"; done\n"
	dir := folder(t, template{
		darksite: darksite(t),
		blocks: []string{
			shell("show.sh", `execute_command = "sh {{.Path}} alone"`),
			shell("show.sh", `execute_command = "sh {{.Path}} shared"`, "network = true"),
			shell("stop.sh"),
		},
		scripts: map[string]string{"show.sh": show, "stop.sh": "exit 9\n"},
	})
	o := call{dir: dir}.build(t)
	o.failed(t, 1, "exit status 9")
	got := map[string][]string{}
	for _, e := range o.events {
		if who, name, ok := strings.Cut(e.Detail, " interface "); ok && e.Event == "log" {
			got[who] = append(got[who], name)
		}
	}
	if strings.Join(got["alone"], " ") != "lo" {
		t.Errorf("without network there are %v: want lo alone", got["alone"])
	}
	if want := strings.Join(names(t, "/sys/class/net"), " "); strings.Join(got["shared"], " ") != want {
		t.Errorf("with network = true there are %v: want the host's %s", got["shared"], want)
	}
}

// TestSecrets passes a sensitive variable to a script, which says it aloud.
func TestSecrets(t *testing.T) {
	dir := folder(t, template{
		darksite: darksite(t),
		top: `variable "token" {
  type      = string
  sensitive = true
}`,
		blocks: []string{
			shell("say.sh", `environment_vars = ["TOKEN=${var.token}"]`),
			`post-processor "manifest" {
    output = "out/manifest.json"
  }`,
		},
		scripts: map[string]string{"say.sh": "#!/bin/bash\necho \"the token is $TOKEN.\"; env >&2\necho loud\nsleep 2\n"},
	})
	env := []string{"PKR_VAR_token=" + secret}
	var leaks []string
	look := func(e event, _ *os.Process) {
		if e.Detail == "loud" {
			leaks = commandLines(t, secret)
		}
	}
	o := call{dir: dir, env: env, onEvent: look}.build(t).succeeded(t)
	if !o.logged("the token is <sensitive>.") {
		t.Error("the script said nothing")
	}
	plain := call{dir: dir, env: env, args: []string{"build", "-force", "--cache-dir", caches, "golden.pkr.hcl"}}.run(t).succeeded(t)
	for where, text := range map[string]string{
		"--json": o.stdout + o.stderr, "plain output": plain.stdout + plain.stderr,
		"manifest": read(t, dir, "out/manifest.json"), "provenance": provenance(t, dir), "command lines": strings.Join(leaks, "\n"),
	} {
		if strings.Contains(text, secret) {
			t.Errorf("the secret is in %s", where)
		}
	}
	if out, err := exec.Command("grep", "-c", "-a", "-F", secret, filepath.Join(dir, "out/golden.raw")).CombinedOutput(); err == nil {
		t.Errorf("the secret is in the image, %s times", strings.TrimSpace(string(out)))
	}
}

// provenance is the statement of a build, decoded.
func provenance(t *testing.T, dir string) string {
	t.Helper()
	text := tool(t, "sh", "-ec", `sed 's/.*"payload":"\([^"]*\)".*/\1/' "$1" | base64 -d`, "sh", filepath.Join(dir, "out/golden.intoto.jsonl"))
	if !strings.Contains(text, `"token":"<sensitive>"`) || !strings.Contains(text, `"path":"say.sh","role":"script"`) {
		t.Errorf("the provenance does not say what went in: %s", text)
	}
	return text
}

// commandLines lists the processes whose arguments hold a text.
func commandLines(t *testing.T, text string) []string {
	t.Helper()
	var out []string
	for _, name := range glob(t, "/proc/[0-9]*/cmdline") {
		if b, err := os.ReadFile(name); err == nil && strings.Contains(string(b), text) {
			out = append(out, name+": "+string(b))
		}
	}
	return out
}
