package scan

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestFolderBesideContent: a folder's names, link targets and attributes are
// looked at as an image's are.
func TestFolderBesideContent(t *testing.T) {
	dir := t.TempDir()
	key := manyKeys(5)[len("id = "):][:20]
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{
		os.MkdirAll(at("etc/d"), 0o755), os.WriteFile(at("etc/file"), nil, 0o644), os.WriteFile(at("etc/"+key), nil, 0o644),
		os.Symlink("/x/"+key, at("etc/link")), unix.Mkfifo(at("etc/fifo"), 0o644),
		unix.Setxattr(at("etc/file"), "user.token", []byte(key), 0), unix.Setxattr(at("etc/d"), "user.id", []byte(key), 0),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	r := scanned(t, dir, Options{})
	got := map[string]string{}
	for _, f := range r.Findings {
		got[f.Path+" "+f.Where] = f.Rule
	}
	const rule = "aws-access-token"
	want := map[string]string{"/etc file names": rule, "/etc/link link target": rule, "/etc/file xattr user.token": rule, "/etc/d xattr user.id": rule}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	if len(r.Notes) != 0 {
		t.Errorf("notes: %v", r.Notes)
	}
}
