package template

import (
	"fmt"
	"slices"

	"github.com/hashicorp/hcl/v2/hclsyntax"

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

// laterFormats are of kexport, but not of this version.
var laterFormats = []string{"vmdk", "ova", "vhd", "vhdx", "vdi", "iso"}

func (r *reader) kexport() *Kexport {
	before := len(r.l.diags)
	k := &Kexport{
		OutputDirectory: r.checked("output_directory", "", checkNotEmpty),
		VMName:          r.checked("vm_name", "", checkFileName),
	}
	r.foreign["format"] = `write formats = ["qcow2"]`
	r.foreign["checksum"] = `use post-processor "checksum"`
	formats := oneOf("raw", "qcow2")
	for _, it := range r.list("formats") {
		switch {
		case slices.Contains(laterFormats, it.text):
			r.l.errorf(it.at, "have raw, qcow2", "format %q is not supported by this version", shown(it.text))
		case slices.Contains(k.Formats, it.text):
			r.l.errorf(it.at, "", "format %q is there twice", shown(it.text))
		default:
			r.test(it.at, "format", it.text, formats)
		}
		k.Formats = append(k.Formats, it.text)
	}
	switch a := r.attr("formats"); {
	case a == nil:
		r.l.errorf(r.at, `write formats = ["qcow2"]`, "missing attribute %q in %s", "formats", r.kind)
	case len(k.Formats) == 0 && len(r.l.diags) == before:
		r.l.errorf(a.Expr.Range(), "have raw, qcow2", "no format")
	}
	return k
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
