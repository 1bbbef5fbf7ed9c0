package seal

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// without drops lines that begin so, blanks aside.
func without(prefixes ...string) func(string) (string, bool) {
	return func(line string) (string, bool) {
		trimmed := strings.TrimLeft(line, " \t")
		return line, !slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(trimmed, p) })
	}
}

// nothing drops every line.
func nothing(string) (string, bool) { return "", false }

// locked tells a field that no password matches: marks alone (shadow(5)).
func locked(field string) bool { return field != "" && strings.Trim(field, "!*") == "" }

// secretField makes the second field of a line no password: "!" alone, so that
// no hash stays. Locked fields are kept.
func secretField(line string) (string, bool) {
	f := strings.Split(line, ":")
	if len(f) > 1 && !locked(f[1]) {
		f[1] = "!"
	}
	return strings.Join(f, ":"), true
}

// shadowLine also bounds the day of the last change, which tools that know no
// SOURCE_DATE_EPOCH set to the day of the build.
func shadowLine(epoch time.Time) func(string) (string, bool) {
	last := epoch.Unix() / 86400
	return func(line string) (string, bool) {
		line, _ = secretField(line)
		f := strings.Split(line, ":")
		if len(f) > 2 && last > 0 {
			if day, err := strconv.ParseInt(f[2], 10, 64); err == nil && day > last {
				f[2] = strconv.FormatInt(last, 10)
			}
		}
		return strings.Join(f, ":"), true
	}
}

// passwdLine: "x" sends the reader to etc/shadow; an empty field lets anyone
// in (passwd(5)).
func passwdLine(line string) (string, bool) {
	f := strings.Split(line, ":")
	if len(f) > 6 && f[1] != "x" && !locked(f[1]) {
		f[1] = "*"
	}
	return strings.Join(f, ":"), true
}

// groupLine: an empty field is no password (group(5)).
func groupLine(line string) (string, bool) {
	f := strings.Split(line, ":")
	if len(f) > 3 && f[1] != "" && f[1] != "x" && !locked(f[1]) {
		f[1] = "!"
	}
	return strings.Join(f, ":"), true
}

// keysOf keeps the lines of authorized_keys(5) with one of the keys, whatever
// their options and comments, and remarks.
func keysOf(allowed []string) func(string) (string, bool) {
	keys, lines := map[string]bool{}, map[string]bool{}
	for _, line := range allowed {
		lines[strings.TrimSpace(line)] = true // of a kind that is not parsed
		if key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line)); err == nil {
			keys[string(key.Marshal())] = true
		}
	}
	return func(line string) (string, bool) {
		if trimmed := strings.TrimSpace(line); trimmed == "" || strings.HasPrefix(trimmed, "#") || lines[trimmed] {
			return line, true
		}
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		return line, err == nil && keys[string(key.Marshal())]
	}
}

// swapFiles are where installers and guides put them.
var swapFiles = []string{"swapfile", "swap.img", "swap/swapfile", "var/swap", "var/swapfile", "var/swap.img"}

func withoutSwap(line string) (string, bool) {
	f := strings.Fields(line)
	if len(f) < 3 || f[2] != "swap" || !strings.HasPrefix(f[0], "/") {
		return line, true
	}
	return line, !slices.Contains(swapFiles, f[0][1:])
}

// The lines of adjtime(5) that are of one clock: drift, time of the last
// adjustment and its rest, and time of the last calibration.
var (
	driftLine       = regexp.MustCompile(`^[-+0-9.]+ \d+ [-+0-9.]+$`)
	calibrationLine = regexp.MustCompile(`^\d+$`)
)

func noDrift(line string) (string, bool) {
	switch {
	case driftLine.MatchString(line):
		return "0.0 0 0.0", true
	case calibrationLine.MatchString(line):
		return "0", true
	}
	return line, true
}
