package template

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/kldload/kldload/internal/suggest"
)

// common are the settings Packer gives every provisioner, not supported here.
var common = map[string]string{
	"pause_before":      "nothing starts up that would need a pause: remove it",
	"max_retries":       "a build from a darksite does not fail by chance: remove it",
	"timeout":           "use timeout(1) in the script",
	"continue_on_error": "end the command with || true",
	"override":          "use only and two provisioners",
}

// provisioner reads one provisioner for one source. ok is false when it does
// not apply to the source, or is wrong.
func (l *loader) provisioner(b *hclsyntax.Block, s *scope, id string) (p Provisioner, ok bool) {
	if !l.labels(b, "TYPE") {
		return p, false
	}
	p = Provisioner{Type: b.Labels[0], Range: l.position(b.DefRange())}
	r := l.read(fmt.Sprintf("provisioner %q", p.Type), b, s)
	applies := r.applies(id)
	r.foreign = maps.Clone(common)
	switch p.Type {
	case "shell":
		p.Shell = r.shell()
	case "file":
		p.File = r.fileCopy()
	default:
		l.errorf(b.LabelRanges[0], otherProvisioner(p.Type), "provisioner %q is not supported by this version", p.Type)
		return p, false
	}
	r.finish()
	return p, applies
}

func otherProvisioner(ty string) string {
	switch ty {
	case "shell-local", "breakpoint":
		return ""
	case "ansible", "ansible-local", "salt-masterless", "chef-solo", "puppet-masterless":
		return "call it from provisioner \"shell\": extra_packages can install it"
	case "powershell", "windows-shell", "windows-restart":
		return "images are Linux: use provisioner \"shell\""
	}
	return suggest.Hint(ty, []string{"shell", "file"})
}

// applies reads only and except: lists of "type.name".
func (r *reader) applies(id string) bool {
	only, except := r.list("only"), r.list("except")
	if len(only) > 0 && len(except) > 0 {
		r.l.errorf(r.at, "", "only and except exclude each other")
	}
	names := slices.Collect(maps.Keys(r.l.names()))
	for _, it := range append(slices.Clone(only), except...) {
		if !slices.Contains(names, it.text) {
			r.l.errorf(it.at, suggest.Hint(it.text, names), "no build has a source %q", shown(it.text))
		}
	}
	named := func(it item) bool { return it.text == id }
	if len(only) > 0 {
		return slices.ContainsFunc(only, named)
	}
	return !slices.ContainsFunc(except, named)
}

// Defaults of provisioner "shell", as Packer has them
// (https://developer.hashicorp.com/packer/docs/provisioners/shell).
const (
	defaultShebang = "/bin/sh -e"
	defaultExecute = "chmod +x {{.Path}}; {{.Vars}} {{.Path}}"
	defaultRemote  = "/tmp"
)

func (r *reader) shell() *Shell {
	maps.Copy(r.foreign, shellOfPacker)
	sh := &Shell{
		Inline:          r.strings("inline", nil),
		InlineShebang:   r.checked("inline_shebang", defaultShebang, checkShebang),
		EnvironmentVars: r.environment(),
		ExecuteCommand:  r.interpolated("execute_command", defaultExecute, "Path", "Vars"),
		ValidExitCodes:  r.integers("valid_exit_codes", 0, 255),
		RemoteFolder:    r.checked("remote_folder", defaultRemote, checkAbsolute),
		Network:         r.boolean("network", false),
	}
	if script, at, ok := r.text("script", ""); ok {
		r.l.exists(item{script, at}, false)
		sh.Scripts = []string{script}
	}
	for _, it := range r.list("scripts") {
		r.l.exists(it, false)
		sh.Scripts = append(sh.Scripts, it.text)
	}
	r.exactlyOne("inline", "script", "scripts")
	if !r.has("valid_exit_codes") {
		sh.ValidExitCodes = []int{0}
	}
	return sh
}

var shellOfPacker = map[string]string{
	"expect_disconnect":   "the script runs in the tree: there is no connection to lose; remove it",
	"start_retry_timeout": "the script runs in the tree: there is no connection to wait for; remove it",
	"pause_after":         "nothing starts up that would need a pause: remove it",
	"use_env_var_file":    "the default execute_command passes the variables",
	"env_var_format":      "the default execute_command passes the variables",
	"skip_clean":          "scripts leave nothing behind: remove it",
	"binary":              "scripts are copied as they are: remove it",
	"remote_path":         "use remote_folder",
	"remote_file":         "use remote_folder",
}

// exactlyOne reports none or several of names.
func (r *reader) exactlyOne(names ...string) {
	var there []string
	for _, n := range names {
		if r.has(n) {
			there = append(there, n)
		}
	}
	switch len(there) {
	case 1:
	case 0:
		r.l.errorf(r.at, "", "%s needs %s", r.kind, suggest.Listed(names))
	default:
		r.l.errorf(r.at, "", "%s takes one of %s, has %s", r.kind, suggest.Listed(names), strings.Join(there, ", "))
	}
}

// environment gives environment_vars and env as one list.
func (r *reader) environment() []string {
	list := r.strings("environment_vars", checkEnvironment)
	a := r.attr("env")
	if a == nil {
		return list
	}
	env := r.table("env")
	for _, name := range slices.Sorted(maps.Keys(env)) {
		pair := name + "=" + env[name]
		r.test(a.Expr.Range(), "env", pair, checkEnvironment)
		list = append(list, pair)
	}
	return list
}

func (r *reader) fileCopy() *File {
	f := &File{Direction: r.checked("direction", "upload", oneOf("upload", "download"))}
	r.foreign["generated"] = "write the file before the build, or use content"
	upload := f.Direction != "download"
	sources := r.list("sources")
	if s, at, ok := r.text("source", ""); ok {
		sources = append(sources, item{s, at})
	}
	for _, it := range sources {
		if upload {
			r.l.exists(it, true)
		} else {
			r.test(it.at, "source", it.text, checkAbsolute)
		}
		f.Sources = append(f.Sources, it.text)
	}
	if text, at, ok := r.text("content", ""); ok {
		f.Content = &text
		if !upload {
			r.l.errorf(at, "", "content is for direction = \"upload\"")
		}
	}
	r.exactlyOne("source", "sources", "content")
	f.Destination = r.required("destination")
	if a := r.attr("destination"); a != nil && upload && f.Destination != "" {
		r.test(a.Expr.Range(), "destination", f.Destination, checkAbsolute)
	}
	return f
}
