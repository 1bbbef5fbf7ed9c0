package template

import (
	"fmt"
	"maps"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"

	"github.com/kldload/kldload/internal/suggest"
)

// scope is what an expression may name.
type scope struct {
	values    map[string]cty.Value // by root: var, local, path, source, build
	names     map[string][]string  // the names under each root
	functions map[string]function.Function
	where     string // for a message: "in the default of a variable"
}

// with gives a scope that knows one root more.
func (s *scope) with(root string, object map[string]cty.Value) *scope {
	values, names := maps.Clone(s.values), maps.Clone(s.names)
	values[root] = cty.ObjectVal(object)
	names[root] = slices.Collect(maps.Keys(object))
	return &scope{values: values, names: names, functions: s.functions, where: s.where}
}

func newScope(functions map[string]function.Function, where string) *scope {
	return &scope{values: map[string]cty.Value{}, names: map[string][]string{}, functions: functions, where: where}
}

// eval evaluates expr in s. It reports false after an error and for a value
// that hangs on one reported before.
func (l *loader) eval(expr hclsyntax.Expression, s *scope) (cty.Value, bool) {
	if !l.check(expr, s) {
		return cty.DynamicVal, false
	}
	v, diags := expr.Value(&hcl.EvalContext{Variables: s.values, Functions: s.functions})
	if diags.HasErrors() {
		l.evaluation(expr.Range(), diags)
		return cty.DynamicVal, false
	}
	v, _ = v.UnmarkDeep()
	if weigh(v, maxValue, 0) > maxValue {
		l.errorf(expr.Range(), "", "value too large")
		return cty.DynamicVal, false
	}
	return v, v.IsWhollyKnown()
}

// evalAs evaluates expr and converts it to ty. what names it in the message.
func (l *loader) evalAs(expr hclsyntax.Expression, s *scope, ty cty.Type, what string) (cty.Value, bool) {
	v, ok := l.eval(expr, s)
	if !ok {
		return v, false
	}
	out, err := convert.Convert(v, ty)
	if err != nil {
		l.errorf(expr.Range(), "", "%s: %v", what, shown(err.Error()))
		return cty.DynamicVal, false
	}
	return out, true
}

// check looks at the names in expr before it is evaluated: hcl evaluates only
// the branch taken, and its messages know no near names. It checks an
// expression once, however often it is evaluated.
func (l *loader) check(expr hclsyntax.Expression, s *scope) bool {
	if ok, done := l.checked[expr]; done {
		return ok
	}
	before := len(l.diags)
	types := typeArguments(expr)
	for _, t := range expr.Variables() { // before checkCalls, which hides loop bodies from it
		if !within(t.SourceRange(), types) {
			l.checkReference(t, s)
		}
	}
	l.checkCalls(expr, s, types)
	ok := len(l.diags) == before
	l.checked[expr] = ok
	return ok
}

// checkCalls looks at the function names in expr outside of types, and puts
// the meter into its for expressions.
func (l *loader) checkCalls(expr hclsyntax.Expression, s *scope, types []hcl.Range) {
	var loops []*hclsyntax.ForExpr
	hclsyntax.VisitAll(expr, func(n hclsyntax.Node) hcl.Diagnostics {
		switch n := n.(type) {
		case *hclsyntax.FunctionCallExpr:
			if !within(n.NameRange, types) {
				l.checkFunction(n, s)
			}
		case *hclsyntax.ForExpr:
			loops = append(loops, n)
		}
		return nil
	})
	for _, f := range loops {
		f.ValExpr = &metered{f.ValExpr, l.meter}
	}
}

// typeArguments gives the places of the types in convert(value, type): their
// keywords look like names and calls.
func typeArguments(expr hclsyntax.Expression) []hcl.Range {
	var found []hcl.Range
	hclsyntax.VisitAll(expr, func(n hclsyntax.Node) hcl.Diagnostics {
		if call, ok := n.(*hclsyntax.FunctionCallExpr); ok && call.Name == "convert" && len(call.Args) == 2 {
			found = append(found, call.Args[1].Range())
		}
		return nil
	})
	return found
}

