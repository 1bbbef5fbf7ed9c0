package evidence

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
)

// TestVerifyDirMinisign: a folder's minisign signatures are verified, and vouch
// for their files.
func TestVerifyDirMinisign(t *testing.T) {
	k, _ := newKey(t)
	other, _ := newKey(t)
	data := []byte("image")
	sign := func(k *Key) []byte {
		t.Helper()
		text, err := k.SignMinisign(bytes.NewReader(data), "f.qcow2")
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	good := sign(k)
	for _, c := range []struct {
		what      string
		data, sig []byte
		want      string // "" is good
	}{
		{"good", data, good, ""},
		{"another key", data, sign(other), "is not signed by"},
		{"another file", []byte("imagf"), good, "is not that of"},
		{"another comment", data, bytes.Replace(good, []byte("file:f"), []byte("file:g"), 1), "trusted comment is not signed"},
		{"three lines", data, good[:bytes.LastIndexByte(good[:len(good)-1], '\n')], "of 3 lines: want 4"},
		{"no base64", data, bytes.Replace(good, []byte("\n"), []byte("\n!"), 1), "no minisign signature"},
		{"no file", nil, good, "no such file"},
	} {
		dir := t.TempDir()
		file := filepath.Join(dir, "f.qcow2")
		if c.data != nil {
			write(t, file, c.data)
		}
		write(t, file+MinisignSuffix, c.sig)
		list, err := k.Public.VerifyDir(dir)
		switch {
		case c.want == "" && (err != nil || len(list) != 1 || list[0].By != file+MinisignSuffix):
			t.Errorf("%s: %v, %v", c.what, list, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v; want %q", c.what, err, c.want)
		}
	}
}

// FuzzOpenMinisign: no text makes it panic, and none is good by chance.
func FuzzOpenMinisign(f *testing.F) {
	k, err := Generate(filepath.Join(f.TempDir(), "key"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("untrusted comment: x\nRUQ=\ntrusted comment: y\nRUQ=\n"))
	f.Add([]byte("\n\n\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := k.Public.openMinisign(text); err == nil {
			t.Error("a signature that the key did not make")
		}
	})
}
