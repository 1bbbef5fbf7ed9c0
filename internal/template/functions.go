package template

import (
	"maps"

	"github.com/hashicorp/hcl/v2/ext/tryfunc"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// functionTable has Packer's names
// (https://developer.hashicorp.com/packer/docs/templates/hcl_templates/functions),
// and tostring and its kin, regexall, setsubtract, startswith and endswith
// beside them. Those that could make huge values out of small ones are bounded.
func (l *loader) functionTable() map[string]function.Function {
	t := map[string]function.Function{
		"abs": stdlib.AbsoluteFunc, "ceil": stdlib.CeilFunc, "floor": stdlib.FloorFunc, "log": stdlib.LogFunc,
		"max": stdlib.MaxFunc, "min": stdlib.MinFunc, "parseint": stdlib.ParseIntFunc, "pow": stdlib.PowFunc,
		"signum": stdlib.SignumFunc,

		"chomp": stdlib.ChompFunc, "format": bounded(stdlib.FormatFunc, formatSize),
		"formatlist": bounded(stdlib.FormatListFunc, formatSize), "indent": bounded(stdlib.IndentFunc, indentSize),
		"join": bounded(stdlib.JoinFunc, joinSize), "lower": stdlib.LowerFunc, "regex": stdlib.RegexFunc,
		"regex_replace": bounded(stdlib.RegexReplaceFunc, regexReplaceSize), "regexall": stdlib.RegexAllFunc,
		"replace": bounded(stdlib.ReplaceFunc, replaceSize), "split": stdlib.SplitFunc, "strrev": stdlib.ReverseFunc,
		"substr": stdlib.SubstrFunc, "title": stdlib.TitleFunc, "trim": stdlib.TrimFunc,
		"trimprefix": stdlib.TrimPrefixFunc, "trimspace": stdlib.TrimSpaceFunc, "trimsuffix": stdlib.TrimSuffixFunc,
		"upper": stdlib.UpperFunc,

		"chunklist": stdlib.ChunklistFunc, "coalesce": stdlib.CoalesceFunc, "coalescelist": stdlib.CoalesceListFunc,
		"compact": stdlib.CompactFunc, "concat": stdlib.ConcatFunc, "contains": stdlib.ContainsFunc,
		"distinct": stdlib.DistinctFunc, "element": stdlib.ElementFunc, "flatten": stdlib.FlattenFunc,
		"keys": stdlib.KeysFunc, "lookup": stdlib.LookupFunc, "merge": stdlib.MergeFunc, "range": stdlib.RangeFunc,
		"reverse": stdlib.ReverseListFunc, "setintersection": stdlib.SetIntersectionFunc,
		"setproduct": bounded(stdlib.SetProductFunc, productSize), "setsubtract": stdlib.SetSubtractFunc,
		"setunion": stdlib.SetUnionFunc, "slice": stdlib.SliceFunc, "sort": stdlib.SortFunc,
		"values": stdlib.ValuesFunc, "zipmap": stdlib.ZipmapFunc,

		"csvdecode": stdlib.CSVDecodeFunc, "jsondecode": bounded(stdlib.JSONDecodeFunc, jsonDepth),
		"jsonencode": stdlib.JSONEncodeFunc, "formatdate": stdlib.FormatDateFunc, "timeadd": stdlib.TimeAddFunc,
		"can": tryfunc.CanFunc, "convert": typeexpr.ConvertFunc, "try": tryfunc.TryFunc,

		"tobool": converter(cty.Bool), "tonumber": converter(cty.Number), "tostring": converter(cty.String),
		"tolist": converter(cty.List(cty.DynamicPseudoType)), "tomap": converter(cty.Map(cty.DynamicPseudoType)),
		"toset": converter(cty.Set(cty.DynamicPseudoType)),
	}
	maps.Copy(t, ownFunctions())
	maps.Copy(t, l.fileFunctions())
	now := cty.StringVal(l.opts.Now.UTC().Format("2006-01-02T15:04:05Z"))
	t["timestamp"] = function.New(&function.Spec{
		Type: function.StaticReturnType(cty.String),
		Impl: func([]cty.Value, cty.Type) (cty.Value, error) { return now, nil },
	})
	return t
}

// defaultFunctions are those of a variable's default: env is there alone, as
// in Packer, so that every input can be seen in one place.
func (l *loader) defaultFunctions() map[string]function.Function {
	t := maps.Clone(l.functions)
	t["env"] = text1("name", func(name string) (string, error) {
		value, _ := l.opts.Env(name)
		return value, nil
	})
	return t
}

// missingFunctions are Packer's, but not ours; the value is a hint.
var missingFunctions = map[string]string{
	"aws_secretsmanager": "secrets are injected when the image is deployed", "bcrypt": "no password is set in an image",
	"cidrhost": "", "cidrnetmask": "", "cidrsubnet": "", "cidrsubnets": "",
	"consul_key": "put the value into a variable", "fileset": "list the files",
	"legacy_isotime": "use formatdate", "legacy_strftime": "use formatdate", "rsadecrypt": "",
	"textdecodebase64": "use base64decode", "textencodebase64": "use base64encode",
	"uuidv4": "a build is a function of its inputs; put the value into a variable", "uuidv5": "",
	"vault": "secrets are injected when the image is deployed", "yamldecode": "use jsondecode", "yamlencode": "use jsonencode: JSON is YAML",
}

// converter makes tostring and its kin.
func converter(want cty.Type) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "v", Type: cty.DynamicPseudoType, AllowNull: true}},
		Type: func(args []cty.Value) (cty.Type, error) {
			v, err := convert.Convert(args[0], want)
			if err != nil {
				return cty.NilType, function.NewArgError(0, err)
			}
			return v.Type(), nil
		},
		Impl: func(args []cty.Value, ty cty.Type) (cty.Value, error) { return convert.Convert(args[0], ty) },
	})
}

// text1 makes a function from string to string.
func text1(param string, f func(string) (string, error)) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: param, Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			s, err := f(args[0].AsString())
			if err != nil {
				return cty.UnknownVal(cty.String), function.NewArgError(0, err)
			}
			return cty.StringVal(s), nil
		},
	})
}
