package template

import (
	"fmt"
	"maps"
	"math/big"
	"slices"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/kldload/kldload/internal/suggest"
)

// reader takes the settings out of a block, one by one, by name. What was
// asked for is what is known, so that finish can report the rest.
type reader struct {
	l      *loader
	kind   string // `kldload source`, for messages
	bodies []*hclsyntax.Body
	at     hcl.Range
	scope  *scope
	// foreign holds settings that exist elsewhere: name to what to do instead.
	foreign map[string]string

	attrs, inner []string
}

func (l *loader) read(kind string, b *hclsyntax.Block, s *scope) *reader {
	return &reader{l: l, kind: kind, bodies: []*hclsyntax.Body{b.Body}, at: b.DefRange(), scope: s}
}

// attr gives the attribute name, nil when it is not there. Given twice, in a
// source and where a build uses it, is an error, as in Packer.
func (r *reader) attr(name string) *hclsyntax.Attribute {
	r.attrs = append(r.attrs, name)
	var found *hclsyntax.Attribute
	for _, b := range r.bodies {
		a := b.Attributes[name]
		if a != nil && found != nil {
			r.l.errorf(a.NameRange, "set it in one place; a variable can choose the value",
				"attribute %q is set already at %s", name, r.l.position(found.NameRange))
			continue
		}
		if a != nil {
			found = a
		}
	}
	return found
}

// blocks gives the inner blocks of a type.
func (r *reader) blocks(name string) []*hclsyntax.Block {
	r.inner = append(r.inner, name)
	var found []*hclsyntax.Block
	for _, body := range r.bodies {
		for _, b := range body.Blocks {
			if b.Type == name {
				found = append(found, b)
			}
		}
	}
	return found
}

// finish reports every attribute and block nobody asked for.
func (r *reader) finish() {
	for _, body := range r.bodies {
		for _, a := range sortedAttributes(body) {
			r.unknown("attribute", a.Name, a.NameRange, r.attrs, r.inner)
		}
		for _, b := range body.Blocks {
			r.unknown("block", b.Type, b.TypeRange, r.inner, r.attrs)
		}
	}
}

func (r *reader) unknown(what, name string, at hcl.Range, known, other []string) {
	if slices.Contains(known, name) {
		return
	}
	if why, ok := r.foreign[name]; ok {
		r.l.errorf(at, why, "%s %q is not supported in %s", what, name, r.kind)
		return
	}
	hint := ""
	switch near := suggest.Nearest(name, known); {
	case name == "dynamic" && what == "block":
		hint = "dynamic blocks are not supported by this version"
	case slices.Contains(other, name) && what == "block":
		hint = fmt.Sprintf("it is an attribute: %s = …", name)
	case slices.Contains(other, name):
		hint = fmt.Sprintf("it is a block: %s { … }", name)
	case near != "":
		hint = fmt.Sprintf("did you mean %q?", near)
	case suggest.Nearest(name, other) != "":
		hint = fmt.Sprintf("did you mean %q?", suggest.Nearest(name, other))
	case len(known) > 0:
		hint = suggest.Have(known)
	}
	r.l.errorf(at, hint, "unknown %s %q", what, name)
}

// value gives the attribute name as ty. ok is false when it is absent, null
// or wrong; wrong is reported.
func (r *reader) value(name string, ty cty.Type) (v cty.Value, expr hclsyntax.Expression, ok bool) {
	a := r.attr(name)
	if a == nil {
		return cty.NilVal, nil, false
	}
	v, ok = r.l.evalAs(a.Expr, r.scope, ty, fmt.Sprintf("%q", name))
	if !ok || v.IsNull() {
		return v, a.Expr, false
	}
	return v, a.Expr, true
}

// str gives a string attribute, or def.
func (r *reader) str(name, def string) string {
	s, _, _ := r.text(name, def)
	return s
}

func (r *reader) text(name, def string) (s string, at hcl.Range, ok bool) {
	v, expr, ok := r.value(name, cty.String)
	if !ok {
		return def, hcl.Range{}, false
	}
	return v.AsString(), expr.Range(), true
}

// required gives a string attribute that must be there and not be empty.
func (r *reader) required(name string) string {
	s, at, ok := r.text(name, "")
	if !ok && !r.has(name) {
		r.l.errorf(r.at, "", "missing attribute %q in %s", name, r.kind)
	}
	if ok && s == "" {
		r.l.errorf(at, "", "%q is empty", name)
	}
	return s
}

