package template

import (
	"errors"
	"regexp"
	"strconv"
	"strings"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// bounded refuses a call of f when size says that its result would be larger
// than maxValue. size sees known values alone.
func bounded(f function.Function, size func(args []cty.Value) int) function.Function {
	check := func(args []cty.Value) error {
		for _, a := range args {
			if !a.IsWhollyKnown() || a.IsNull() {
				return nil
			}
		}
		if size(args) > maxValue {
			return errors.New("the result would be too large")
		}
		return nil
	}
	return function.New(&function.Spec{
		Params:   f.Params(),
		VarParam: f.VarParam(),
		Type: func(args []cty.Value) (cty.Type, error) {
			if err := check(args); err != nil {
				return cty.NilType, err
			}
			return f.ReturnTypeForValues(args)
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) { return f.Call(args) },
	})
}

func total(args []cty.Value) int {
	n := 0
	for _, a := range args {
		n += weigh(a, maxValue, 0)
	}
	return n
}

var widthRE = regexp.MustCompile(`[0-9]+`)

// formatSize: each number in the format may be a width or a precision.
func formatSize(args []cty.Value) int {
	n := total(args)
	if args[0].Type() != cty.String {
		return n
	}
	for _, w := range widthRE.FindAllString(args[0].AsString(), -1) {
		width, err := strconv.Atoi(w)
		if err != nil || width > maxValue {
			return maxValue + 1
		}
		n += width
	}
	return n
}

// indentSize: every line grows by the number of blanks.
func indentSize(args []cty.Value) int {
	blanks, _ := args[0].AsBigFloat().Int64()
	return product(int(min(max(blanks, 0), maxValue)), len(args[1].AsString())+1)
}

// joinSize: the separator comes once for each element.
func joinSize(args []cty.Value) int {
	elements := total(args[1:])
	return elements + product(len(args[0].AsString()), elements)
}

// replaceSize: an empty pattern matches at every place.
func replaceSize(args []cty.Value) int {
	s, with := args[0].AsString(), args[2].AsString()
	return len(s) + product(strings.Count(s, args[1].AsString()), len(with))
}

// regexReplaceSize: each $ of the replacement may stand for the whole match.
func regexReplaceSize(args []cty.Value) int {
	s, with := args[0].AsString(), args[2].AsString()
	re, err := regexp.Compile(args[1].AsString())
	if err != nil {
		return 0 // the function says what is wrong
	}
	return product(len(s), strings.Count(with, "$")+1) + product(len(re.FindAllStringIndex(s, -1)), len(with))
}

func productSize(args []cty.Value) int {
	n := 1
	for _, a := range args {
		if !a.CanIterateElements() {
			return 0 // the function says what is wrong
		}
		n = product(n, a.LengthInt()+1)
	}
	return product(n, len(args))
}

// jsonDepth makes JSON nested deeper than maxDepth too large: go-cty's
// decoder recurses.
func jsonDepth(args []cty.Value) int {
	text := args[0].AsString()
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			depth++
		case c == ']' || c == '}':
			depth--
		}
		if depth > maxDepth {
			return maxValue + 1
		}
	}
	return 0
}

// product multiplies without overflow; past maxValue it stays just there.
func product(a, b int) int {
	if a == 0 || b == 0 {
		return 0
	}
	if a > maxValue/b {
		return maxValue + 1
	}
	return a * b
}
