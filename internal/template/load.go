package template

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty/function"

	"github.com/kldload/kldload/internal/suggest"
)

// Options is what a template is read with. The zero value reads it with no
// variables set, no environment, at the start of 1970.
type Options struct {
	// Vars holds the -var flags: name to text, parsed by the declared type.
	Vars map[string]string
	// VarFiles holds the -var-file flags in order; later ones win.
	VarFiles []string
	// Env looks up an environment variable: PKR_VAR_NAME for each declared
	// variable, and what env() asks for. nil is an empty environment.
	Env func(name string) (string, bool)
	// Now is what timestamp() gives; the zero value is 1970-01-01T00:00:00Z.
	Now time.Time
	// Dir is the working directory: relative paths start there and path.cwd
	// gives it. Empty is the directory of the process.
	Dir string
}

// loader holds one reading of a template.
type loader struct {
	opts      Options
	root      string            // path.root, as the user wrote it
	cwd       string            // path.cwd
	text      map[string][]byte // every file read, and each -var, by shown name
	filesRead []readText
	diags     Diagnostics
	// broken: a file did not parse, so that all else would look undefined.
	broken bool

	functions map[string]function.Function
	checked   map[hclsyntax.Expression]bool
	meter     *meter

	variables   map[string]*variable
	locals      map[string]*local
	sources     map[string]*sourceBlock // by "type.name"
	builds      []*hclsyntax.Block
	order       []string // of sources
	packer      bool     // a packer block was seen: required_version may appear once
	secretLines map[secretLine]bool
	used        map[string]bool // see names
	secrets     []string        // values of sensitive variables and locals
	named       []Secret        // the same, with names
	hidden      []string        // texts of sensitive values as given, for the errors alone

	result *Template
}

// Load reads the template at path: a .pkr.hcl file, or a folder whose
// .pkr.hcl files make one template together and whose .auto.pkrvars.hcl files
// are read too. The error is a [Diagnostics] with everything that is wrong.
func Load(path string, opts Options) (*Template, error) {
	l := newLoader(opts)
	files, vars := l.find(path)
	l.broken = len(files) == 0
	for _, name := range files {
		l.collect(l.parse("template file", RoleTemplate, name))
	}
	return l.finish(vars)
}

func newLoader(opts Options) *loader {
	if opts.Now.IsZero() {
		opts.Now = time.Unix(0, 0)
	}
	if opts.Env == nil {
		opts.Env = func(string) (string, bool) { return "", false }
	}
	l := &loader{
		opts: opts, cwd: opts.Dir, text: map[string][]byte{}, checked: map[hclsyntax.Expression]bool{},
		meter:     &meter{rounds: maxWork, size: maxLoopValue},
		variables: map[string]*variable{}, locals: map[string]*local{}, sources: map[string]*sourceBlock{},
		secretLines: map[secretLine]bool{},
		result:      &Template{},
	}
	if l.cwd == "" {
		l.cwd, _ = os.Getwd()
	}
	l.functions = l.functionTable()
	return l
}

// finish gives values to what was collected: variables, then locals, then
// builds. varFiles are the automatic ones.
func (l *loader) finish(varFiles []string) (*Template, error) {
	if !l.broken {
		l.assign(varFiles)
		l.evaluateLocals()
		l.evaluateBuilds()
	}
	l.secrets = distinctStrings(l.secrets)
	l.mask()
	if len(l.diags) > 0 {
		return nil, l.diags.sorted()
	}
	l.result.Dir = l.root
	l.result.secrets, l.result.named = l.secrets, l.named
	l.result.inputs = l.inputs()
	l.result.files = l.inputFiles()
	return l.result, nil
}

const (
	templateExt = ".pkr.hcl"
	autoVarsExt = ".auto.pkrvars.hcl"
)

// find lists the template files and automatic variable files of path.
func (l *loader) find(path string) (files, vars []string) {
	info, err := os.Stat(l.at(path))
	if err != nil {
		l.fileError("template", path, err)
		return nil, nil
	}
	if !info.IsDir() {
		l.root = filepath.Dir(path)
		if !strings.HasSuffix(path, templateExt) {
			hint := "a template is a file ending in " + templateExt + ", or a folder of them"
			if strings.HasSuffix(path, ".json") {
				hint = "JSON templates are not read: convert it with packer hcl2_upgrade"
			}
			l.errorf(hcl.Range{Filename: path}, hint, "not a Packer HCL2 template")
			return nil, nil
		}
		return []string{path}, nil
	}
	l.root = path
	entries, err := os.ReadDir(l.at(path))
	if err != nil {
		l.fileError("template folder", path, err)
		return nil, nil
	}
	for _, e := range entries {
		switch name := filepath.Join(path, e.Name()); {
		case e.IsDir():
		case strings.HasSuffix(e.Name(), templateExt):
			files = append(files, name)
		case strings.HasSuffix(e.Name(), autoVarsExt):
			vars = append(vars, name)
		case strings.HasSuffix(e.Name(), ".pkr.json"), strings.HasSuffix(e.Name(), ".auto.pkrvars.json"):
			l.errorf(hcl.Range{Filename: name}, "write it in HCL, or move it out of the folder", "JSON is not read")
		}
	}
	if len(files) == 0 {
		l.errorf(hcl.Range{Filename: path}, "a template is a file ending in "+templateExt+", or a folder of them", "no %s file in this folder", templateExt)
	}
	return files, vars
}