func within(rng hcl.Range, ranges []hcl.Range) bool {
	return slices.ContainsFunc(ranges, func(r hcl.Range) bool {
		return rng.Start.Byte >= r.Start.Byte && rng.End.Byte <= r.End.Byte
	})
}

func (l *loader) checkFunction(call *hclsyntax.FunctionCallExpr, s *scope) {
	if _, ok := s.functions[call.Name]; ok {
		return
	}
	if call.Name == "env" {
		l.errorf(call.NameRange, `declare variable "NAME" { default = env("NAME") } and use var.NAME`,
			"function \"env\" is for defaults of variables only")
		return
	}
	if why, ok := missingFunctions[call.Name]; ok {
		l.errorf(call.NameRange, why, "function %q of Packer is not supported by this version", call.Name)
		return
	}
	hint := ""
	if near := suggest.Nearest(call.Name, slices.Collect(maps.Keys(s.functions))); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	l.errorf(call.NameRange, hint, "unknown function %q", call.Name)
}

// roots are the names a template may use somewhere.
var roots = []string{"var", "local", "path", "source", "build"}

func (l *loader) checkReference(t hcl.Traversal, s *scope) {
	root := t.RootName()
	names, ok := s.names[root]
	if !ok {
		l.unknownRoot(t, root, s)
		return
	}
	name, rng := second(t)
	if name == "" {
		l.errorf(t.SourceRange(), fmt.Sprintf("write %s.NAME", root), "%q needs a name after it", root)
		return
	}
	if slices.Contains(names, name) {
		return
	}
	switch root {
	case "var":
		l.errorf(rng, suggestReference(root, name, names), "undefined variable %q", name)
	case "local":
		l.errorf(rng, suggestReference(root, name, names), "undefined local %q", name)
	default:
		l.errorf(rng, suggestReference(root, name, names), "%q has no %q", root, name)
	}
}

func (l *loader) unknownRoot(t hcl.Traversal, root string, s *scope) {
	hint := ""
	switch name, _ := second(t); {
	case root == "source" || root == "build":
		hint = "source and build are known inside build blocks and the sources they use"
	case slices.Contains(roots, root):
		l.errorf(t.SourceRange(), hint, "%q is not known %s", root, s.where)
		return
	case root == "data", root == "packer", root == "each":
		hint = "not supported by this version"
	case l.variables[root] != nil:
		hint = fmt.Sprintf("did you mean var.%s?", root)
	case l.locals[root] != nil:
		hint = fmt.Sprintf("did you mean local.%s?", root)
	case name == "" && len(t) == 1:
		hint = fmt.Sprintf("a string is written in quotes: %q", root)
	default:
		hint = suggest.Hint(root, slices.Collect(maps.Keys(s.names)))
	}
	l.errorf(t.SourceRange(), hint, "unknown name %q", root)
}

func suggestReference(root, name string, names []string) string {
	if near := suggest.Nearest(name, names); near != "" {
		return fmt.Sprintf("did you mean %s.%s?", root, near)
	}
	if root == "var" {
		return fmt.Sprintf("declare it: variable %q { … }", name)
	}
	return suggest.Have(names)
}

// second gives the name after the root of t: var.NAME or var["NAME"].
func second(t hcl.Traversal) (string, hcl.Range) {
	if len(t) < 2 {
		return "", t.SourceRange()
	}
	switch step := t[1].(type) {
	case hcl.TraverseAttr:
		return step.Name, hcl.RangeBetween(t[0].SourceRange(), step.SrcRange)
	case hcl.TraverseIndex:
		if step.Key.Type() == cty.String && step.Key.IsKnown() && !step.Key.IsNull() {
			return step.Key.AsString(), hcl.RangeBetween(t[0].SourceRange(), step.SrcRange)
		}
	}
	return "", t.SourceRange()
}