// has tells whether an attribute is written, rightly or not.
func (r *reader) has(name string) bool {
	for _, b := range r.bodies {
		if b.Attributes[name] != nil {
			return true
		}
	}
	return false
}

// checked gives a string attribute that must pass check, or def.
func (r *reader) checked(name, def string, check check) string {
	s, at, ok := r.text(name, def)
	if ok {
		r.test(at, name, s, check)
	}
	return s
}

// check says what is wrong with a value ("" for nothing) and what to do.
type check func(value string) (problem, hint string)

func (r *reader) test(at hcl.Range, name, value string, check check) {
	if problem, hint := check(value); problem != "" {
		r.l.errorf(at, hint, "%s %q: %v", name, shown(value), shown(problem))
	}
}

func (r *reader) boolean(name string, def bool) bool {
	v, _, ok := r.value(name, cty.Bool)
	if !ok {
		return def
	}
	return v.True()
}

// item is one string of a list and where it is written.
type item struct {
	text string
	at   hcl.Range
}

// list gives a list of strings, each with its place when the list is written
// out.
func (r *reader) list(name string) []item {
	v, expr, ok := r.value(name, cty.List(cty.String))
	if !ok {
		return nil
	}
	places, diags := hcl.ExprList(expr)
	if diags.HasErrors() || len(places) != v.LengthInt() {
		places = nil
	}
	var items []item
	for i, s := range v.AsValueSlice() {
		at := expr.Range()
		if places != nil {
			at = places[i].Range()
		}
		if s.IsNull() {
			r.l.errorf(at, "", "%q holds a null", name)
			continue
		}
		items = append(items, item{s.AsString(), at})
	}
	return items
}

// strings gives a list of strings, each of which must pass check (nil for any).
func (r *reader) strings(name string, check check) []string {
	items := r.list(name)
	list := make([]string, 0, len(items))
	for _, it := range items {
		if check != nil {
			r.test(it.at, name, it.text, check)
		}
		list = append(list, it.text)
	}
	if len(list) == 0 {
		return nil
	}
	return list
}

// table gives a map of strings.
func (r *reader) table(name string) map[string]string {
	v, expr, ok := r.value(name, cty.Map(cty.String))
	if !ok {
		return nil
	}
	m := map[string]string{}
	for key, s := range v.AsValueMap() {
		if s.IsNull() {
			r.l.errorf(expr.Range(), "", "%q: the value of %q is null", name, shown(key))
			continue
		}
		m[key] = s.AsString()
	}
	return m
}

// pair is one entry of a map of strings and where its value is written.
type pair struct {
	key string
	item
}

// pairs gives a map of strings by key, each with its place when the map is
// written out.
func (r *reader) pairs(name string) []pair {
	table := r.table(name)
	if len(table) == 0 {
		return nil
	}
	expr := r.attr(name).Expr
	places := map[string]hcl.Range{}
	if written, ok := expr.(*hclsyntax.ObjectConsExpr); ok {
		for _, it := range written.Items {
			if key, ok := r.l.eval(it.KeyExpr, r.scope); ok && key.Type() == cty.String && !key.IsNull() {
				places[key.AsString()] = it.ValueExpr.Range()
			}
		}
	}
	list := make([]pair, 0, len(table))
	for _, key := range slices.Sorted(maps.Keys(table)) {
		at, ok := places[key]
		if !ok {
			at = expr.Range()
		}
		list = append(list, pair{key, item{table[key], at}})
	}
	return list
}

// integers gives a list of whole numbers in from … to.
func (r *reader) integers(name string, from, to int64) []int {
	v, expr, ok := r.value(name, cty.List(cty.Number))
	if !ok {
		return nil
	}
	var list []int
	for _, n := range v.AsValueSlice() {
		if n.IsNull() || !inRange(n.AsBigFloat(), from, to) {
			r.l.errorf(expr.Range(), "", "%q holds a number that is not a whole one from %d to %d", name, from, to)
			continue
		}
		i, _ := n.AsBigFloat().Int64()
		list = append(list, int(i))
	}
	return list
}

func inRange(n *big.Float, from, to int64) bool {
	i, accuracy := n.Int64()
	return accuracy == big.Exact && i >= from && i <= to
}

// duration gives a Go duration ("90s", "30m") above zero and at most a day.
func (r *reader) duration(name string, def time.Duration) time.Duration {
	s, at, ok := r.text(name, "")
	if !ok {
		return def
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 || d > 24*time.Hour {
		r.l.errorf(at, `write it like "90s", "30m" or "1h30m"`, "%s %q: not a time above zero and at most 24h", name, shown(s))
		return def
	}
	return d
}
