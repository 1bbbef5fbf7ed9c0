package template

import (
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// Bounds. The parser and the evaluator recurse, so that a hostile template
// would end in a stack overflow, which no Go program survives; these stop it
// before. Real templates are two orders of magnitude below each.
const (
	maxFileSize  = 1 << 20 // bytes of one template, variable file or file()
	maxDepth     = 100     // nested brackets and ${ }
	maxOperators = 1000    // operators in one expression
	maxLocals    = 10000
	maxWork      = 1 << 20  // rounds of for, summed over the template
	maxValue     = 4 << 20  // bytes and elements of one value
	maxLoopValue = 64 << 20 // the same, summed over all rounds of for
	maxExponent  = 1 << 12  // binary exponent of a number
	maxTemplate  = 64 << 10 // bytes of a {{ }} string
)

// nesting counts what one open bracket holds.
type nesting struct {
	open      hclsyntax.TokenType
	operators int
}

// guard rejects src before it is parsed as a file; see guardTokens.
func (l *loader) guard(name string, src []byte) bool {
	tokens, _ := hclsyntax.LexConfig(src, name, hcl.InitialPos)
	return l.guardTokens(tokens)
}

// guardTokens rejects a text before it is parsed if parsing or evaluating it would
// recurse too deep. It reports whether it may be parsed.
func (l *loader) guardTokens(tokens hclsyntax.Tokens) bool {
	stack := []nesting{{}}
	ended := false // a line that may have ended an expression
	for i, t := range tokens {
		top := &stack[len(stack)-1]
		if ended && !operator(t.Type) {
			top.operators = 0
		}
		ended = t.Type == hclsyntax.TokenNewline && i > 0 && !operator(tokens[i-1].Type) &&
			(len(stack) == 1 || top.open == hclsyntax.TokenOBrace)
		switch t.Type {
		case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack, hclsyntax.TokenOParen, hclsyntax.TokenOQuote,
			hclsyntax.TokenOHeredoc, hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl:
			top.operators++
			stack = append(stack, nesting{open: t.Type})
		case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen, hclsyntax.TokenCQuote,
			hclsyntax.TokenCHeredoc, hclsyntax.TokenTemplateSeqEnd:
			if len(stack) > 1 {
				stack = stack[:len(stack)-1]
			}
		case hclsyntax.TokenComma:
			top.operators = 0
		case hclsyntax.TokenNumberLit:
			if hugeNumber(string(t.Bytes)) {
				l.errorf(t.Range, "", "number too large")
				return false
			}
		default:
			if operator(t.Type) {
				top.operators++
			}
		}
		if len(stack) > maxDepth || stack[len(stack)-1].operators > maxOperators {
			l.errorf(t.Range, "split it up with locals", "nested too deep (at most %d brackets, %d operators)", maxDepth, maxOperators)
			return false
		}
	}
	return true
}

// hugeNumber tells numbers of more digits than any use has.
func hugeNumber(literal string) bool {
	i := strings.IndexAny(literal, "eE")
	return len(literal) > 1000 || i >= 0 && len(strings.TrimLeft(literal[i+1:], "+-0")) > 3
}

// operator tells the tokens that make an expression one deeper, or may.
func operator(t hclsyntax.TokenType) bool {
	switch t {
	case hclsyntax.TokenStar, hclsyntax.TokenSlash, hclsyntax.TokenPlus, hclsyntax.TokenMinus,
		hclsyntax.TokenPercent, hclsyntax.TokenEqualOp, hclsyntax.TokenNotEqual,
		hclsyntax.TokenLessThan, hclsyntax.TokenLessThanEq, hclsyntax.TokenGreaterThan,
		hclsyntax.TokenGreaterThanEq, hclsyntax.TokenAnd, hclsyntax.TokenOr, hclsyntax.TokenBang,
		hclsyntax.TokenDot, hclsyntax.TokenQuestion, hclsyntax.TokenColon, hclsyntax.TokenFatArrow:
		return true
	}
	return false
}

// meter bounds the work of all for expressions of a template.
type meter struct{ rounds, size int }

// metered is the body of a for expression, counted at each round.
type metered struct {
	hclsyntax.Expression
	meter *meter
}

func (m *metered) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	spent := m.meter.rounds <= 0 || m.meter.size <= 0
	m.meter.rounds--
	if spent {
		if m.meter.rounds < -1 {
			return cty.DynamicVal, nil // said once
		}
		m.meter.rounds = -1
		rng := m.Range()
		return cty.DynamicVal, hcl.Diagnostics{{Severity: hcl.DiagError, Summary: "Too much work in for expressions", Subject: &rng}}
	}
	v, diags := m.Expression.Value(ctx)
	if v.IsKnown() && !v.IsNull() && v.Type() == cty.String {
		m.meter.size -= len(v.AsString())
	}
	return v, diags
}

// weigh counts the bytes and elements of v, stopping when the count is past
// limit. A number of a huge exponent weighs as much as its digits.
func weigh(v cty.Value, limit, depth int) int {
	if v.IsNull() || !v.IsKnown() || limit < 0 {
		return 1
	}
	switch ty := v.Type(); {
	case depth > maxDepth:
		return limit + 1
	case ty == cty.String:
		return 1 + len(v.AsString())
	case ty == cty.Number:
		if exp := v.AsBigFloat().MantExp(nil); exp > maxExponent || exp < -maxExponent {
			return limit + 1
		}
		return 1
	case ty.IsCollectionType() || ty.IsTupleType() || ty.IsObjectType():
		n := 1
		for it := v.ElementIterator(); it.Next() && n <= limit; {
			key, elem := it.Element()
			n += weigh(elem, limit-n, depth+1)
			if key.IsKnown() && key.Type() == cty.String {
				n += len(key.AsString())
			}
		}
		return n
	}
	return 1
}
