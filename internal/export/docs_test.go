package export

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the table in docs/kexport.md")

// TestDocs keeps the table of formats and settings in docs/kexport.md true.
func TestDocs(t *testing.T) {
	const page = "../../docs/kexport.md"
	const head = "| format | key | values, the default first |\n|---|---|---|\n"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), head)
	_, after, ends := strings.Cut(rest, "\n\n")
	if !found || !ends {
		t.Fatalf("%s has no table that begins with %q", page, head)
	}
	want := before + head + formatTable() + "\n" + after
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if string(text) != want {
		t.Errorf("%s has another table: want (go test ./internal/export -run TestDocs -update)\n%s", page, formatTable())
	}
}

func formatTable() string {
	var b strings.Builder
	for _, f := range Formats() {
		names := "`" + f.Name + "`"
		for _, alias := range f.Aliases {
			names += ", `" + alias + "`"
		}
		fmt.Fprintf(&b, "| **%s** `NAME%s` | | %s |\n", names, f.Extension, f.About)
		for _, k := range f.Keys {
			values := "`" + strings.Join(k.Values, "` `") + "`"
			if k.Values == nil {
				values = "`" + k.Form + "`"
			}
			if k.Help != "" {
				values += ": " + k.Help
			}
			fmt.Fprintf(&b, "| | `%s` | %s |\n", k.Name, values)
		}
	}
	return b.String()
}
