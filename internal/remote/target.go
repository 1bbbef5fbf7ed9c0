package remote

import (
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"
	"unicode"
)

// Target is a place on a host that OpenSSH can reach.
type Target struct {
	User string // "" leaves it to ssh's configuration
	Host string // a name, an alias of ssh's configuration or an address, without brackets
	Port int    // 0 leaves it to ssh's configuration
	// Path is slash-separated: absolute, or relative to the folder that the
	// host's SFTP server starts in. "." is that folder.
	Path string
	// Dir says that the target was written as a folder: with a slash at its
	// end. Without one it is a folder if the host has such a folder.
	Dir bool
}

const targetForms = "hint: want user@host:dir/, host:/dir/name, [::1]:dir/ or ssh://user@host:2222/dir/"

// Parse reads "[user@]host:path", as scp(1) has it, or
// "ssh://[user@]host[:port]/path". An IPv6 address is in brackets. A path of
// the first form is relative to the SFTP start folder, which is nearly always
// the home folder, unless it begins with a slash; one of the second form is
// absolute unless it begins with "/~/". No path is the start folder.
//
// User and host end up as arguments of ssh and in the commands its
// configuration makes with %h and %r: what could be an option or a shell's
// syntax is refused there.
func Parse(s string) (Target, error) {
	t, err := parse(s)
	if err == nil {
		err = t.check()
	}
	if err != nil {
		return Target{}, fmt.Errorf("target %q: %w", s, err)
	}
	return t, nil
}

func parse(s string) (Target, error) {
	if strings.HasPrefix(s, "ssh://") {
		return parseURL(s)
	}
	if scheme, _, ok := strings.Cut(s, "://"); ok {
		return Target{}, fmt.Errorf("scheme %q is not supported\n%s", scheme, targetForms)
	}
	var t Target
	at, colon := 0, 0
	if i := strings.Index(s, "["); i == 0 || i > 0 && s[i-1] == '@' {
		end := strings.Index(s, "]:")
		if end < i {
			return Target{}, fmt.Errorf("no %q after %q\n%s", "]:", "[", targetForms)
		}
		at, colon = i, end+1
		t.Host = s[i+1 : end]
		if err := checkIPv6(t.Host); err != nil {
			return Target{}, err
		}
	} else {
		if colon = strings.Index(s, ":"); colon < 0 || strings.Contains(s[:colon], "/") {
			return Target{}, fmt.Errorf("no host and colon: that is a local path\n%s", targetForms)
		}
		at = strings.LastIndex(s[:colon], "@") + 1
		t.Host = s[at:colon]
	}
	if at > 0 {
		if t.User = s[:at-1]; t.User == "" {
			return Target{}, fmt.Errorf("nothing before %q: want a user", "@")
		}
	}
	return t.withPath(s[colon+1:])
}

func parseURL(s string) (Target, error) {
	u, err := url.Parse(s)
	if err != nil {
		return Target{}, fmt.Errorf("%w\n%s", err, targetForms)
	}
	if _, ok := u.User.Password(); ok {
		return Target{}, fmt.Errorf("a password does not belong there: every user of this machine can see it\nhint: leave it out, ssh asks for it")
	}
	if u.RawQuery != "" || u.Fragment != "" || u.ForceQuery {
		return Target{}, fmt.Errorf("a query or fragment means nothing here\nhint: write %%3F for ? and %%23 for #")
	}
	t := Target{User: u.User.Username(), Host: u.Hostname()}
	if u.User != nil && t.User == "" {
		return Target{}, fmt.Errorf("nothing before %q: want a user", "@")
	}
	if strings.HasPrefix(u.Host, "[") {
		if err := checkIPv6(t.Host); err != nil {
			return Target{}, err
		}
	}
	if port := u.Port(); port != "" {
		if t.Port, err = strconv.Atoi(port); err != nil || t.Port < 1 || t.Port > 65535 {
			return Target{}, fmt.Errorf("port %q: want 1 to 65535", port)
		}
	}
	if strings.HasPrefix(u.Path, "/~") {
		return t.withPath(u.Path[1:])
	}
	return t.withPath(u.Path)
}

// withPath sets the path, cleaned, with the start folder's names taken off.
func (t Target) withPath(p string) (Target, error) {
	if strings.HasPrefix(p, "~") {
		user, rest, _ := strings.Cut(p[1:], "/")
		if user != "" {
			return Target{}, fmt.Errorf("path %q: SFTP does not know the home of %q\nhint: write the absolute path, or ./%s for a file of that name", p, user, p)
		}
		p = "./" + strings.TrimLeft(rest, "/")
	}
	t.Path = path.Clean(p)
	base := p[strings.LastIndex(p, "/")+1:]
	t.Dir = base == "" || base == "." || base == ".."
	return t, nil
}

func checkIPv6(host string) error {
	addr, err := netip.ParseAddr(host)
	if err != nil || !addr.Is6() {
		return fmt.Errorf("host %q: want an IPv6 address", host)
	}
	return nil
}

// check refuses what ssh or a shell it starts could take for more than a
// name. It is OpenSSH's own list (valid_hostname and valid_ruser in its
// ssh.c), and stricter for hosts.
func (t Target) check() error {
	if t.Host == "" {
		return fmt.Errorf("no host\n%s", targetForms)
	}
	for _, name := range []struct{ what, s string }{{"user", t.User}, {"host", t.Host}} {
		if strings.HasPrefix(name.s, "-") {
			return fmt.Errorf("%s %q begins with %q: ssh would take it for an option", name.what, name.s, "-")
		}
	}
	if strings.ContainsAny(t.Host, ":%") {
		if err := checkIPv6(t.Host); err != nil {
			return err
		}
	}
	for _, r := range t.Host {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._-:%", r) {
			return fmt.Errorf("host %q: %q cannot be part of a host's name", t.Host, r)
		}
	}
	for _, r := range t.User {
		if unicode.IsSpace(r) || !unicode.IsPrint(r) || strings.ContainsRune("'`\"$;&<>|(){}", r) {
			return fmt.Errorf("user %q: %q cannot be part of a user's name", t.User, r)
		}
	}
	if strings.HasSuffix(t.User, `\`) {
		return fmt.Errorf("user %q ends with a backslash", t.User)
	}
	return checkPrint("path", t.Path)
}

// checkPrint refuses control characters: they are never meant, and they spoil
// terminals and logs.
func checkPrint(what, s string) error {
	for _, r := range s {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return fmt.Errorf("%s %q: %q cannot be part of it", what, s, r)
		}
	}
	return nil
}

// String gives a form that Parse reads back as the same target.
func (t Target) String() string {
	host := t.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	p := t.Path
	if t.Dir && p != "/" {
		p += "/"
	}
	if t.Port != 0 {
		return t.url(p)
	}
	if t.User != "" {
		host = t.User + "@" + host
	}
	if strings.HasPrefix(p, "~") {
		p = "./" + p
	}
	return host + ":" + p
}

// url is String for a target with a port.
func (t Target) url(p string) string {
	if !path.IsAbs(p) {
		p = "/~/" + p
	}
	u := url.URL{Scheme: "ssh", Host: t.Host + ":" + strconv.Itoa(t.Port), Path: p}
	if strings.Contains(t.Host, ":") {
		u.Host = "[" + t.Host + "]:" + strconv.Itoa(t.Port)
	}
	if t.User != "" {
		u.User = url.User(t.User)
	}
	return u.String()
}
