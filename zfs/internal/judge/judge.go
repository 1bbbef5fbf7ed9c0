// Package judge asks tools that nobody here wrote what they think of a pool:
// zdb, which reads pools in user space with OpenZFS's own code, and grub-fstest,
// which reads them with GRUB's.
//
// It is for tests alone: the linter refuses it elsewhere. Every function ends
// the test when the judge has something to say, or is not installed. Images are
// whole vdevs without a partition table; none is written.
//
// Not judged here: what only a kernel does (import, mount, scrub, send), and
// second copies of metadata, which zdb reads only where the first is bad. Debian's
// zdb of OpenZFS 2.1 cannot print files of an exported pool (-O), so contents
// are read by GRUB, and only from pools without features that GRUB lacks, such
// as zstd_compress and large_dnode.
package judge

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// ZDB has zdb examine the pool named pool in the file img: four equal labels, every
// block's checksum, space maps against blocks, and every object, also of the
// pool's own. The test ends at the first complaint.
func ZDB(t testing.TB, img, pool string) {
	t.Helper()
	dir, alone := folder(t, img)
	out, err := zdb(t, "-l", alone)
	if err != nil || !strings.Contains(out, "labels = 0 1 2 3") {
		t.Fatalf("zdb -l %q: %v: want four equal labels, got\n%s", img, err, clip(out))
	}
	// The exit status does not tell of leaks in every version.
	out, err = zdb(t, "-e", "-p", dir, "-bcc", pool)
	if err != nil || !strings.Contains(out, "No leaks") || blockErrors.MatchString(out) {
		t.Fatalf("zdb -bcc %s in %q: %v: want no leaks and no errors, got\n%s", pool, img, err, clip(out))
	}
	out, err = zdb(t, "-e", "-p", dir, "-dddd", pool)
	if bad := complaints(out); err != nil || len(bad) > 0 {
		t.Fatalf("zdb -dddd %s in %q: %v: %d complaints\n%s", pool, img, err, len(bad), clip(strings.Join(bad, "\n")))
	}
}

// GRUBRead is the content of a file as GRUB reads it. The dataset is named
// below the pool ("ROOT/default", or "ROOT/default@golden" with its snapshot),
// path starts with a slash.
func GRUBRead(t testing.TB, img, dataset, path string) []byte {
	t.Helper()
	if !strings.Contains(dataset, "@") {
		dataset += "@" // GRUB's way to say: no snapshot
	}
	name := "(loop0)/" + dataset + path
	var out, stderr bytes.Buffer
	cmd := command(t, "grub-fstest", img, "cat", name)
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("grub-fstest %q cat %q: %v\n%s", img, name, err, clip(stderr.String()))
	}
	return out.Bytes()
}

// blockErrors is what zdb -bcc says of blocks that it cannot read.
var blockErrors = regexp.MustCompile(`Got error|errno`)

// objectErrors is what zdb -dddd says of objects that it cannot make sense of,
// and of feature counts that do not fit.
var objectErrors = regexp.MustCompile(`(?i)mismatch|failed to|unable to|assert|leaked|invalid|corrupt`)

// complaints are the lines of zdb -dddd that are no facts of an object. What
// files and attributes are called starts with a tab.
func complaints(out string) []string {
	var bad []string
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, "\t") && objectErrors.MatchString(line) {
			bad = append(bad, strings.TrimSpace(line))
		}
	}
	return bad
}

// folder gives the image a folder of its own, as zdb -p takes all devices in
// one. It returns the folder and the image's name there.
func folder(t testing.TB, img string) (dir, alone string) {
	t.Helper()
	full, err := filepath.Abs(img)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(full); err != nil {
		t.Fatalf("the pool to judge: %v", err)
	}
	dir = t.TempDir()
	alone = filepath.Join(dir, "pool.img")
	if err := os.Symlink(full, alone); err != nil {
		t.Fatal(err)
	}
	return dir, alone
}

// zdb gives both streams; times are in UTC.
func zdb(t testing.TB, args ...string) (string, error) {
	t.Helper()
	cmd := command(t, "zdb", args...)
	cmd.Env = append(os.Environ(), "TZ=UTC", "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// command finds a judge, also where an ordinary user has no sbin in PATH.
func command(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + name)
	}
	if err != nil {
		t.Fatalf("%v\nhint: make deps", err)
	}
	return exec.CommandContext(t.Context(), path, args...)
}

// clip keeps the two ends of a long text.
func clip(s string) string {
	const most = 4000
	if len(s) <= most {
		return s
	}
	return s[:most/2] + "\n…\n" + s[len(s)-most/2:]
}
