package template

import (
	"maps"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/kldload/kldload/internal/suggest"
)

// fields are the settings of one user, from a users block or from an object
// of the users attribute.
type fields struct {
	values map[string]cty.Value
	places map[string]hcl.Range // of values
	names  map[string]hcl.Range // of names
	at     hcl.Range
}

var userFields = []string{"gecos", "groups", "name", "shell", "ssh_authorized_keys", "sudo"}

// users gives the accounts: blocks users { … }, or a list of objects.
func (r *reader) users() []User {
	var all []fields
	if a := r.attr("users"); a != nil {
		all = r.userObjects(a)
	}
	for _, b := range r.blocks("users") {
		if r.l.labels(b, "") {
			all = append(all, r.userBlock(b))
		}
	}
	var list []User
	seen := map[string]bool{}
	for _, f := range all {
		u := r.user(f)
		if u.Name != "" && seen[u.Name] {
			r.l.errorf(f.at, "", "user %q is there twice", shown(u.Name))
		}
		seen[u.Name] = true
		list = append(list, u)
	}
	return list
}

func (r *reader) userBlock(b *hclsyntax.Block) fields {
	f := fields{map[string]cty.Value{}, map[string]hcl.Range{}, map[string]hcl.Range{}, b.DefRange()}
	for _, a := range sortedAttributes(b.Body) {
		f.names[a.Name], f.places[a.Name] = a.NameRange, a.Expr.Range()
		f.values[a.Name] = cty.DynamicVal
		if v, ok := r.l.eval(a.Expr, r.scope); ok {
			f.values[a.Name] = v
		}
	}
	for _, inner := range b.Body.Blocks {
		r.l.errorf(inner.TypeRange, "", "unknown block %q", inner.Type)
	}
	return f
}

func (r *reader) userObjects(a *hclsyntax.Attribute) []fields {
	v, ok := r.l.eval(a.Expr, r.scope)
	if !ok || v.IsNull() {
		return nil
	}
	if ty := v.Type(); !ty.IsTupleType() && !ty.IsListType() && !ty.IsSetType() {
		r.l.errorf(a.Expr.Range(), `write users = [{ name = "ops" }]`, "\"users\": a list of objects is required")
		return nil
	}
	written, diags := hcl.ExprList(a.Expr)
	if diags.HasErrors() {
		written = nil
	}
	var all []fields
	for i, o := range v.AsValueSlice() {
		f := fields{at: a.Expr.Range(), places: map[string]hcl.Range{}}
		if i < len(written) {
			f.at = written[i].Range()
			f.names, f.places = memberPlaces(written[i])
		}
		if o.IsNull() || !o.Type().IsObjectType() && !o.Type().IsMapType() {
			r.l.errorf(f.at, `write users = [{ name = "ops" }]`, "\"users\": a list of objects is required")
			continue
		}
		f.values = o.AsValueMap()
		all = append(all, f)
	}
	return all
}

// memberPlaces gives where the members of an object are, if it is written out.
func memberPlaces(expr hcl.Expression) (names, places map[string]hcl.Range) {
	names, places = map[string]hcl.Range{}, map[string]hcl.Range{}
	pairs, diags := hcl.ExprMap(expr)
	if diags.HasErrors() {
		return names, places
	}
	for _, p := range pairs {
		if key := hcl.ExprAsKeyword(p.Key); key != "" {
			names[key], places[key] = p.Key.Range(), p.Value.Range()
		}
	}
	return names, places
}

// place is where the value of a member is, or the whole when that is not known.
func (f *fields) place(name string) hcl.Range {
	if rng, ok := f.places[name]; ok {
		return rng
	}
	return f.at
}

func (r *reader) user(f fields) User {
	for _, name := range slices.Sorted(maps.Keys(f.values)) {
		r.userField(f, name)
	}
	if v, ok := f.values["name"]; !ok || v.IsNull() {
		r.l.errorf(f.at, "", "missing attribute \"name\" in users")
	}
	u := User{
		Name:              r.userText(f, "name", "", checkUserName),
		Groups:            r.userList(f, "groups", checkUserName),
		Shell:             r.userText(f, "shell", "/bin/bash", checkShell),
		Sudo:              r.userText(f, "sudo", "", checkSudo),
		SSHAuthorizedKeys: r.userList(f, "ssh_authorized_keys", checkKey),
		Gecos:             r.userText(f, "gecos", "", checkGecos),
	}
	switch u.Sudo {
	case "true":
		u.Sudo = "ALL=(ALL) NOPASSWD:ALL"
	case "false":
		u.Sudo = ""
	}
	if u.Name == "root" {
		r.l.errorf(f.place("name"), "make a user with sudo = true; keys for root are given when the image is deployed", "root is locked in every image")
	}
	return u
}

// userField reports a member that users does not have.
func (r *reader) userField(f fields, name string) {
	if slices.Contains(userFields, name) {
		return
	}
	at, ok := f.names[name]
	if !ok {
		at = f.at
	}
	switch name {
	case "password", "passwd", "hashed_passwd", "hashed_password", "plain_text_passwd":
		r.l.errorf(at, "an image is copied to many machines: passwords are injected when it is deployed\n"+
			"(cloud-init user-data); use ssh_authorized_keys here", "%q is not allowed in users", name)
	default:
		r.l.errorf(at, suggest.Hint(name, userFields), "unknown attribute %q", name)
	}
}

// member gives one member as ty; ok is false when it is absent, null or wrong.
func (r *reader) member(f fields, name string, ty cty.Type) (cty.Value, bool) {
	v, there := f.values[name]
	if !there || v.IsNull() || !v.IsWhollyKnown() {
		return cty.NilVal, false
	}
	out, err := convert.Convert(v, ty)
	if err != nil {
		r.l.errorf(f.place(name), "", "%q: %v", name, shown(err.Error()))
		return cty.NilVal, false
	}
	return out, true
}

func (r *reader) userText(f fields, name, def string, check check) string {
	v, ok := r.member(f, name, cty.String)
	if !ok {
		return def
	}
	r.test(f.place(name), name, v.AsString(), check)
	return v.AsString()
}

func (r *reader) userList(f fields, name string, check check) []string {
	v, ok := r.member(f, name, cty.List(cty.String))
	if !ok {
		return nil
	}
	var list []string
	for _, s := range v.AsValueSlice() {
		if s.IsNull() {
			r.l.errorf(f.place(name), "", "%q holds a null", name)
			continue
		}
		r.test(f.place(name), name, s.AsString(), check)
		list = append(list, s.AsString())
	}
	return list
}
