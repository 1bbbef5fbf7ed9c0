package template

import (
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// local is one entry of a locals block, or one local block.
type local struct {
	name      string
	expr      hclsyntax.Expression
	at        hcl.Range
	sensitive bool
	state     int
	value     cty.Value
}

const (
	waiting = iota
	running // on the path being evaluated: meeting it again is a cycle
	done
)

func (l *loader) collectLocals(b *hclsyntax.Block) {
	if !l.labels(b, "") {
		return
	}
	for _, a := range sortedAttributes(b.Body) {
		l.addLocal(&local{name: a.Name, expr: a.Expr, at: a.NameRange})
	}
	for _, inner := range b.Body.Blocks {
		l.errorf(inner.TypeRange, "write "+inner.Type+" = { … }", "block %q inside locals", inner.Type)
	}
}

// collectLocal takes Packer's single form, which can be sensitive.
func (l *loader) collectLocal(b *hclsyntax.Block) {
	if !l.labels(b, "NAME") {
		return
	}
	r := l.read("local block", b, newScope(l.functions, "in the sensitive setting of a local"))
	sensitive := r.boolean("sensitive", false)
	if a := r.attr("expression"); a == nil {
		l.errorf(b.DefRange(), "", "missing attribute %q in local block", "expression")
	} else {
		l.addLocal(&local{name: b.Labels[0], expr: a.Expr, at: b.DefRange(), sensitive: sensitive})
	}
	r.finish()
}

func (l *loader) addLocal(x *local) {
	if old := l.locals[x.name]; old != nil {
		l.errorf(x.at, "first defined at "+l.position(old.at).String(), "local %q defined twice", x.name)
		return
	}
	if len(l.locals) == maxLocals {
		l.errorf(x.at, "", "more than %d locals", maxLocals)
		return
	}
	x.value = cty.DynamicVal
	l.locals[x.name] = x
}

// evaluateLocals gives every local its value, each after those it names.
func (l *loader) evaluateLocals() {
	s := l.base("in locals")
	s.names["local"] = slices.Collect(maps.Keys(l.locals))
	for _, name := range slices.Sorted(maps.Keys(l.locals)) {
		l.evaluateLocal(l.locals[name], s, nil)
	}
}

// base is the scope every expression after the variables has.
func (l *loader) base(where string) *scope {
	vars := map[string]cty.Value{}
	for name, v := range l.variables {
		vars[name] = v.value
	}
	return newScope(l.functions, where).with("var", vars).with("path", map[string]cty.Value{
		"root": cty.StringVal(l.root), "cwd": cty.StringVal(l.cwd),
	})
}

// evaluateLocal evaluates x after the locals it names; path leads to it. The
// recursion is at most maxLocals deep.
func (l *loader) evaluateLocal(x *local, s *scope, path []string) {
	if x.state == done {
		return
	}
	path = append(path, x.name)
	if x.state == running {
		cycle := path[slices.Index(path, x.name):]
		if len(cycle) > 10 {
			cycle = append(slices.Clone(cycle[:9]), "…", x.name)
		}
		l.errorf(x.at, "", "locals go round in a circle: %s", strings.Join(cycle, " → "))
		return
	}
	x.state = running
	needs := map[string]cty.Value{}
	for _, t := range x.expr.Variables() {
		name, _ := second(t)
		if dep := l.locals[name]; t.RootName() == "local" && dep != nil {
			l.evaluateLocal(dep, s, path)
			needs[name] = dep.value
		}
	}
	mine := &scope{values: maps.Clone(s.values), names: s.names, functions: s.functions, where: s.where}
	mine.values["local"] = cty.ObjectVal(needs)
	x.value, _ = l.eval(x.expr, mine)
	x.state = done
	if x.sensitive {
		l.keepSecret("local "+x.name, x.value)
	}
}

// full is the scope of build blocks and sources: base and the locals.
func (l *loader) full(where string) *scope {
	values := map[string]cty.Value{}
	for name, x := range l.locals {
		values[name] = x.value
	}
	return l.base(where).with("local", values)
}
