package evidence

import (
	"path/filepath"
	"strings"
	"testing"
)

// A statement of another kind says nothing of how a file was built, though the
// same key signed it.
func TestVerifyFileWantsAProvenance(t *testing.T) {
	k, _ := newKey(t)
	dir := t.TempDir()
	image := write(t, filepath.Join(dir, "a.raw"), []byte("image"))
	sum, err := Digest(image)
	if err != nil {
		t.Fatal(err)
	}
	s, err := statement([]Resource{File("a.raw", sum)}, "https://example.org/known-bad/v1", struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	line, err := k.SignStatement(s)
	if err != nil {
		t.Fatal(err)
	}
	_, err = k.Public.VerifyFile(write(t, filepath.Join(dir, "a"+EnvelopeSuffix), line))
	if err == nil || !strings.Contains(err.Error(), "want a provenance") {
		t.Errorf("error %v: want one of the predicate's type", err)
	}
}
