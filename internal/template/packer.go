package template

import (
	"regexp"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// packerBlock reads the packer block. Its plugins are noted, not looked for:
// what this version builds is built in.
func (l *loader) packerBlock(b *hclsyntax.Block) {
	if !l.labels(b, "") {
		return
	}
	r := l.read("packer block", b, newScope(nil, "in the packer block"))
	if c, at, ok := r.text("required_version", ""); ok {
		if l.packer {
			l.errorf(at, "", "required_version is set twice")
		}
		l.packer = true
		r.test(at, "required_version", c, checkConstraint)
		l.result.RequiredVersion = c
	}
	for _, inner := range r.blocks("required_plugins") {
		if l.labels(inner, "") {
			l.plugins(inner, r.scope)
		}
	}
	r.finish()
}

func (l *loader) plugins(b *hclsyntax.Block, s *scope) {
	ty := cty.Object(map[string]cty.Type{"version": cty.String, "source": cty.String})
	for _, a := range sortedAttributes(b.Body) {
		r := &reader{l: l, kind: "required_plugins", bodies: []*hclsyntax.Body{b.Body}, scope: s}
		v, expr, ok := r.value(a.Name, ty)
		if !ok {
			continue
		}
		p := Plugin{Name: a.Name, Range: l.position(a.NameRange)}
		if version := v.GetAttr("version"); !version.IsNull() {
			p.Version = version.AsString()
			r.test(expr.Range(), "version", p.Version, checkConstraint)
		}
		if source := v.GetAttr("source"); !source.IsNull() {
			p.Source = source.AsString()
		}
		l.result.RequiredPlugins = append(l.result.RequiredPlugins, p)
	}
	for _, inner := range b.Body.Blocks {
		l.errorf(inner.TypeRange, "write "+inner.Type+" = { … }", "block %q inside required_plugins", inner.Type)
	}
}

// constraintRE is one constraint of hashicorp/go-version.
var constraintRE = regexp.MustCompile(`\A\s*(=|!=|>|>=|<|<=|~>)?\s*v?[0-9]+(\.[0-9]+)*(-[0-9A-Za-z.~-]+)?(\+[0-9A-Za-z.~-]+)?\s*\z`)

func checkConstraint(s string) (string, string) {
	for part := range strings.SplitSeq(s, ",") {
		if !constraintRE.MatchString(part) {
			return "not a version constraint", `write it like ">= 1.9.0, < 2.0.0" or "~> 1.9"`
		}
	}
	return "", ""
}
