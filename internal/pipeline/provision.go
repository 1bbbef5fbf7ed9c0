package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/kldload/kldload/internal/distro"
	"github.com/kldload/kldload/internal/run"
	"github.com/kldload/kldload/internal/sandbox"
	"github.com/kldload/kldload/internal/template"
	"github.com/kldload/kldload/internal/ui"
)

// Where the tree sees the darksite and our own files while it is provisioned.
// Both are in /run, which is no part of the image.
const (
	insideState = "/run/kldload"
	insideSite  = "/run/kldload-darksite"
)

// provision runs one provisioner.
func (b *build) provision(ctx context.Context, s *ui.Stage, index int, p template.Provisioner) (outcome, error) {
	if index == 0 {
		if err := b.prepareApt(ctx); err != nil {
			return outcome{}, err
		}
	}
	if err := b.uses(p); err != nil {
		return outcome{}, err
	}
	if p.File != nil {
		return b.transfer(ctx, *p.File)
	}
	sh := *p.Shell
	if len(sh.Scripts) == 0 {
		return b.inline(ctx, s, sh, index)
	}
	for i, script := range sh.Scripts {
		text, err := os.ReadFile(script)
		if err != nil {
			return outcome{}, fmt.Errorf("provisioning with %s: %w", script, err)
		}
		if err := b.script(ctx, s, sh, script, text, fmt.Sprintf("%d-%d", index, i)); err != nil {
			return outcome{}, err
		}
	}
	return outcome{detail: "shell " + strings.Join(sh.Scripts, ", ")}, nil
}

func (b *build) inline(ctx context.Context, s *ui.Stage, sh template.Shell, index int) (outcome, error) {
	text := "#!" + orDefault(sh.InlineShebang, "/bin/sh -e") + "\n" + strings.Join(sh.Inline, "\n") + "\n"
	name := fmt.Sprintf("inline shell (%d lines)", len(sh.Inline))
	err := b.script(ctx, s, sh, name, []byte(text), strconv.Itoa(index))
	return outcome{detail: name}, err
}

// prepareApt makes apt in the tree read the darksite; nothing of it stays in
// the image. It also keeps services from starting (invoke-rc.d(8)); the seal
// takes the policy file away.
func (b *build) prepareApt(ctx context.Context) error {
	source := distro.AptSource(insideSite, insideSite+"/"+filepath.Base(b.site.KeyPath()), b.site.Lock.Release)
	files := map[string]string{"apt.conf": distro.AptConf(insideState), "sources.list": source, "bash-env": bashEnv}
	for name, text := range files {
		full := filepath.Join(b.apt, name)
		// A script may become another user, who reads them too.
		if err := errors.Join(os.WriteFile(full, []byte(text), 0o644), os.Chmod(full, 0o644)); err != nil {
			return err
		}
	}
	for _, dir := range []string{"lists/partial", "archives/partial"} {
		if err := os.MkdirAll(filepath.Join(b.apt, dir), 0o755); err != nil {
			return err
		}
	}
	policy := "#!/bin/sh\nexit 101\n"
	arg := transferArg{Root: b.root, Tmp: b.tmp, Content: &policy, Dest: "/usr/sbin/policy-rc.d"}
	if err := sandbox.Run(ctx, b.onTree(sandbox.Job{Doing: "keeping services still", Call: fnUpload, Arg: arg})); err != nil {
		return err
	}
	job := b.provisionJob("reading the darksite", []string{"sh", "-c", "chmod 755 /usr/sbin/policy-rc.d && apt-get -q update"}, false)
	return sandbox.Run(ctx, job)
}

// bashEnv notes the command at which a bash script failed, for the error.
const bashEnv = `trap 'printf "%s (%s)" "$LINENO" "$BASH_COMMAND" >` + insideState + `/failed' ERR
set -o errtrace
`

func (b *build) provisionJob(doing string, command []string, network bool) sandbox.Job {
	binds := []sandbox.Bind{
		{Source: b.apt, Target: insideState, Write: true},
		{Source: b.site.RepoDir(), Target: insideSite},
	}
	if _, err := os.Stat("/etc/resolv.conf"); network && err == nil {
		binds = append(binds, sandbox.Bind{Source: "/etc/resolv.conf", Target: "/run/systemd/resolve/stub-resolv.conf"})
	}
	env := append(b.install.Env(), "APT_CONFIG="+insideState+"/apt.conf", "BASH_ENV="+insideState+"/bash-env",
		"PACKER_BUILD_NAME="+b.spec.Source.Name, "PACKER_BUILDER_TYPE="+b.spec.Source.Type)
	return b.onTree(sandbox.Job{Doing: doing, Command: command, Env: env, Root: b.root, Tmp: b.tmp, Binds: binds, Network: network})
}

