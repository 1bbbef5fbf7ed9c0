//go:build integration

package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// template is a small template; its output folder is "out" in the working
// directory unless the test says otherwise.
type template struct {
	darksite string
	output   string   // output_directory
	formats  string   // HCL list, default raw
	source   string   // more lines of the source
	top      string   // blocks before it
	blocks   []string // provisioners, then post-processors
	scripts  map[string]string
}

// shell is a provisioner with one script file beside the template.
func shell(script string, more ...string) string {
	return fmt.Sprintf("provisioner \"shell\" {\n    script = \"${path.root}/%s\"\n    %s\n  }", script, strings.Join(more, "\n    "))
}

func (c template) text() string {
	output, formats := c.output, c.formats
	if output == "" {
		output = "out"
	}
	if formats == "" {
		formats = `["raw"]`
	}
	return fmt.Sprintf(`%s
source "kldload" "golden" {
  darksite         = %q
  profile          = "core"
  kernel           = "generic"
  disk_size        = "2G"
  skip_boot        = true
  output_directory = %q
  %s
}

build {
  sources = ["source.kldload.golden"]
  %s
  post-processor "kexport" {
    formats = %s
  }
}
`, c.top, c.darksite, output, c.source, strings.Join(c.blocks, "\n  "), formats)
}

func (c template) write(t *testing.T, dir string) {
	t.Helper()
	files := map[string]string{"golden.pkr.hcl": c.text()}
	for name, text := range c.scripts {
		files[name] = text
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
