package ext4

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The kernel makes an index of a directory that outgrows its block in place,
// and leaves the old block's tail behind the new root.
func TestReadGrownDirectory(t *testing.T) {
	image := filepath.Join(t.TempDir(), "image")
	run(t, "truncate", "-s", "16M", image)
	run(t, "mke2fs", "-q", "-t", "ext4", image)
	dir, _, unmount := mountWritable(t, image)
	const files = 300
	for i := range files {
		name := fmt.Sprintf("%03d%s", i, strings.Repeat("x", 60))
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	unmount()
	list, err := openImage(t, image).ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != files+1 { // and lost+found
		t.Errorf("%d entries: want %d", len(list), files+1)
	}
}