// at gives the path to open for a path as written.
func (l *loader) at(path string) string {
	if l.opts.Dir == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(l.opts.Dir, path)
}

// fileError reports a file that is not there or does not read.
func (l *loader) fileError(what, path string, err error) {
	if errors.Is(err, fs.ErrNotExist) {
		l.errorf(hcl.Range{Filename: path}, "", "%s: no such file", what)
		return
	}
	var inner *fs.PathError
	if errors.As(err, &inner) {
		err = inner.Err
	}
	l.errorf(hcl.Range{Filename: path}, "", "%s: %v", what, err)
}

// parse reads and parses one file; nil after an error.
func (l *loader) parse(what, role, name string) *hclsyntax.Body {
	src, err := readFile(l.at(name))
	if err != nil {
		l.fileError(what, name, err)
		l.broken = true
		return nil
	}
	l.reads(role, l.at(name), src)
	return l.parseText(name, src)
}

func (l *loader) parseText(name string, src []byte) *hclsyntax.Body {
	l.text[name] = src
	if !l.guard(name, src) {
		l.broken = true
		return nil
	}
	file, diags := hclsyntax.ParseConfig(src, name, hcl.InitialPos)
	if diags.HasErrors() {
		l.syntax(diags)
		l.broken = true
		return nil
	}
	body, _ := file.Body.(*hclsyntax.Body)
	return body
}

// readFile reads a regular file of at most maxFileSize: file("/dev/zero") is
// an error, not a hang.
func readFile(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err == nil && len(src) > maxFileSize {
		err = fmt.Errorf("larger than %d KiB", maxFileSize>>10)
	}
	return src, err
}

// collect takes the blocks of one file. Top-level order means nothing, so
// that nothing is evaluated yet.
func (l *loader) collect(body *hclsyntax.Body) {
	if body == nil {
		return
	}
	for _, a := range sortedAttributes(body) {
		l.errorf(a.NameRange, "variables get their values in a "+autoVarsExt+" file or with -var-file",
			"attribute %q outside of any block", a.Name)
	}
	for _, b := range body.Blocks {
		l.collectBlock(b)
	}
}

func (l *loader) collectBlock(b *hclsyntax.Block) {
	switch b.Type {
	case "packer":
		l.packerBlock(b)
	case "variable":
		l.declare(b)
	case "variables":
		l.declareShort(b)
	case "locals":
		l.collectLocals(b)
	case "local":
		l.collectLocal(b)
	case "source":
		l.collectSource(b)
	case "build":
		if l.labels(b, "") {
			l.builds = append(l.builds, b)
		}
	case "data":
		l.errorf(b.TypeRange, "an image is built from the darksite alone; put what it looks up into a variable",
			"data sources are not supported by this version")
	default:
		l.errorf(b.TypeRange, suggest.Hint(b.Type, []string{"packer", "variable", "locals", "local", "source", "build"}),
			"unknown block %q", b.Type)
	}
}

// labels checks that b has one label for each name of names ("" for none).
func (l *loader) labels(b *hclsyntax.Block, names string) bool {
	want := strings.Fields(names)
	switch {
	case len(b.Labels) == len(want):
		return true
	case len(b.Labels) > len(want):
		l.errorf(b.LabelRanges[len(want)], "write "+header(b.Type, want), "too many labels for block %q", b.Type)
	default:
		l.errorf(b.DefRange(), "write "+header(b.Type, want), "missing %s of block %q", strings.ToLower(want[len(b.Labels)]), b.Type)
	}
	return false
}

func header(blockType string, labels []string) string {
	for _, n := range labels {
		blockType += fmt.Sprintf(" %q", n)
	}
	return blockType + " { … }"
}

// sortedAttributes gives the attributes of body in order of position: hcl
// keeps a map.
func sortedAttributes(body *hclsyntax.Body) []*hclsyntax.Attribute {
	attrs := make([]*hclsyntax.Attribute, 0, len(body.Attributes))
	for _, a := range body.Attributes {
		attrs = append(attrs, a)
	}
	slices.SortFunc(attrs, func(a, b *hclsyntax.Attribute) int {
		return a.SrcRange.Start.Byte - b.SrcRange.Start.Byte
	})
	return attrs
}
