package template

import (
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/kldload/kldload/internal/suggest"
)

// assign gives the variables the values from outside, later ones winning:
// default, PKR_VAR_NAME, *.auto.pkrvars.hcl, -var-file, -var
// (https://developer.hashicorp.com/packer/docs/templates/hcl_templates/variables#variable-definition-precedence).
func (l *loader) assign(automatic []string) {
	for _, name := range slices.Sorted(maps.Keys(l.variables)) {
		if text, ok := l.opts.Env("PKR_VAR_" + name); ok {
			l.assignText(l.variables[name], "PKR_VAR_"+name, text)
		}
	}
	for _, file := range automatic {
		l.assignFile(file)
	}
	for _, file := range l.opts.VarFiles {
		l.assignFile(file)
	}
	for _, name := range slices.Sorted(maps.Keys(l.opts.Vars)) {
		v := l.variables[name]
		if v == nil {
			l.errorf(hcl.Range{Filename: "-var " + name}, suggest.Hint(name, slices.Collect(maps.Keys(l.variables))),
				"the template declares no variable %q", name)
			continue
		}
		l.assignText(v, "-var "+name, l.opts.Vars[name])
	}
	for _, name := range slices.Sorted(maps.Keys(l.variables)) {
		l.settle(l.variables[name])
	}
}

// assignText reads text by the declared type: text for string, number and
// bool, an expression for the others.
func (l *loader) assignText(v *variable, from, text string) {
	at := hcl.Range{Filename: from}
	if v.ty == cty.NilType && (!v.set || v.value.Type().IsPrimitiveType()) || v.ty == cty.DynamicPseudoType ||
		v.ty != cty.NilType && v.ty.IsPrimitiveType() {
		l.give(v, cty.StringVal(text), from, at)
		return
	}
	v.set = true
	v.value = cty.DynamicVal
	src := []byte(text)
	l.text[from] = src
	if v.Sensitive {
		l.secret(hcl.Range{Filename: from, Start: hcl.InitialPos,
			End: hcl.Pos{Line: 1 + strings.Count(text, "\n"), Byte: len(src)}})
	}
	if !l.guard(from, src) {
		return
	}
	expr, diags := hclsyntax.ParseExpression(src, from, hcl.InitialPos)
	if diags.HasErrors() {
		l.syntax(diags)
		return
	}
	if value, ok := l.eval(expr, newScope(nil, "in a value given on the command line")); ok {
		l.give(v, value, from, at)
	}
}

// assignFile reads a variable file: name = value lines.
func (l *loader) assignFile(file string) {
	body := l.parse("variable file", RoleVariables, file)
	if body == nil {
		return
	}
	for _, b := range body.Blocks {
		hint := "a variable file holds lines name = value"
		if b.Type == "variable" {
			hint = "declare variables in a " + templateExt + " file"
		}
		l.errorf(b.TypeRange, hint, "block %q in a variable file", b.Type)
	}
	s := newScope(nil, "in a variable file")
	for _, a := range sortedAttributes(body) {
		v := l.variables[a.Name]
		if v == nil {
			l.errorf(a.NameRange, suggestReference("var", a.Name, slices.Collect(maps.Keys(l.variables))),
				"the template declares no variable %q", a.Name)
			continue
		}
		v.set, v.value = true, cty.DynamicVal
		if v.Sensitive {
			l.secret(a.Expr.Range())
		}
		if value, ok := l.eval(a.Expr, s); ok {
			l.give(v, value, file, a.Expr.Range())
		}
	}
}

// settle checks the value v ended up with and notes it when it is secret.
func (l *loader) settle(v *variable) {
	if !v.set {
		l.errorf(v.at, "give it a default, or set it: -var "+v.Name+"=…, PKR_VAR_"+v.Name+", a variable file",
			"variable %q has no value", v.Name)
		return
	}
	if v.Sensitive {
		l.keepSecret("variable "+v.Name, v.value)
	}
	l.validate(v)
}