// script runs one script in the tree. The variables and the command line go
// through a file: process arguments are for everyone to read.
func (b *build) script(ctx context.Context, s *ui.Stage, sh template.Shell, name string, text []byte, id string) error {
	doing := "provisioning with " + name
	folder := orDefault(sh.RemoteFolder, "/tmp")
	path := folder + "/script_" + id + ".sh"
	vars := []string{"PACKER_BUILD_NAME=" + quote(b.spec.Source.Name), "PACKER_BUILDER_TYPE=" + quote(b.spec.Source.Type)}
	for _, v := range sh.EnvironmentVars {
		key, value, _ := strings.Cut(v, "=")
		vars = append(vars, key+"="+quote(value))
	}
	command, err := template.Render(sh.ExecuteCommand, map[string]string{"Path": path, "Vars": strings.Join(vars, " ")})
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	content := string(text)
	arg := transferArg{Root: b.root, Tmp: b.tmp, Content: &content, Dest: path}
	if err := sandbox.Run(ctx, b.onTree(sandbox.Job{Doing: doing, Call: fnUpload, Arg: arg})); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(b.apt, "command"), []byte(command+"\n"), 0o600); err != nil {
		return err
	}
	_ = os.Remove(filepath.Join(b.apt, "failed"))
	job := b.provisionJob(doing, []string{"sh", insideState + "/command"}, sh.Network)
	err = b.runLogged(ctx, s, job, sh.ValidExitCodes)
	if gone := os.Remove(filepath.Join(b.apt, "command")); !errors.Is(gone, fs.ErrNotExist) { // it may hold secrets
		err = errors.Join(err, gone)
	}
	if err != nil {
		return err // a tree that is kept for a look keeps the script too
	}
	return sandbox.Run(ctx, b.provisionJob("removing the script", []string{"rm", "-f", path}, false))
}

// quote makes one shell word (POSIX shell, 2.2.2).
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'"'"'`) + "'" }

// runLogged shows what a script prints and explains how it failed.
func (b *build) runLogged(ctx context.Context, s *ui.Stage, job sandbox.Job, valid []int) error {
	var last []string
	out := &run.Lines{Func: func(line string) {
		if strings.HasPrefix(line, "(Reading database ... ") && !strings.HasSuffix(line, "installed.)") {
			return // dpkg's percentages, meant for a terminal
		}
		s.Log(line)
		if last = append(last, line); len(last) > 40 {
			last = last[1:]
		}
	}}
	job.Stdout, job.Stderr = out, out
	err := sandbox.Run(ctx, job)
	_ = out.Close()
	code := 0
	var exit *run.ExitError
	if errors.As(err, &exit) {
		code = exit.Code
	} else if err != nil {
		return err
	}
	if len(valid) == 0 {
		valid = []int{0}
	}
	if slices.Contains(valid, code) {
		return nil
	}
	return b.scriptError(job.Doing, code, valid, last)
}

func (b *build) scriptError(doing string, code int, valid []int, last []string) error {
	msg := fmt.Sprintf("%s: exit status %d", doing, code)
	if !slices.Equal(valid, []int{0}) {
		msg += fmt.Sprintf(" (valid: %v)", valid)
	}
	if where, err := os.ReadFile(filepath.Join(b.apt, "failed")); err == nil && len(where) > 0 {
		msg += " at line " + string(where)
	}
	if n := len(last); n > 0 {
		msg += "\n  " + last[n-1]
	}
	if name := distro.MissingPackage(strings.Join(last, "\n")); name != "" {
		msg += fmt.Sprintf("\nhint: the darksite has no package %q; add it with\n"+
			"      kldload darksite create --extra-package %s …; or write a source of your own below\n"+
			"      /etc/apt/sources.list.d, set network = true on this provisioner and run apt-get update", name, name)
	}
	return errors.New(msg)
}

// transfer is the file provisioner.
func (b *build) transfer(ctx context.Context, f template.File) (outcome, error) {
	sources := strings.Join(f.Sources, ", ")
	if f.Content != nil {
		sources = fmt.Sprintf("%d bytes", len(*f.Content))
	}
	doing := fmt.Sprintf("%sing %s to %s", f.Direction, sources, f.Destination)
	arg := transferArg{Root: b.root, Tmp: b.tmp, Sources: f.Sources, Content: f.Content, Dest: f.Destination}
	fn := fnUpload
	if f.Direction == "download" {
		fn = fnDownload
		abs, err := filepath.Abs(f.Destination)
		if err != nil {
			return outcome{}, err
		}
		if strings.HasSuffix(f.Destination, "/") {
			abs += "/"
		}
		arg.Dest = abs
	}
	err := sandbox.Run(ctx, b.onTree(sandbox.Job{Doing: doing, Call: fn, Arg: arg}))
	return outcome{detail: "file " + sources + " → " + f.Destination}, err
}
