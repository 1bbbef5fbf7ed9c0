package seal

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the table in docs/seal.md")

// TestDocs keeps the table of items in docs/seal.md true.
func TestDocs(t *testing.T) {
	const page = "../../docs/seal.md"
	const head = "| item | why | what |\n|---|---|---|\n"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), head)
	_, after, ends := strings.Cut(rest, "\n\n")
	if !found || !ends {
		t.Fatalf("%s has no table that begins with %q", page, head)
	}
	want := before + head + itemTable() + "\n" + after
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if string(text) != want {
		t.Errorf("%s has another table: want (go test ./internal/seal -run TestDocs -update)\n%s", page, itemTable())
	}
}

func itemTable() string {
	var b strings.Builder
	for _, i := range Items(Options{}) {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", i.Name, i.Why, strings.Join(i.What(), "; "))
	}
	return b.String()
}
