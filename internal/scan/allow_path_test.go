package scan

import (
	"testing"
	"time"
)

// A pattern for files of a folder accepts nothing in free space, which has no
// path.
func TestAllowListOfNoPath(t *testing.T) {
	for pattern, want := range map[string]bool{"/*": false, "*": false, "**/*": false, "/**": true, "**": true} {
		l, err := ParseAllowList("allow.toml", []byte("[[allow]]\npath = \""+pattern+"\"\nreason = \"test\"\n"), time.Unix(0, 0))
		if err != nil {
			t.Fatal(err)
		}
		if got := l.reason(Finding{Location: Location{Volume: "the disk", Where: "free space"}, Rule: "private-key"}) != ""; got != want {
			t.Errorf("path %q accepts free space: %v, want %v", pattern, got, want)
		}
	}
}
