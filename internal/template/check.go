package template

import (
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/kldload/kldload/internal/suggest"
)

// pattern makes a check from a regular expression for the whole value.
func pattern(expr, problem, hint string) check {
	re := regexp.MustCompile(`\A(?:` + expr + `)\z`)
	return func(s string) (string, string) {
		if re.MatchString(s) {
			return "", ""
		}
		return problem, hint
	}
}

var (
	checkDigest = pattern(`sha256:[0-9a-f]{64}`, "not a digest", "it is sha256: and 64 hexadecimal digits, as kldload darksite show prints it")
	// Names of distros, releases and profiles become folder names.
	checkWord = pattern(`[a-z0-9][a-z0-9.-]{0,63}`, "not a name (lower case letters, digits, . and -)", "")
	// Debian Policy 5.6.1, with the upper case and _ of rpm names; a final - means removal to apt.
	checkPackage = pattern(`[A-Za-z0-9][A-Za-z0-9+._-]*[A-Za-z0-9+._]`, "not a package name", "the versions are those of the darksite's lock")
	// Names of the tz database: area, perhaps region, city.
	checkTimezone = pattern(`[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9][A-Za-z0-9_+-]*){0,2}`, "not a time zone", `write it like "UTC" or "Europe/Berlin"`)
	checkLocale   = pattern(`(C|POSIX|[a-z]{2,3}(_[A-Z]{2})?)(\.[A-Za-z0-9-]+)?(@[a-z]+)?`, "not a locale", `write it like "C.UTF-8" or "de_DE.UTF-8"`)
	// The kernel splits its command line at blanks; " keeps them together.
	checkParameter = pattern(`[^\s"]+|[^\s"]*"[^"\n]*"`, "not a kernel parameter", `write it like "console=ttyS0", one in each element`)
	// useradd(8) of Debian and shadow's default NAME_REGEX.
	checkUserName = pattern(`[a-z_][a-z0-9_-]{0,31}`, "not a user or group name (lower case letters, digits, _ and -, at most 32)", "")
	checkShell    = pattern(`/[A-Za-z0-9._/+-]+`, "not an absolute path", `write it like "/bin/bash"`)
	checkGecos    = pattern(`[^:\n]*`, "holds a colon or a new line", "")
	checkSudo     = pattern(`[^\n\\]+`, "not one line", `write sudo = true, or a rule like "ALL=(ALL) NOPASSWD: /usr/bin/systemctl"`)
	checkKey      = pattern(`(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)|sk-ssh-ed25519@openssh\.com|sk-ecdsa-sha2-nistp256@openssh\.com) +[A-Za-z0-9+/]+={0,3}( [^\n]*)?\n?`,
		"not an SSH public key", `it is the one line of a .pub file, like "ssh-ed25519 AAAA… me@host"`)
	checkEnvironment = pattern(`[A-Za-z_][A-Za-z0-9_]*=[^\x00]*`, "not NAME=value", "")
	checkNotEmpty    = pattern(`[^\x00]+`, "empty", "")
	checkAbsolute    = pattern(`/[^\x00]*`, "not an absolute path in the image", "")
	checkFileName    = pattern(`[A-Za-z0-9][A-Za-z0-9._+-]{0,199}`, "not a file name (letters, digits, . _ + and -)", "the folder is chosen with output_directory")
	checkShebang     = pattern(`/[^\n\x00]*`, "not the absolute path of an interpreter", `write it like "/bin/bash -e", without #!`)
)

// checkHostname: RFC 1123 section 2.1, with RFC 1035's 63 characters for a
// label; Linux takes 64 in all (HOST_NAME_MAX).
func checkHostname(s string) (string, string) {
	hint := "letters, digits and -, at most 63 in all; not - at an end"
	if len(s) > 63 {
		return fmt.Sprintf("too long for a host name (%d characters)", len(s)), hint
	}
	return hostnameShape(s, hint)
}

var hostnameRE = regexp.MustCompile(`\A[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*\z`)

func hostnameShape(s, hint string) (string, string) {
	if !hostnameRE.MatchString(s) {
		return "not a host name", hint
	}
	return "", ""
}

// oneOf makes a check for a choice.
func oneOf(choices ...string) check {
	return func(s string) (string, string) {
		for _, c := range choices {
			if s == c {
				return "", ""
			}
		}
		hint := ""
		if near := suggest.Nearest(s, choices); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		return "want " + suggest.Listed(choices), hint
	}
}

// Bounds of a disk: an ESP of 512 MiB and a system fit in the least; the most
// is ours, far above what a golden image is.
const (
	minDiskSize = 1 << 30
	maxDiskSize = 64 << 40
)

var sizeRE = regexp.MustCompile(`\A([0-9]{1,15})([bkKmMgGtT]?)((?:iB)?)\z`)

// size gives a disk size in bytes: a number is MiB, a string may have one of
// qemu's suffixes
// (https://developer.hashicorp.com/packer/integrations/hashicorp/qemu/latest/components/builder/qemu, disk_size).
func (r *reader) size(name string, def int64) int64 {
	s, at, ok := r.text(name, "")
	if !ok {
		return def
	}
	const forms = `write it like "10G" or "10240M"; a bare number is MiB`
	m := sizeRE.FindStringSubmatch(s)
	if m == nil || m[3] != "" && (m[2] == "" || m[2] == "b") {
		r.l.errorf(at, forms, "%s %q: not a size", name, shown(s))
		return def
	}
	shift := map[string]uint{"": 20, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40}[strings.ToLower(m[2])]
	n, _ := new(big.Int).SetString(m[1], 10)
	n.Lsh(n, shift)
	switch {
	case n.Cmp(big.NewInt(minDiskSize)) < 0:
		r.l.errorf(at, forms, "%s %q: smaller than 1 GiB", name, shown(s))
	case n.Cmp(big.NewInt(maxDiskSize)) > 0:
		r.l.errorf(at, forms, "%s %q: larger than 64 TiB", name, shown(s))
	case n.Int64()%(1<<20) != 0:
		r.l.errorf(at, forms, "%s %q: not a multiple of 1 MiB", name, shown(s))
	default:
		return n.Int64()
	}
	return def
}

// file gives the path of a host file that must exist.
func (r *reader) file(name string) string {
	s, at, ok := r.text(name, "")
	if ok {
		r.l.exists(item{s, at}, false)
	}
	return s
}

// exists reports a host file that is not there; a folder will do where dirs.
func (l *loader) exists(f item, dirs bool) {
	info, err := os.Stat(l.at(f.text))
	switch {
	case f.text == "":
		l.errorf(f.at, "", "empty path")
	case err != nil:
		hint := ""
		if _, err := os.Stat(l.at(filepath.Join(l.root, f.text))); err == nil && !filepath.IsAbs(f.text) {
			hint = fmt.Sprintf("relative paths start in the working directory; write \"${path.root}/%v\"", shown(f.text))
		}
		l.errorf(f.at, hint, "no such file %q", shown(f.text))
	case info.IsDir() && !dirs:
		l.errorf(f.at, "", "%q is a folder", shown(f.text))
	}
}
