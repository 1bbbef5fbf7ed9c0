package template

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/kldload/kldload/internal/suggest"
)

// variable is a declared input variable and the value it has so far.
type variable struct {
	Variable
	at     hcl.Range
	ty     cty.Type // NilType: not declared, text stays text
	value  cty.Value
	set    bool
	setAt  hcl.Range // where the value was written; a file without a line for -var
	checks []validation
}

// validation is one validation block of a variable.
type validation struct {
	condition hclsyntax.Expression
	message   string
	at        hcl.Range
}

// declare takes a variable block. Its default is evaluated at once, as it
// can name nothing but functions.
func (l *loader) declare(b *hclsyntax.Block) {
	if !l.labels(b, "NAME") {
		return
	}
	v := l.newVariable(b.Labels[0], b.DefRange(), b.LabelRanges[0])
	if v == nil {
		return
	}
	r := l.read("variable block", b, newScope(l.functions, "in a variable block"))
	v.Description = r.str("description", "")
	v.Sensitive = r.boolean("sensitive", false)
	if a := r.attr("type"); a != nil {
		v.ty = l.typeOf(a.Expr)
		v.Type = strings.TrimSpace(string(a.Expr.Range().SliceBytes(l.text[a.Expr.Range().Filename])))
	}
	if a := r.attr("default"); a != nil {
		l.setDefault(v, a)
	}
	for _, inner := range r.blocks("validation") {
		l.validationBlock(v, inner)
	}
	r.finish()
}

// declareShort takes Packer's short form: variables { name = default }.
func (l *loader) declareShort(b *hclsyntax.Block) {
	if !l.labels(b, "") {
		return
	}
	for _, a := range sortedAttributes(b.Body) {
		if v := l.newVariable(a.Name, a.NameRange, a.NameRange); v != nil {
			l.setDefault(v, a)
		}
	}
	for _, inner := range b.Body.Blocks {
		l.errorf(inner.TypeRange, "write variable \"NAME\" { … } beside it", "block %q inside variables", inner.Type)
	}
}

func (l *loader) newVariable(name string, at, nameAt hcl.Range) *variable {
	if !hclsyntax.ValidIdentifier(name) {
		l.errorf(nameAt, "letters, digits, _ and -, a letter first", "variable name %q is not an identifier", name)
		return nil
	}
	if old := l.variables[name]; old != nil {
		l.errorf(at, "first declared at "+l.position(old.at).String(), "variable %q declared twice", name)
		return nil
	}
	v := &variable{Variable: Variable{Name: name, Range: l.position(at)}, at: at, value: cty.DynamicVal}
	l.variables[name] = v
	return v
}

var typeNames = []string{"any", "bool", "list", "map", "number", "object", "set", "string", "tuple"}

// typeOf reads a type. After an error it is any, so that the values given do
// not make errors of their own.
func (l *loader) typeOf(expr hclsyntax.Expression) cty.Type {
	word := hcl.ExprAsKeyword(expr)
	if call, diags := hcl.ExprCall(expr); !diags.HasErrors() {
		word = call.Name
	}
	if word != "" && !slices.Contains(typeNames, word) {
		l.errorf(expr.Range(), suggest.Hint(word, typeNames), "unknown type %q", word)
		return cty.DynamicPseudoType
	}
	ty, diags := typeexpr.TypeConstraint(expr)
	if diags.HasErrors() {
		l.evaluation(expr.Range(), diags)
		return cty.DynamicPseudoType
	}
	return ty
}

func (l *loader) setDefault(v *variable, a *hclsyntax.Attribute) {
	s := newScope(l.defaultFunctions(), "in the default of a variable")
	value, ok := l.eval(a.Expr, s)
	v.set = true // even when wrong: "has no value" would be a second error
	if v.Sensitive {
		l.secret(a.Expr.Range())
	}
	if !ok {
		return
	}
	if v.ty == cty.NilType && value.Type().IsPrimitiveType() {
		v.ty = value.Type()
	}
	l.give(v, value, "default", a.Expr.Range())
}

// give converts value to v's type and makes it v's value.
func (l *loader) give(v *variable, value cty.Value, from string, at hcl.Range) {
	v.set, v.setAt = true, at
	if v.ty != cty.NilType {
		converted, err := convert.Convert(value, v.ty)
		if err != nil {
			l.errorf(at, fmt.Sprintf("declared as %s at %s", v.ty.FriendlyName(), l.position(v.at)),
				"variable %q: %v", v.Name, shown(err.Error()))
			v.value = cty.DynamicVal
			return
		}
		value = converted
	}
	v.value, v.From = value, from
}

func (l *loader) validationBlock(v *variable, b *hclsyntax.Block) {
	if !l.labels(b, "") {
		return
	}
	r := l.read("validation block", b, newScope(l.functions, "in an error message"))
	check := validation{at: b.DefRange(), message: r.required("error_message")}
	if a := r.attr("condition"); a == nil {
		l.errorf(b.DefRange(), "", "missing attribute %q in validation block", "condition")
	} else {
		check.condition = a.Expr
		v.checks = append(v.checks, check)
	}
	r.finish()
}

// validate runs the validation blocks of v, which see v alone.
func (l *loader) validate(v *variable) {
	if !v.value.IsWhollyKnown() {
		return
	}
	s := newScope(l.functions, "in a validation condition").with("var", map[string]cty.Value{v.Name: v.value})
	for _, check := range v.checks {
		for _, t := range check.condition.Variables() {
			if name, rng := second(t); t.RootName() == "var" && name != v.Name && l.variables[name] != nil {
				l.errorf(rng, "", "validation of variable %q may name var.%s alone", v.Name, v.Name)
				return
			}
		}
		holds, ok := l.evalAs(check.condition, s, cty.Bool, "condition")
		if !ok {
			return
		}
		if holds.IsNull() {
			l.errorf(check.condition.Range(), "", "condition of variable %q is null", v.Name)
		} else if holds.False() {
			l.errorf(v.setAt, "rule at "+l.position(check.at).String(),
				"invalid value for variable %q: %s", v.Name, plain(check.message))
		}
	}
}
