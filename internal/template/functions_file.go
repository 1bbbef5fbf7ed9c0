package template

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
)

// fileFunctions read files. A relative path starts in the template's folder,
// as in Packer, unlike the paths of provisioners.
func (l *loader) fileFunctions() map[string]function.Function {
	exists := function.New(&function.Spec{
		Params: []function.Parameter{{Name: "path", Type: cty.String}},
		Type:   function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			info, err := os.Stat(l.inTemplate(args[0].AsString()))
			return cty.BoolVal(err == nil && info.Mode().IsRegular()), nil
		},
	})
	return map[string]function.Function{
		"abspath": text1("path", func(path string) (string, error) {
			if filepath.IsAbs(path) {
				return filepath.Clean(path), nil
			}
			return filepath.Join(l.cwd, path), nil
		}),
		"pathexpand":   text1("path", l.expandHome),
		"file":         text1("path", l.fileText),
		"fileexists":   exists,
		"templatefile": l.templateFile(),
	}
}

// expandHome replaces a leading ~ by HOME.
func (l *loader) expandHome(path string) (string, error) {
	rest, ok := strings.CutPrefix(path, "~")
	if !ok {
		return path, nil
	}
	home, _ := l.opts.Env("HOME")
	switch {
	case rest != "" && rest[0] != '/':
		return "", errors.New("~user is not supported")
	case home == "":
		return "", errors.New("HOME is not set")
	}
	return home + rest, nil
}

// inTemplate gives the path to open. "${path.root}/x" finds x too: with a
// relative path.root Packer would look for path.root/path.root/x.
func (l *loader) inTemplate(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	inside := l.at(filepath.Join(l.root, path))
	if _, err := os.Stat(inside); err != nil {
		if rel, err := filepath.Rel(l.root, path); err == nil && filepath.IsLocal(rel) {
			return l.at(path)
		}
	}
	return inside
}

func (l *loader) fileText(path string) (string, error) {
	name := l.inTemplate(path)
	src, err := readFile(name)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", fmt.Errorf("no such file %q (a relative path starts in the template's folder)", path)
	case err != nil:
		return "", fmt.Errorf("%q: %w", path, err)
	case !utf8.Valid(src):
		return "", fmt.Errorf("%q is not UTF-8 text", path)
	}
	l.reads(RoleFunction, name, src)
	return string(src), nil
}

// templateFile reads a file as an HCL string template with variables of its
// own. It cannot call templatefile itself: no recursion.
func (l *loader) templateFile() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "path", Type: cty.String}, {Name: "vars", Type: cty.DynamicPseudoType}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			path, vars := args[0].AsString(), args[1]
			unknown := cty.UnknownVal(cty.String)
			if ty := vars.Type(); !ty.IsObjectType() && !ty.IsMapType() {
				return unknown, function.NewArgErrorf(1, "an object is required")
			}
			text, err := l.fileText(path)
			if err != nil {
				return unknown, function.NewArgError(0, err)
			}
			text, err = l.renderFile(path, []byte(text), vars.AsValueMap())
			if err != nil {
				return unknown, function.NewArgError(0, err)
			}
			return cty.StringVal(text), nil
		},
	})
}

// renderFile evaluates src as a template. Its mistakes come back as one error,
// with the place in the file.
func (l *loader) renderFile(path string, src []byte, vars map[string]cty.Value) (string, error) {
	inner := &loader{text: map[string][]byte{path: src}, meter: l.meter}
	tokens, _ := hclsyntax.LexTemplate(src, path, hcl.InitialPos)
	text := ""
	if inner.guardTokens(tokens) {
		text = inner.evalTemplate(path, src, vars, l.functions)
	}
	if len(inner.diags) > 0 {
		return "", fmt.Errorf("%s: %s", inner.diags[0].Range, inner.diags[0].Summary)
	}
	return text, nil
}

func (l *loader) evalTemplate(path string, src []byte, vars map[string]cty.Value, functions map[string]function.Function) string {
	expr, diags := hclsyntax.ParseTemplate(src, path, hcl.InitialPos)
	if diags.HasErrors() {
		l.syntax(diags)
		return ""
	}
	s := newScope(maps.Clone(functions), "in a template file")
	delete(s.functions, "templatefile") // no recursion
	for _, t := range expr.Variables() {
		if _, ok := vars[t.RootName()]; !ok {
			l.errorf(t.SourceRange(), "", "no variable %q is given", t.RootName())
			return ""
		}
	}
	if l.checkCalls(expr, s, typeArguments(expr)); len(l.diags) > 0 {
		return ""
	}
	v, diags := expr.Value(&hcl.EvalContext{Variables: vars, Functions: s.functions})
	if diags.HasErrors() {
		l.evaluation(expr.Range(), diags)
		return ""
	}
	text, err := convert.Convert(v, cty.String)
	if err != nil || text.IsNull() || !text.IsKnown() {
		l.errorf(expr.Range(), "", "gives no text")
		return ""
	}
	return text.AsString()
}
