package darksite

import (
	"strings"
	"testing"
)

func TestHostSourcesOfTheRelease(t *testing.T) {
	rel, err := findRelease("debian", "bookworm", "amd64")
	if err != nil {
		t.Fatal(err)
	}
	oneLine := `# comment
deb http://mirror.invalid/debian/ bookworm main non-free # tail
deb [ arch=amd64 signed-by=/k.gpg ] http://mirror.invalid/debian bookworm-updates main
deb-src http://mirror.invalid/debian bookworm main
deb http://mirror.invalid/debian bookworm-backports main
deb http://other.invalid/x bookworm third-party
deb http://mirror.invalid/flat ./
deb http://mirror.invalid/debian trixie main
`
	deb822 := `Types: deb deb-src
URIs: http://mirror.invalid/debian http://second.invalid/debian
Suites: bookworm
 bookworm-security
Components: main
Signed-By: /usr/share/keyrings/k.gpg

# off
Types: deb
Enabled: no
URIs: http://off.invalid/debian
Suites: bookworm
Components: main

Types: deb
URIs: http://inline.invalid/debian
Suites: bookworm
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
 -----END PGP PUBLIC KEY BLOCK-----
`
	found := ofRelease(append(parseOneLine([]byte(oneLine)), parseDeb822([]byte(deb822))...), rel)
	var got []string
	for _, s := range found {
		got = append(got, strings.TrimPrefix(s.uri, "http://")+" "+s.suite+" "+strings.Join(s.components, "+"))
	}
	want := []string{
		"mirror.invalid/debian bookworm main+contrib",
		"mirror.invalid/debian bookworm-updates main+contrib",
		"mirror.invalid/debian bookworm-security main+contrib",
		"second.invalid/debian bookworm main+contrib",
		"second.invalid/debian bookworm-security main+contrib",
		"inline.invalid/debian bookworm main+contrib",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if found[1].signedBy != "/k.gpg" || found[2].signedBy != "/usr/share/keyrings/k.gpg" {
		t.Errorf("keyrings %q, %q", found[1].signedBy, found[2].signedBy)
	}
	if s := found[5].stanza(); !strings.Contains(s, "Signed-By: \n -----BEGIN") || !strings.Contains(s, "\n .\n abc\n") {
		t.Errorf("an embedded key became %q", s)
	}
}

func TestMirrorArguments(t *testing.T) {
	rel, _ := findRelease("debian", "bookworm", "amd64")
	got, err := parseMirrors([]string{"http://a.invalid/d", "http://a.invalid/s bookworm-security main x"}, rel)
	if err != nil || got[0].suite != "bookworm" || strings.Join(got[0].components, " ") != "main contrib" ||
		got[1].suite != "bookworm-security" || strings.Join(got[1].components, " ") != "main x" {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := parseMirrors([]string{"bookworm"}, rel); err == nil {
		t.Error("a mirror without a URL was taken")
	}
}

func TestParseURI(t *testing.T) {
	r, err := parseURI("'http://m.invalid/pool/main/g/gcc/lib%2b%2b_1%2bb1_amd64.deb' libc++_2%3a1+b1_amd64.deb 12 SHA256:ab")
	if err != nil || r.Name != "libc++" || r.Version != "2:1+b1" || r.Filename != "pool/main/libc/libc++/lib++_1+b1_amd64.deb" || r.Size != 12 {
		t.Errorf("got %+v, %v", r, err)
	}
	for _, bad := range []string{"", "x", "'u' a_1.deb 12 SHA256:ab", "'u' a_1_amd64.deb 12 MD5:ab", "'u' a_1_amd64.deb x SHA256:ab"} {
		if _, err := parseURI(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
