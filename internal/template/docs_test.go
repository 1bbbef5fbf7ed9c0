package template

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestDocs keeps docs/templates.md true: its complete template loads, and it
// names every function, setting and default there is.
func TestDocs(t *testing.T) {
	src, err := os.ReadFile("../../docs/templates.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(src)
	_, after, _ := strings.Cut(doc, "```hcl\n")
	example, _, _ := strings.Cut(after, "```")
	if _, err := loadText(example); err != nil {
		t.Errorf("the complete template: %v", err)
	}
	l := newLoader(Options{})
	_, list, _ := strings.Cut(doc, "Functions:\n")
	list, _, _ = strings.Cut(list, "\n\n")
	for name := range l.defaultFunctions() {
		if !strings.Contains(list, "`"+name+"`") {
			t.Errorf("function %s is not listed", name)
		}
	}
	for _, name := range regexp.MustCompile("`([a-z0-9_]+)`").FindAllStringSubmatch(list, -1) {
		if _, ok := l.defaultFunctions()[name[1]]; !ok {
			t.Errorf("function %s does not exist", name[1])
		}
	}
	for _, name := range settings(t) {
		if !strings.Contains(doc, "`"+name+"`") && !strings.Contains(doc, name+" ") {
			t.Errorf("setting %s is not described", name)
		}
	}
}

// settings gives the name of every attribute and block the readers ask for, as
// the source has them.
func settings(t *testing.T) []string {
	seen := map[string]bool{}
	for _, file := range []string{"source.go", "pool.go", "users.go", "provisioner.go", "postprocessor.go", "variable.go", "build.go", "packer.go", "local.go"} {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		asked := regexp.MustCompile(`r\.(?:str|text|required|checked|strings|list|boolean|size|duration|file|integers|table|attr|blocks|interpolated)\("([a-z_-]+)"`)
		for _, m := range asked.FindAllStringSubmatch(string(src), -1) {
			seen[m[1]] = true
		}
	}
	if len(seen) < 45 {
		t.Fatalf("found %d settings only: the pattern is out of date", len(seen))
	}
	var names []string
	for name := range seen {
		names = append(names, name)
	}
	return append(names, userFields...)
}
