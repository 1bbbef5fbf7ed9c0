package pipeline

import (
	"bytes"
	"strings"
	"testing"

	"github.com/kldload/kldload/internal/scan"
	"github.com/kldload/kldload/internal/ui"
)

// A value that is too short is told by its name, once, and is no error.
func TestShortValuesAreTold(t *testing.T) {
	var out bytes.Buffer
	logShort(ui.New(&out, ui.Plain).Stage("scan"), []scan.Literal{{Name: "var.pin", Value: "4711"}, {Name: "var.password", Value: "secret"}})
	if got := out.String(); strings.Count(got, "the value of var.pin is not looked for") != 1 || strings.Contains(got, "password") || strings.Contains(got, "4711") {
		t.Errorf("log: %q", got)
	}
}
