package template

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"math/big"
	"net/url"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// ownFunctions are those that go-cty does not have.
func ownFunctions() map[string]function.Function {
	plain := func(f func(string) string) function.Function {
		return text1("s", func(s string) (string, error) { return f(s), nil })
	}
	return map[string]function.Function{
		"alltrue": all(true), "anytrue": all(false),
		"base64decode": text1("s", decodeBase64),
		"base64encode": plain(func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }),
		"basename":     plain(filepath.Base),
		"dirname":      plain(filepath.Dir),
		"endswith":     test2(strings.HasSuffix),
		"index":        indexFunction(),
		"length":       lengthFunction(),
		"md5":          plain(func(s string) string { h := md5.Sum([]byte(s)); return hex.EncodeToString(h[:]) }),
		"sha1":         plain(func(s string) string { h := sha1.Sum([]byte(s)); return hex.EncodeToString(h[:]) }),
		"sha256":       plain(func(s string) string { h := sha256.Sum256([]byte(s)); return hex.EncodeToString(h[:]) }),
		"sha512":       plain(func(s string) string { h := sha512.Sum512([]byte(s)); return hex.EncodeToString(h[:]) }),
		"startswith":   test2(strings.HasPrefix),
		"strcontains":  test2(strings.Contains),
		"sum":          sumFunction(),
		"urlencode":    plain(url.QueryEscape),
	}
}

func decodeBase64(s string) (string, error) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return "", errors.New("not base64")
	}
	if !utf8.Valid(b) {
		return "", errors.New("the decoded bytes are not UTF-8 text")
	}
	return string(b), nil
}

func test2(f func(a, b string) bool) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "s", Type: cty.String}, {Name: "part", Type: cty.String}},
		Type:   function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			return cty.BoolVal(f(args[0].AsString(), args[1].AsString())), nil
		},
	})
}

// all makes alltrue, or anytrue: the value an empty list has tells which.
func all(empty bool) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "list", Type: cty.List(cty.Bool)}},
		Type:   function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			for it := args[0].ElementIterator(); it.Next(); {
				_, v := it.Element()
				if !v.IsKnown() {
					return cty.UnknownVal(cty.Bool), nil
				}
				if (!v.IsNull() && v.True()) != empty {
					return cty.BoolVal(!empty), nil
				}
			}
			return cty.BoolVal(empty), nil
		},
	})
}

// lengthFunction takes a string too, unlike go-cty's.
func lengthFunction() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "value", Type: cty.DynamicPseudoType, AllowDynamicType: true}},
		Type: func(args []cty.Value) (cty.Type, error) {
			ty := args[0].Type()
			if ty == cty.String || ty.IsTupleType() || ty.IsObjectType() || ty.IsCollectionType() || ty == cty.DynamicPseudoType {
				return cty.Number, nil
			}
			return cty.Number, function.NewArgErrorf(0, "a string, list, set, map, tuple or object is required")
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			switch ty := args[0].Type(); {
			case ty == cty.String:
				return stdlib.Strlen(args[0])
			case ty.IsObjectType():
				return cty.NumberIntVal(int64(len(ty.AttributeTypes()))), nil
			default:
				return args[0].Length(), nil
			}
		},
	})
}

// indexFunction gives the position of a value in a list.
func indexFunction() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "list", Type: cty.DynamicPseudoType}, {Name: "value", Type: cty.DynamicPseudoType}},
		Type: func(args []cty.Value) (cty.Type, error) {
			if ty := args[0].Type(); !ty.IsListType() && !ty.IsTupleType() {
				return cty.Number, function.NewArgErrorf(0, "a list is required")
			}
			return cty.Number, nil
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			for it := args[0].ElementIterator(); it.Next(); {
				i, v := it.Element()
				same, err := stdlib.Equal(v, args[1])
				if err != nil || !same.IsKnown() {
					return cty.UnknownVal(cty.Number), err
				}
				if same.True() {
					return i, nil
				}
			}
			return cty.UnknownVal(cty.Number), errors.New("the list has no such item")
		},
	})
}

func sumFunction() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "list", Type: cty.List(cty.Number)}},
		Type:   function.StaticReturnType(cty.Number),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			sum := new(big.Float)
			for it := args[0].ElementIterator(); it.Next(); {
				_, v := it.Element()
				if !v.IsKnown() || v.IsNull() {
					return cty.UnknownVal(cty.Number), function.NewArgErrorf(0, "the list holds a null")
				}
				sum.Add(sum, v.AsBigFloat())
			}
			return cty.NumberVal(sum), nil
		},
	})
}
