package scan

import "regexp"

// builtin allows a finding in a file as its package ships it: a test key or an
// example, which everybody has.
type builtin struct {
	pkg, path, rule, reason string
}

// builtinPrefix begins the reasons of the built-in list.
const builtinPrefix = "package "

func builtins() []builtin {
	return []builtin{
		{"libgnutls30", `^usr/lib/[^/]+/libgnutls\.so\.[\d.]+$`, "private-key", "keys of the library's self-tests"},
		{"cloud-init", `^usr/share/doc/cloud-init/examples/`, "private-key", "keys of the manual's examples"},
	}
}

// compiledBuiltin is never written after it is made.
type compiledBuiltin struct {
	builtin
	re *regexp.Regexp
}

func compileBuiltins() []compiledBuiltin {
	var list []compiledBuiltin
	for _, b := range builtins() {
		list = append(list, compiledBuiltin{b, regexp.MustCompile(b.path)})
	}
	return list
}

func (s *ruleSet) builtinReason(rule, path string) string {
	for _, b := range s.builtins {
		if b.rule == rule && b.re.MatchString(path) {
			return builtinPrefix + b.pkg + ": " + b.reason
		}
	}
	return ""
}
