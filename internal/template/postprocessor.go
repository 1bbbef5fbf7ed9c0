package template

import (
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/kldload/kldload/internal/export"
	"github.com/kldload/kldload/internal/suggest"
)

// chain reads a post-processor, or the post-processors of a block of them,
// for one source. It is empty when none applies.
func (l *loader) chain(b *hclsyntax.Block, s *scope, id string) []PostProcessor {
	var list []PostProcessor
	if b.Type == "post-processor" {
		if p, ok := l.postProcessor(b, s, id); ok {
			list = append(list, p)
		}
		return list
	}
	if !l.labels(b, "") {
		return nil
	}
	r := l.read("post-processors block", b, s)
	for _, inner := range r.blocks("post-processor") {
		if p, ok := l.postProcessor(inner, s, id); ok {
			list = append(list, p)
		}
	}
	r.finish()
	return list
}

// postProcessor reads one for one source. ok is false when it does not apply
// to the source, or is wrong.
func (l *loader) postProcessor(b *hclsyntax.Block, s *scope, id string) (p PostProcessor, ok bool) {
	if !l.labels(b, "TYPE") {
		return p, false
	}
	p = PostProcessor{Type: b.Labels[0], Range: l.position(b.DefRange())}
	r := l.read(fmt.Sprintf("post-processor %q", p.Type), b, s)
	r.foreign = map[string]string{"keep_input_artifact": "what goes in is always kept: remove it"}
	p.Name = r.str("name", "")
	applies := r.applies(id)
	switch p.Type {
	case "kexport":
		p.Kexport = r.kexport()
	case "manifest":
		p.Manifest = &Manifest{
			Output:     r.checked("output", "packer-manifest.json", checkNotEmpty),
			StripPath:  r.boolean("strip_path", false),
			StripTime:  r.boolean("strip_time", false),
			CustomData: r.table("custom_data"),
		}
	case "checksum":
		p.Checksum = r.checksum()
	default:
		l.errorf(b.LabelRanges[0], suggest.Hint(p.Type, []string{"kexport", "manifest", "checksum"}),
			"post-processor %q is not supported by this version", p.Type)
		return p, false
	}
	r.finish()
	return p, applies
}

func (r *reader) kexport() *Kexport {
	k := &Kexport{
		OutputDirectory: r.checked("output_directory", "", checkNotEmpty),
		VMName:          r.checked("vm_name", "", checkFileName),
	}
	r.foreign["format"] = `write formats = ["qcow2"]`
	r.foreign["checksum"] = `a SHA-256 is put beside each image; use post-processor "checksum" for others`
	choices, ok := r.formats()
	for _, c := range choices {
		k.Formats = append(k.Formats, string(c.Format()))
	}
	for _, p := range r.pairs("subformat") {
		setting := p.key + "=" + p.text
		if ok {
			r.mistake(p.at, export.Set(choices, setting))
		}
		k.Settings = append(k.Settings, setting)
	}
	return k
}

// formats gives what is chosen in the attribute formats. ok is false when a
// part of it is wrong.
func (r *reader) formats() (choices []*export.Choice, ok bool) {
	before := len(r.l.diags)
	items := r.list("formats")
	if len(items) == 1 && items[0].text == "all" {
		at := items[0].at
		items = nil
		for _, name := range export.Names() {
			items = append(items, item{name, at})
		}
	}
	for _, it := range items {
		c, err := export.NewChoice(it.text)
		if r.mistake(it.at, err) {
			continue
		}
		if slices.ContainsFunc(choices, func(have *export.Choice) bool { return have.Format() == c.Format() }) {
			r.l.errorf(it.at, "", "format %q is there twice", shown(it.text))
			continue
		}
		choices = append(choices, c)
	}
	switch a := r.attr("formats"); {
	case a == nil:
		r.l.errorf(r.at, `write formats = ["qcow2"]`, "missing attribute %q in %s", "formats", r.kind)
	case len(items) == 0 && len(r.l.diags) == before:
		r.l.errorf(a.Expr.Range(), suggest.Have(export.Names()), "no format")
	}
	return choices, len(r.l.diags) == before
}

// mistake reports what package export says of a format or setting.
func (r *reader) mistake(at hcl.Range, err error) bool {
	var m *export.Mistake
	switch {
	case err == nil:
		return false
	case errors.As(err, &m):
		r.l.errorf(at, m.Hint, "%s", shown(m.Text))
	default:
		r.l.errorf(at, "", "%s", shown(err.Error()))
	}
	return true
}

func (r *reader) checksum() *Checksum {
	c := &Checksum{
		Types: r.strings("checksum_types", oneOf("md5", "sha1", "sha224", "sha256", "sha384", "sha512")),
		Output: r.interpolated("output", "packer_{{.BuildName}}_{{.BuilderType}}_{{.ChecksumType}}.checksum",
			"BuildName", "BuilderType", "ChecksumType"),
	}
	if len(c.Types) == 0 {
		c.Types = []string{"md5"} // Packer's default
	}
	if len(c.Types) > 1 && !mentions(c.Output, "ChecksumType") {
		r.l.errorf(r.attr("output").Expr.Range(), "put {{.ChecksumType}} into it",
			"output %q is one file for %d checksum types", shown(c.Output), len(c.Types))
	}
	return c
}
