package remote

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	for in, want := range map[string]Target{
		"ann@store:images/":           {User: "ann", Host: "store", Path: "images", Dir: true},
		"store:images":                {Host: "store", Path: "images"},
		"store:/srv//images/":         {Host: "store", Path: "/srv/images", Dir: true},
		"store:":                      {Host: "store", Path: ".", Dir: true},
		"store:.":                     {Host: "store", Path: ".", Dir: true},
		"store:~":                     {Host: "store", Path: ".", Dir: true},
		"store:~/a b/":                {Host: "store", Path: "a b", Dir: true},
		"store:~//etc":                {Host: "store", Path: "etc"},
		"store:./~bob":                {Host: "store", Path: "~bob"},
		"store:../up/..":              {Host: "store", Path: "..", Dir: true},
		"store:/":                     {Host: "store", Path: "/", Dir: true},
		"ann@corp@store:x:y":          {User: "ann@corp", Host: "store", Path: "x:y"},
		`CORP\ann@store:x`:            {User: `CORP\ann`, Host: "store", Path: "x"},
		"192.0.2.7:d/":                {Host: "192.0.2.7", Path: "d", Dir: true},
		"[::1]:dir":                   {Host: "::1", Path: "dir"},
		"ann@[fe80::1%eth0]:/d/":      {User: "ann", Host: "fe80::1%eth0", Path: "/d", Dir: true},
		"ssh://ann@store:2222/srv/":   {User: "ann", Host: "store", Port: 2222, Path: "/srv", Dir: true},
		"ssh://store/a%20b":           {Host: "store", Path: "/a b"},
		"ssh://store":                 {Host: "store", Path: ".", Dir: true},
		"ssh://store/":                {Host: "store", Path: "/", Dir: true},
		"ssh://store:22/~/d/":         {Host: "store", Port: 22, Path: "d", Dir: true},
		"ssh://[::1]:2222/d":          {Host: "::1", Port: 2222, Path: "/d"},
		"ssh://ann@[fe80::1%25e0]/d/": {User: "ann", Host: "fe80::1%e0", Path: "/d", Dir: true},
	} {
		got, err := Parse(in)
		if err != nil {
			t.Errorf("%q: %v", in, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", in, diff)
		}
		if again, err := Parse(got.String()); err != nil || again != got {
			t.Errorf("%q: String gives %q, which is %+v, %v", in, got, again, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"":                        "local path",
		"images/":                 "local path",
		"./a:b":                   "local path",
		":dir":                    "no host",
		"ann@:dir":                "no host",
		"@store:dir":              "want a user",
		"-oProxyCommand=id:dir":   "option",
		"-lroot@store:dir":        "option",
		"ann@-oProxyCommand=x:d":  "option",
		"ssh://-oProxyCommand/d":  "option",
		"ssh://-v@store/d":        "option",
		"$(id):dir":               `'$'`,
		"a;b@store:dir":           `';'`,
		"a b@store:dir":           `' '`,
		"st ore:dir":              `' '`,
		`ann\@store:dir`:          "backslash",
		"[::1:dir":                "no",
		"[store]:dir":             "IPv6",
		"[::1]dir":                "no",
		"store:a\nb":              "cannot be part",
		"store:a\x00b":            "cannot be part",
		"store:a\xffb":            "cannot be part",
		"store:~bob/x":            "home of",
		"ssh://ann:secret@host/d": "password",
		"ssh://host:0/d":          "port",
		"ssh://host:70000/d":      "port",
		"ssh://host/d?x":          "query",
		"ssh://host/d#x":          "query",
		"ssh:///d":                "no host",
		"http://host/d":           "scheme",
	} {
		got, err := Parse(in)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %+v, %v; want an error with %q", in, got, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"ann@store:images/", "[::1]:dir", "ssh://ann@store:2222/~/d/", "store:~", "-x:y", "a@[::1%x]:./~b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		target, err := Parse(s)
		if err != nil {
			return
		}
		for _, arg := range []string{target.Host, target.User} {
			if strings.HasPrefix(arg, "-") || strings.ContainsAny(arg, " \n\x00$`;&|<>'\"") {
				t.Fatalf("%q: %+v has an unsafe name", s, target)
			}
		}
		if again, err := Parse(target.String()); err != nil || again != target {
			t.Fatalf("%q: String gives %q, which is %+v, %v; want %+v", s, target, again, err, target)
		}
	})
}
