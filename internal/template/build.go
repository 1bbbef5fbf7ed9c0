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

// use is one source of one build block.
type use struct {
	id, name string // "kldload.base" of the source block; the name in this build
	more     *hclsyntax.Body
	at       hcl.Range
}

// evaluateBuilds reads every build block once for each of its sources, as
// source.name and only and except make them differ.
func (l *loader) evaluateBuilds() {
	if len(l.builds) == 0 && len(l.diags) == 0 {
		l.errorf(hcl.Range{Filename: l.root}, "build { sources = [\"source.kldload.NAME\"] } says what to build", "the template has no build block")
	}
	for _, b := range l.builds {
		l.build(b)
	}
	l.unusedSources()
}

func (l *loader) build(b *hclsyntax.Block) {
	s := l.full("in a build block")
	r := l.read("build block", b, s)
	r.foreign = map[string]string{
		"error-cleanup-provisioner": "a failed build leaves nothing behind", "hcp_packer_registry": "remove it",
	}
	build := Build{Name: r.str("name", ""), Description: r.str("description", ""), Range: l.position(b.DefRange())}
	s = s.with("build", map[string]cty.Value{"name": cty.StringVal(build.Name)})
	uses := l.uses(r, s)
	provisioners, chains := r.blocks("provisioner"), r.blocks("post-processor")
	chains = append(chains, r.blocks("post-processors")...)
	slices.SortFunc(chains, func(a, b *hclsyntax.Block) int { return a.TypeRange.Start.Byte - b.TypeRange.Start.Byte })
	r.finish()
	for _, u := range uses {
		one := build
		def := l.sources[u.id]
		mine := s.with("source", sourceValues(def.block.Labels[0], u.name))
		one.Source, _ = l.source(u.id, u.name, u.more, mine)
		id := def.block.Labels[0] + "." + u.name
		for _, p := range provisioners {
			if p, ok := l.provisioner(p, mine, id); ok {
				one.Provisioners = append(one.Provisioners, p)
			}
		}
		for _, c := range chains {
			if chain := l.chain(c, mine, id); len(chain) > 0 {
				one.PostProcessors = append(one.PostProcessors, chain)
			}
		}
		l.result.Builds = append(l.result.Builds, one)
	}
}

// uses lists the sources of a build: its sources list and its source blocks.
func (l *loader) uses(r *reader, s *scope) []use {
	var uses []use
	r.scope = s
	for _, it := range r.sourceList() {
		if id, ok := l.reference(it); ok {
			uses = append(uses, use{id: id, name: l.sources[id].block.Labels[1], at: it.at})
		}
	}
	for _, b := range r.blocks("source") {
		if !l.labels(b, "source.TYPE.NAME") {
			continue
		}
		if id, ok := l.reference(item{b.Labels[0], b.LabelRanges[0]}); ok {
			uses = append(uses, l.override(id, b, s))
		}
	}
	if len(uses) == 0 && !r.has("sources") && len(r.blocks("source")) == 0 {
		l.errorf(r.at, "write sources = [\"source.kldload.NAME\"]", "the build has no source")
	}
	seen := map[string]bool{}
	for _, u := range uses {
		id := strings.SplitN(u.id, ".", 2)[0] + "." + u.name
		if seen[id] {
			l.errorf(u.at, "give one of them another name: source \"source."+u.id+"\" { name = \"…\" }", "source %q is used twice in this build", id)
		}
		seen[id] = true
	}
	return uses
}

// sourceList reads sources. A reference without quotes is a common slip.
func (r *reader) sourceList() []item {
	for _, body := range r.bodies {
		a := body.Attributes["sources"]
		if a == nil {
			continue
		}
		for _, t := range a.Expr.Variables() {
			if t.RootName() == "source" {
				r.attr("sources")
				text := string(t.SourceRange().SliceBytes(r.l.text[t.SourceRange().Filename]))
				r.l.errorf(t.SourceRange(), "write \""+text+"\"", "a source is named in quotes")
				return nil
			}
		}
	}
	return r.list("sources")
}

// reference finds the source block that "source.type.name", or the older
// "type.name", means.
func (l *loader) reference(it item) (string, bool) {
	id := strings.TrimPrefix(it.text, "source.")
	if l.sources[id] != nil {
		return id, true
	}
	l.errorf(it.at, suggest.Hint(it.text, l.references()), "undefined source %q", shown(it.text))
	return "", false
}

// override takes the name out of a source block of a build; what is left are
// settings.
func (l *loader) override(id string, b *hclsyntax.Block, s *scope) use {
	u := use{id: id, name: l.sources[id].block.Labels[1], at: b.DefRange()}
	body := *b.Body
	if a := body.Attributes["name"]; a != nil {
		body.Attributes = maps.Clone(body.Attributes)
		delete(body.Attributes, "name")
		v, ok := l.evalAs(a.Expr, s, cty.String, `"name"`)
		switch {
		case !ok:
		case v.IsNull() || !hclsyntax.ValidIdentifier(v.AsString()):
			l.errorf(a.Expr.Range(), "letters, digits, _ and -, a letter first", "source name is not an identifier")
		default:
			u.name = v.AsString()
		}
	}
	u.more = &body
	return u
}

// names gives the "type.name" of every use in every build, for only and
// except. They are found without evaluating, once.
func (l *loader) names() map[string]bool {
	if l.used != nil {
		return l.used
	}
	l.used = map[string]bool{}
	for id := range l.sources {
		l.used[id] = true
	}
	s := l.full("in a build block")
	for _, b := range l.builds {
		for _, inner := range b.Body.Blocks {
			a := inner.Body.Attributes["name"]
			if inner.Type != "source" || a == nil || len(inner.Labels) != 1 {
				continue
			}
			if v, diags := a.Expr.Value(&hcl.EvalContext{Variables: s.values, Functions: s.functions}); !diags.HasErrors() &&
				v.Type() == cty.String && v.IsKnown() && !v.IsNull() {
				ty, _, _ := strings.Cut(strings.TrimPrefix(inner.Labels[0], "source."), ".")
				l.used[ty+"."+v.AsString()] = true
			}
		}
	}
	return l.used
}
