package template

import (
	"fmt"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"

	"github.com/kldload/kldload/internal/suggest"
)

// interpolationFunctions are what {{ }} may call.
var interpolationFunctions = template.FuncMap{"upper": strings.ToUpper, "lower": strings.ToLower}

// Render replaces {{ .Name }} in s by fields: execute_command with Path and
// Vars; a checksum's output with BuildName, BuilderType and ChecksumType.
// upper and lower may be called.
func Render(s string, fields map[string]string) (string, error) {
	t, err := template.New("").Option("missingkey=error").Funcs(interpolationFunctions).Parse(s)
	if err != nil {
		return "", fmt.Errorf("interpolating %q: %w", s, err)
	}
	var b strings.Builder
	if err := t.Execute(&b, fields); err != nil {
		return "", fmt.Errorf("interpolating %q: %w", s, err)
	}
	return b.String(), nil
}

// interpolated gives a string attribute for [Render]; it may name fields.
func (r *reader) interpolated(name, def string, fields ...string) string {
	s, at, ok := r.text(name, def)
	if !ok {
		return def
	}
	r.test(at, name, s, func(s string) (string, string) { return checkInterpolation(s, fields) })
	return s
}

// checkInterpolation looks for mistakes in a {{ }} string without running it.
func checkInterpolation(s string, fields []string) (problem, hint string) {
	if s == "" || len(s) > maxTemplate {
		return "empty or very long", ""
	}
	t, err := template.New("").Funcs(interpolationFunctions).Parse(s)
	if err != nil {
		return strings.TrimPrefix(err.Error(), "template: :1: "), interpolationHint(fields)
	}
	if len(t.Templates()) > 1 {
		return "define is not supported", interpolationHint(fields)
	}
	if t.Tree == nil {
		return "", ""
	}
	return checkNodes(t.Root, fields)
}

func interpolationHint(fields []string) string {
	return "have {{." + strings.Join(fields, "}}, {{.") + "}}"
}

func checkNodes(list *parse.ListNode, fields []string) (problem, hint string) {
	for _, n := range list.Nodes {
		switch n := n.(type) {
		case *parse.TextNode, *parse.CommentNode:
		case *parse.ActionNode:
			if len(n.Pipe.Decl) > 0 {
				return "variables are not supported", interpolationHint(fields)
			}
			problem, hint = checkPipe(n.Pipe, fields)
		default:
			return fmt.Sprintf("%s is not supported", n), interpolationHint(fields)
		}
		if problem != "" {
			return problem, hint
		}
	}
	return "", ""
}

func checkPipe(pipe *parse.PipeNode, fields []string) (problem, hint string) {
	for _, cmd := range pipe.Cmds {
		for _, arg := range cmd.Args {
			switch arg := arg.(type) {
			case *parse.FieldNode:
				name := strings.Join(arg.Ident, ".")
				if slices.Contains(fields, name) {
					continue
				}
				if near := suggest.Nearest(name, fields); near != "" {
					return fmt.Sprintf("unknown key {{.%s}}", name), fmt.Sprintf("did you mean {{.%s}}?", near)
				}
				return fmt.Sprintf("unknown key {{.%s}}", name), interpolationHint(fields)
			case *parse.IdentifierNode:
				if interpolationFunctions[arg.Ident] == nil {
					return fmt.Sprintf("function %s is not supported", arg.Ident), "have upper, lower"
				}
			case *parse.PipeNode:
				if problem, hint = checkPipe(arg, fields); problem != "" {
					return problem, hint
				}
			case *parse.StringNode:
			default:
				return fmt.Sprintf("%s is not supported", arg), interpolationHint(fields)
			}
		}
	}
	return "", ""
}

// mentions tells whether s names the field.
func mentions(s, field string) bool {
	const mark = "\x00"
	out, err := Render(s, map[string]string{"BuildName": "", "BuilderType": "", "ChecksumType": "", field: mark})
	return err != nil || strings.Contains(out, mark)
}
